// An answer that the application leaves was paid for: it is recorded, whichever way it is left.

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

/** A recorder whose records end in a list. */
function listed() {
  const records = [];
  return { records, recorder: { record: (record) => records.push(record), lookOn: () => () => {} } };
}

/** A real recorder without a daemon: what it has not sent at its end comes to `onDrop`. */
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

test("an answer that is no JSON is one request, recorded when it begins", async () => {
  const { records, recorder } = listed();
  const sound = async () => new Response("RIFF", { headers: { "content-type": "audio/mpeg" } });
  await recordingFetch(recorder, { provider: "openai", fetch: sound })("https://api.openai.com/v1/audio/speech", ask(false));
  assert.deepEqual(records.map(({ status, input_tokens }) => [status, input_tokens]), [[200, undefined]]);
});
