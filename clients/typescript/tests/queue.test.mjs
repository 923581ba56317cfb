// The recorder's own bounds and promises, against a daemon in miniature that acknowledges when it is told to.

import assert from "node:assert/strict";
import { mkdtempSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { decode, encode } from "@msgpack/msgpack";
import { until } from "./daemon.mjs";
import { Recorder, withContext } from "../dist/esm/index.js";

/** Welcomes, keeps what comes, and acknowledges up to a number when `ack` is called. */
async function miniature(t) {
  const socket = join(mkdtempSync(join(tmpdir(), "tallyd-mini-")), "s");
  const records = [];
  let link;
  const say = (message) => {
    const body = encode(message);
    const head = Buffer.alloc(4);
    head.writeUInt32BE(body.length);
    link.write(Buffer.concat([head, body]));
  };
  const server = createServer((stream) => {
    link = stream;
    stream.on("error", () => {});
    let bytes = Buffer.alloc(0);
    stream.on("data", (piece) => {
      bytes = Buffer.concat([bytes, piece]);
      while (bytes.length >= 4 && bytes.length >= 4 + bytes.readUInt32BE(0)) {
        const message = decode(bytes.subarray(4, 4 + bytes.readUInt32BE(0)));
        bytes = bytes.subarray(4 + bytes.readUInt32BE(0));
        if (message.hello) say({ welcome: { protocol: 2, last_seq: 0, max_frame_bytes: 1 << 20, max_records: 10_000 } });
        else records.push(...message.records.records);
      }
    });
  });
  await new Promise((resolve) => server.listen(socket, resolve));
  t.after(() => (link?.destroy(), server.close()));
  return { socket, records, ack: (seq) => say({ ack: { seq } }) };
}

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
  const recorder = new Recorder({ socket: "/nonexistent/tallyd.sock", maxQueueBytes: 100_000, onDrop: (record, reason) => told.push([record.model, reason]) });
  const model = "m".repeat(10_000);
  const taken = Array.from({ length: 20 }, () => recorder.record({ provider: "x", model })).filter(Boolean).length;
  assert.equal(taken, 4);
  assert.equal(told.length, 16);
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
  assert.ok(Math.abs(sent[1] - Date.now() * 1000) < 60_000_000, "now, in microseconds");
  assert.deepEqual([sent[0].length, sent[0][6] >> 4, sent[0][8] >> 6], [16, 7, 2], "a UUID of version 7");
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
