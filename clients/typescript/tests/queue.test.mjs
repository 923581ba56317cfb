// The recorder's bounds and promises, against a miniature daemon that acknowledges on command.

import assert from "node:assert/strict";
import { test } from "node:test";
import { until } from "./daemon.mjs";
import { miniature } from "./miniature.mjs";
import { Recorder, withContext } from "../dist/esm/index.js";

test("flush() waits for what was recorded before it, and for nothing after", { timeout: 60_000 }, async (t) => {
  const daemon = await miniature(t);
  const recorder = new Recorder({ socket: daemon.socket, gather: 1 });
  for (let at = 0; at < 3; at += 1) recorder.record({ provider: "x", request_id: `before ${at}` });
  let flushed;
  const flushing = recorder.flush(2 ** 30).then((left) => (flushed = left));
  await until("they are sent", () => daemon.records.length === 3);
  recorder.record({ provider: "x", request_id: "after" });
  recorder.record({ provider: "x", input_tokens: 0.5, request_id: "cannot be written" });
  await until("the later one is sent", () => daemon.records.length === 4);
  assert.equal(flushed, undefined, "nothing is durable yet");
  daemon.ack(3);
  await until("the flush is done", () => flushed !== undefined);
  assert.equal(await flushing, 0);
  assert.equal(recorder.inFlight, 1, "the one that came later is not waited for");
  assert.equal(await recorder.flush(1), 1);
  daemon.ack(4);
  assert.equal(await recorder.close(30_000), 0);
});

test("a record that is waited for is not gathered, and takes along what was", async (t) => {
  const daemon = await miniature(t);
  const recorder = new Recorder({ socket: daemon.socket, gather: 2 ** 30 });
  recorder.record({ provider: "x", request_id: "gathered" });
  const durable = recorder.recordAndWait({ provider: "x", request_id: "waited for" });
  await until("both are sent", () => daemon.records.length === 2);
  daemon.ack(2);
  assert.match((await durable).id, /^[0-9a-f-]{36}$/);
  assert.equal(await recorder.close(30_000), 0);
});

test("the queue is bounded in bytes, and what does not fit is told", () => {
  const told = [];
  const recorder = new Recorder({ socket: "/nonexistent/tallyd.sock", maxQueueBytes: 100_000, maxBytes: 1, onDrop: (record, reason) => told.push([record.model, reason]) });
  const model = "m".repeat(10_000);
  const taken = Array.from({ length: 20 }, () => recorder.record({ provider: "x", model })).filter(Boolean).length;
  // Four in the queue, and the one that was encoded to make room.
  assert.equal(taken, 5);
  assert.equal(told.length, 15);
  assert.deepEqual([told[0][0], told[0][1].includes("queue is full")], [model, true]);
  return recorder.close(1);
});

test("records within the bounds' bytes are not refused again once they have been sent", { timeout: 60_000 }, async (t) => {
  const daemon = await miniature(t);
  const recorder = new Recorder({ socket: daemon.socket, gather: 1, maxQueueBytes: 5_000 });
  for (let at = 0; at < 100; at += 1) {
    await until("there is room", () => recorder.record({ provider: "x", metadata: { at } }));
  }
  await until("all are sent", () => daemon.records.length === 100);
  daemon.ack(100);
  assert.equal(await recorder.close(30_000), 0);
});

test("a record is what it was when it was recorded", { timeout: 60_000 }, async (t) => {
  const daemon = await miniature(t);
  const recorder = new Recorder({ socket: daemon.socket, app: "web", gather: 1 });
  const record = { provider: "x", metadata: { a: 1 }, extra_units: { image: 1 }, user_id: undefined };
  withContext({ user_id: "u1", endpoint: "/e" }, () => {
    recorder.record(record);
    recorder.record({ provider: "x", app: "own", endpoint: "/own" });
  });
  Object.assign(record, { provider: "y" });
  record.metadata.a = 2;
  record.extra_units.image = 2;
  await until("it is sent", () => daemon.records.length === 2);
  const [sent, other] = daemon.records;
  assert.deepEqual([other[4], other[5], other[6]], ["/own", "u1", "own"], "what the record says itself holds");
  assert.deepEqual([sent[2], sent[4], sent[5], sent[6], sent[14], sent[19]], ["x", "/e", "u1", "web", { image: "1" }, '{"a":1}']);
  assert.ok(Math.abs(Number(sent[1]) - Date.now() * 1000) < 60_000_000, "now, in microseconds");
  assert.deepEqual([sent[0].length, sent[0][0]], [17, 1], "an id that the client has made");
  assert.deepEqual([sent[0][7] >> 4, sent[0][9] >> 6], [7, 2], "a UUID of version 7");
  daemon.ack(2);
  await recorder.close(30_000);
});

test("nothing that a record does throws into the application", () => {
  const told = [];
  const recorder = new Recorder({ socket: "/nonexistent/tallyd.sock", onDrop: (_record, reason) => told.push(reason) });
  const circle = {};
  circle.circle = circle;
  assert.equal(recorder.record({ provider: "x", metadata: circle }), false);
  assert.equal(recorder.record({ provider: "x", get model() { throw new Error("no"); } }), false);
  assert.equal(recorder.record(null), true, "dropped when it is written, or refused by the daemon");
  assert.equal(told.length, 2);
  return recorder.close(1);
});
