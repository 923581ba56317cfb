// An answer that the application abandons was paid for: it is recorded, in each of the ways to abandon it.

import assert from "node:assert/strict";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { after, before, test } from "node:test";
import { until } from "./daemon.mjs";
import { Recorder, recordingFetch } from "../dist/esm/index.js";
import { startVendors } from "./vendors.mjs";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc");

let vendors;
before(async () => { vendors = await startVendors(); });
after(async () => { await vendors?.stop(); });

/** A recorder that puts records into a list. */
function listed() {
  const records = [];
  return { records, recorder: { record: (record) => records.push(record), lookOn: () => () => {} } };
}

/** A real recorder without a daemon: `onDrop` gets the records that were not sent. */
function alone() {
  const records = [];
  const recorder = new Recorder({ socket: "/nonexistent/tallyd.sock", maxBytes: 0, onDrop: (record) => records.push(record) });
  return { records, recorder };
}

const ask = (stream) => ({ method: "POST", body: JSON.stringify({ model: "claude-sonnet-4-5", max_tokens: stream ? 13 : 100, stream, messages: [] }) });

test("a JSON answer that nobody reads is recorded with all its usage", async () => {
  const { records, recorder } = listed();
  const fetching = recordingFetch(recorder, { provider: "claude" });
  const answer = await fetching(`${vendors.url}/v1/messages`, ask(false));
  assert.equal(answer.status, 200);
  await until("it is recorded", () => records.length === 1);
  assert.deepEqual([records[0].status, records[0].input_tokens, records[0].output_tokens], [200, 1000, 200]);
  assert.equal(answer.bodyUsed, false, "and it can still be read");
  assert.equal((await answer.json()).usage.output_tokens, 200);
  assert.equal(records.length, 1);
});

test("a stream that nobody reads is recorded when it is collected, and counted", async () => {
  const recorder = new Recorder({ socket: "/nonexistent/tallyd.sock" });
  await recordingFetch(recorder, { provider: "claude" })(`${vendors.url}/v1/messages`, ask(true));
  await until("the garbage collector has it", () => (collect(), recorder.stats.recorded === 1));
  assert.equal(recorder.stats.unread, 1);
  await recorder.close(1);
});

test("a stream that is open at the end is recorded by close()", async () => {
  const { records, recorder } = alone();
  const answer = await recordingFetch(recorder, { provider: "claude" })(`${vendors.url}/v1/messages`, ask(true));
  const reader = answer.body.getReader();
  await reader.read();
  assert.equal(recorder.stats.recorded, 0);
  await recorder.close(1);
  assert.deepEqual([recorder.stats.recorded, recorder.stats.dropped, recorder.stats.unread], [1, 1, 1]);
  assert.deepEqual(records.map(({ status }) => status).filter((status) => status !== 499), []);
  await reader.cancel();
  assert.equal(recorder.stats.recorded, 1, "once");
});

test("an answer that tells no usage is recorded when it begins, and is unpriced", async () => {
  const { records, recorder } = listed();
  const sound = async () => new Response("RIFF", { headers: { "content-type": "audio/mpeg" } });
  await recordingFetch(recorder, { provider: "openai", fetch: sound })("https://api.openai.com/v1/audio/speech", ask(false));
  assert.deepEqual(records.map(({ status, input_tokens, metadata }) => [status, input_tokens, metadata]), [[200, undefined, { "tallyd.not_understood": "usage" }]]);
});

test("an early-left stream is marked, beside the application's own metadata", async () => {
  const { records, recorder } = listed();
  const fetching = recordingFetch(recorder, { provider: "claude", fields: { metadata: { job: 7 } } });
  const answer = await fetching(`${vendors.url}/v1/messages`, ask(true));
  const reader = answer.body.getReader();
  await reader.read();
  await reader.cancel();
  await until("it is recorded", () => records.length === 1);
  const { status, input_tokens, metadata } = records[0];
  // The first piece may end before the first event with usage.
  assert.equal(status, 499);
  assert.deepEqual(metadata, input_tokens === undefined ? { job: 7, incomplete: true, "tallyd.not_understood": "usage" } : { job: 7, incomplete: true });
});

test("a call that was sent and got no answer is unpriced; one that never left is not", async () => {
  const { records, recorder } = listed();
  const failing = (code) => async () => { throw Object.assign(new TypeError("fetch failed"), { cause: { code } }); };
  for (const code of ["ECONNREFUSED", "UND_ERR_HEADERS_TIMEOUT"]) {
    const fetching = recordingFetch(recorder, { provider: "openai", fetch: failing(code) });
    await assert.rejects(fetching("https://api.openai.com/v1/responses", ask(false)));
  }
  assert.deepEqual(records.map(({ status, metadata }) => [status, metadata]), [[599, undefined], [599, { "tallyd.not_understood": "usage" }]]);
});

test("a stream that breaks off politely is incomplete", async () => {
  const { records, recorder } = listed();
  const start = { type: "message_start", message: { model: "m", usage: { input_tokens: 9, output_tokens: 1 } } };
  const cut = async () => new Response(`data: ${JSON.stringify(start)}\n\n`, { headers: { "content-type": "text/event-stream" } });
  await (await recordingFetch(recorder, { provider: "claude", fetch: cut })("https://api.anthropic.com/v1/messages", ask(true))).text();
  assert.deepEqual(records.map(({ status, input_tokens, metadata }) => [status, input_tokens, metadata]), [[599, 9, { incomplete: true }]]);
});

test("the host tells the vendor, and the path how it tells usage", async () => {
  const { records, recorder } = listed();
  const answering = async (url) => new Response(JSON.stringify(url.includes("googleapis") ? { modelVersion: "g", usageMetadata: { promptTokenCount: 3, totalTokenCount: 3 } } : url.endsWith("messages") ? { model: "c", usage: { input_tokens: 3, output_tokens: 0, cost: 0.5 } } : { model: "o", usage: { prompt_tokens: 3, completion_tokens: 0, cost: 0.5 } }), { headers: { "content-type": "application/json" } });
  const fetching = recordingFetch(recorder, { fetch: answering });
  const post = { method: "POST", body: "{}" };
  for (const url of [
    "https://openrouter.ai/api/v1/chat/completions", "https://openrouter.ai/api/v1/messages", "https://x.openai.azure.com/openai/deployments/d/chat/completions",
    "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent", "https://europe-west1-aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/google/models/gemini-2.5-pro:generateContent",
  ]) await (await fetching(url, post)).text();
  await (await fetching("https://example.com/v1/messages", post)).text();
  await (await fetching("https://openrouter.ai/api/v1/models")).text();
  assert.deepEqual(records.map(({ provider, model, input_tokens, cost_usd }) => [provider, model, input_tokens, cost_usd]), [
    ["openrouter", "o", 3, 0.5], ["openrouter", "c", 3, 0.5], ["azure", "o", 3, 0.5], ["google", "g", 3, undefined], ["vertex", "g", 3, undefined],
  ]);
});
