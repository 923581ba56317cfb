// The vendors' own SDKs, instrumented: their answers are unchanged, and each call's usage is recorded.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import { startDaemon, until } from "./daemon.mjs";
import { instrument, Recorder, recordingFetch, withContext } from "../dist/esm/index.js";
import { startVendors } from "./vendors.mjs";

let daemon, vendors, recorder, anthropic, openai;
before(async () => {
  [daemon, vendors] = await Promise.all([startDaemon(), startVendors()]);
  recorder = new Recorder({ socket: daemon.socket, app: "sdk" });
  anthropic = instrument(recorder, new Anthropic({ apiKey: "k", baseURL: vendors.url, maxRetries: 1 }));
  openai = instrument(recorder, new OpenAI({ apiKey: "k", baseURL: `${vendors.url}/v1`, maxRetries: 0 }));
}, { timeout: 60_000 });
after(async () => {
  await recorder?.close();
  await vendors?.stop();
  await daemon?.stop();
});

const COLUMNS = "provider, model, endpoint, user_id, request_id, input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, requests, extra_units, service_tier, status";
let known = 0;
/** The calls that were recorded since the last call of this function, as text. */
async function recorded(count) {
  assert.equal(await recorder.flush(), 0);
  known += count;
  await until(`${known} are in PostgreSQL`, () => Number(daemon.sql("SELECT count(*) FROM api_usage_log")) >= known);
  const rows = daemon.sql(`SELECT ${COLUMNS} FROM api_usage_log ORDER BY occurred_at DESC, id DESC LIMIT ${count}`).split("\n").reverse();
  assert.equal(Number(daemon.sql("SELECT count(*) FROM api_usage_log")), known);
  return rows;
}
const CLAUDE = "claude|claude-sonnet-4-5|/v1/messages|u7|req_anthropic_1|1000|200|5000|200|100|1|{\"web_search\": \"2\"}|standard|200";
const ask = { model: "claude-sonnet-4-5", max_tokens: 100, messages: [{ role: "user", content: "Hello" }] };
const as = (user_id, task) => withContext({ user_id }, task);

test("a message, plain", async () => {
  const message = await as("u7", () => anthropic.messages.create(ask));
  assert.deepEqual([message.content[0].text, message.usage.cache_read_input_tokens], ["Hello there", 5000]);
  const { data, response, request_id } = await as("u7", () => anthropic.messages.create(ask).withResponse());
  assert.deepEqual([data.id, response.status, request_id], ["msg_1", 200, "req_anthropic_1"]);
  assert.deepEqual(await recorded(2), [CLAUDE, CLAUDE]);
  assert.equal(daemon.sql("SELECT count(*) FROM api_usage_log WHERE latency_ms IS NULL OR cost_usd IS NULL"), "0");
});

test("a message, streamed", async () => {
  const events = [];
  for await (const event of await as("u7", () => anthropic.messages.create({ ...ask, stream: true }))) events.push(event.type);
  assert.deepEqual([events[0], events.at(-1)], ["message_start", "message_stop"]);
  const final = await as("u7", () => anthropic.messages.stream(ask).finalMessage());
  assert.deepEqual([final.content[0].text, final.usage.output_tokens], ["Hello there", 200]);
  assert.deepEqual(await recorded(2), [CLAUDE, CLAUDE]);
});

test("a stream that is left is recorded with what it had used", async () => {
  const stream = await as("u7", () => anthropic.messages.create({ ...ask, max_tokens: 13, stream: true }));
  for await (const event of stream) if (event.type === "content_block_delta") break;
  const [row] = await recorded(1);
  assert.match(row, /^claude\|claude-sonnet-4-5\|\/v1\/messages\|u7\|req_anthropic_1\|1000\|1\|5000\|.*\|499$/);
  assert.equal(daemon.sql("SELECT metadata FROM api_usage_log WHERE status = 499"), '{"incomplete": true}');
});

test("each attempt counts: one that failed, and the one that the SDK made again", async () => {
  vendors.served.fail = 1;
  await as("u7", () => anthropic.messages.create(ask));
  const rows = await recorded(2);
  assert.match(rows[0], /^claude\|claude-sonnet-4-5\|\/v1\/messages\|u7\|req_failed\|0\|0\|0\|0\|0\|0\|.*\|529$/);
  assert.equal(rows[1], CLAUDE);
});

test("a vendor that is away is an error like before, and recorded", async () => {
  const away = instrument(recorder, new Anthropic({ apiKey: "k", baseURL: "http://127.0.0.1:9", maxRetries: 0 }));
  await assert.rejects(away.messages.create(ask), { name: /Error/ });
  const control = new AbortController();
  control.abort();
  await assert.rejects(anthropic.messages.create(ask, { signal: control.signal }));
  const [row] = await recorded(1);
  assert.match(row, /\|599$/);
});

test("a chat of OpenAI's: cached tokens are taken out of the input, and a stream shows nothing that was not asked for", async () => {
  const body = { model: "gpt-4o", messages: [{ role: "user", content: "Hi" }] };
  const row = "openai|gpt-4o|/v1/chat/completions|u8|req_openai_1|500|50|400|0|0|1||standard|200";
  const plain = await as("u8", () => openai.chat.completions.create(body));
  assert.equal(plain.usage.prompt_tokens, 900);
  const chunks = [];
  for await (const chunk of await as("u8", () => openai.chat.completions.create({ ...body, stream: true }))) chunks.push(chunk);
  assert.equal(chunks.length, 3);
  assert.ok(chunks.every((chunk) => chunk.choices.length === 1), "the usage was not asked for");
  const asked = [];
  for await (const chunk of await as("u8", () => openai.chat.completions.create({ ...body, stream: true, stream_options: { include_usage: true } }))) asked.push(chunk);
  assert.equal(asked.at(-1).usage.prompt_tokens, 900, "here it was");
  assert.deepEqual(await recorded(3), [row, row, row]);
});

test("a response of OpenAI's, plain and streamed", async () => {
  const body = { model: "gpt-4o", input: "Hi" };
  await as("u8", () => openai.responses.create(body));
  for await (const _event of await as("u8", () => openai.responses.create({ ...body, stream: true })));
  const row = "openai|gpt-4o|/v1/responses|u8||600|30|100|0|0|1||standard|200";
  assert.deepEqual(await recorded(2), [row, row]);
});

test("what is not billed by the call is not recorded", async () => {
  await anthropic.models.list();
  await anthropic.messages.countTokens({ model: "claude-sonnet-4-5", messages: ask.messages });
  await anthropic.messages.batches.create({ requests: [{ custom_id: "a", params: ask }] });
  await anthropic.messages.batches.retrieve("batch_1");
  await openai.models.list();
  await openai.batches.create({ input_file_id: "f", endpoint: "/v1/responses", completion_window: "24h" });
  await openai.batches.retrieve("batch_1");
  await openai.moderations.create({ input: "Hi" });
  await recordingFetch(recorder, { provider: "openai" })("data:,");
  await recorded(0);
});

test("a paid answer without usage is unpriced, and says so", async () => {
  await as("u8", () => openai.images.generate({ model: "dall-e-3", prompt: "a boat" }));
  const [row] = await recorded(1);
  assert.match(row, /^openai\|dall-e-3\|\/v1\/images\/generations\|u8\|.*\|200$/);
  assert.equal(daemon.sql("SELECT cost_usd IS NULL, metadata ->> 'tallyd.not_understood' FROM api_usage_log WHERE model = 'dall-e-3'"), "t|usage");
});

test("Gemini, streamed as events and as an array", async () => {
  const google = recordingFetch(recorder, { provider: "google" });
  const post = { method: "POST", body: JSON.stringify({ contents: [] }) };
  for (const query of ["?alt=sse", ""]) await (await as("u8", () => google(`${vendors.url}/v1beta/models/gemini-2.5-flash:streamGenerateContent${query}`, post))).text();
  for (const row of await recorded(2)) assert.match(row, /^google\|gemini-2.5-flash\|.*\|u8\|\|10\|9\|0\|0\|0\|1\|\|standard\|200$/);
});

test("an API that is paid by the request", async () => {
  const rentcast = recordingFetch(recorder, { provider: "rentcast" });
  const answer = await as("u9", () => rentcast(`${vendors.url}/v1/avm/value?address=1+Main+St`, { headers: { "X-Api-Key": "k" } }));
  assert.equal((await answer.json()).price, 250_000);
  vendors.served.fail = 1;
  assert.equal((await rentcast(`${vendors.url}/v1/properties`)).status, 529);
  const rows = await recorded(2);
  assert.match(rows[0], /^rentcast\|\|\/v1\/avm\/value\|u9\|\|0\|0\|0\|0\|0\|1\|.*\|200$/);
  assert.match(rows[1], /^rentcast\|\|\/v1\/properties\|\|req_failed\|0\|0\|0\|0\|0\|0\|.*\|529$/);
  const others = recordingFetch(recorder);
  await others(`${vendors.url}/v1/free`);
  await recorded(0);
});

test("what is no SDK's client is told", () => {
  assert.throws(() => instrument(recorder, { baseURL: "http://x" }), /no client/);
});
