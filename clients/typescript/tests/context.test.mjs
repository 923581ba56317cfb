// A record's own fields and those of its context, against the daemon's half of the protocol, which this file plays.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createServer } from "node:net";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { decode, encode } from "@msgpack/msgpack";
import { FIELDS } from "../dist/esm/fields.js";
import { CostTracker, Recorder, tags, withContext } from "../dist/esm/index.js";

const socket = join(mkdtempSync(join(tmpdir(), "tallyd-played-")), "s");
let server;
const links = new Set();
let records = [];

function framed(message) {
  const body = encode(message);
  const frame = Buffer.alloc(4 + body.length);
  frame.writeUInt32BE(body.length);
  frame.set(body, 4);
  return frame;
}

/** Welcomes each client, keeps its records, and acknowledges them with a cost of 0.5 each. */
function play(link) {
  let bytes = Buffer.alloc(0);
  // The link of a recorder that no test closes would keep this process alive.
  links.add(link);
  link.on("error", () => {});
  link.on("data", (piece) => {
    bytes = Buffer.concat([bytes, piece]);
    while (bytes.length >= 4 && bytes.length >= 4 + bytes.readUInt32BE(0)) {
      const message = decode(bytes.subarray(4, 4 + bytes.readUInt32BE(0)));
      bytes = bytes.subarray(4 + bytes.readUInt32BE(0));
      if (message.hello) link.write(framed({ welcome: { protocol: 2, last_seq: 0, max_frame_bytes: 1 << 20, max_records: 16384 } }));
      else {
        const { first_seq, records: taken } = message.records;
        records.push(...taken);
        link.write(framed({ ack: { seq: first_seq + taken.length - 1, costs: taken.map(() => "0.5"), rejected: [] } }));
      }
    }
  });
}

before(async () => {
  server = createServer(play).listen(socket);
  await new Promise((resolve) => server.once("listening", resolve));
});
beforeEach(() => { records = []; });
after(() => {
  server.close();
  for (const link of links) link.destroy();
});

const [ENDPOINT, USER] = [4, 5];

test("an id that the caller gives is the one that is sent and told", async () => {
  const recorder = new Recorder({ socket });
  const id = "0190f3a4-5b6c-7d8e-9f01-23456789abcd";
  assert.equal((await recorder.recordAndWait({ provider: "x", id })).id, id);
  assert.equal((await recorder.recordAndWait({ provider: "x", id: id.toUpperCase() })).id, id);
  assert.equal((await recorder.recordAndWait({ provider: "x", id: Buffer.from(id.replaceAll("-", ""), "hex") })).id, id);
  for (const record of records) assert.equal(Buffer.from(record[0]).toString("hex"), id.replaceAll("-", ""));
  const made = (await recorder.recordAndWait({ provider: "x" })).id;
  // The byte before the id marks it as made by the client.
  assert.equal(Buffer.from(records.at(-1)[0]).toString("hex"), `01${made.replaceAll("-", "")}`);
  await assert.rejects(recorder.recordAndWait({ provider: "x", id: "none" }), /UUID/);
  assert.equal(recorder.stats.dropped, 1, "counted like any other that cannot be written");
  await recorder.close();
});

test("a field that is left undefined keeps the context's, one that is said replaces it", async () => {
  const recorder = new Recorder({ socket });
  await withContext({ user_id: "u1", endpoint: "/route" }, async () => {
    await recorder.recordAndWait({ provider: "x", user_id: undefined });
    await recorder.recordAndWait({ provider: "x", user_id: "u2", endpoint: "" });
  });
  assert.deepEqual(records.map((record) => [record[ENDPOINT], record[USER]]), [["/route", "u1"], ["", "u2"]]);
  await recorder.close();
});

test("tags of the recorder, of contexts and of the record come together, the inner ones first", async () => {
  const recorder = new Recorder({ socket, tags: { environment: "test", team: "none" } });
  await tags({ team: "search", feature: "summary" }, async () => {
    await tags({ feature: "index" }, () => recorder.recordAndWait({ provider: "x", tags: { team: "ads", build: 7, none: undefined } }));
    await recorder.recordAndWait({ provider: "x" });
  });
  await recorder.recordAndWait({ provider: "x", tags: {} });
  const { length } = FIELDS;
  assert.deepEqual(records.map((record) => [record.length, record[length - 1]]), [
    [length, { build: "7", environment: "test", feature: "index", team: "ads" }],
    [length, { environment: "test", feature: "summary", team: "search" }],
    [length, { environment: "test", team: "none" }],
  ]);
  await recorder.close();
  const plain = new Recorder({ socket });
  await plain.recordAndWait({ provider: "x" });
  assert.equal(records.at(-1).length, 3, "nothing is said of tags that are not there");
  await plain.close();
});

test("a tracker that is told neither endpoint nor user takes the request's", async () => {
  const tracker = new CostTracker({ socket });
  await withContext({ user_id: "u1", endpoint: "/route" }, async () => {
    assert.equal(await tracker.recordClaude("m", 1, 1), 0.5);
    assert.equal(await tracker.recordRentCast("/avm"), 0.5);
    assert.equal(await tracker.recordRentCast("/avm", "u2"), 0.5);
  });
  assert.deepEqual(records.map((record) => [record[ENDPOINT], record[USER]]), [["/route", "u1"], ["/avm", "u1"], ["/avm", "u2"]]);
  await tracker.close();
});

test("on SIGTERM what is on its way is made durable, and the process ends as the signal would have ended it", { timeout: 20_000 }, async () => {
  const script = `import { closeOnSignal, Recorder } from ${JSON.stringify(new URL("../dist/esm/index.js", import.meta.url).href)};
    const recorder = new Recorder({ socket: ${JSON.stringify(socket)}, gather: 60_000 });
    closeOnSignal(recorder);
    setInterval(() => {}, 1_000);
    recorder.record({ provider: "x", user_id: "last" });
    console.log("recorded");`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: ["ignore", "pipe", "inherit"] });
  const ended = new Promise((resolve) => child.once("exit", (code, signal) => resolve([code, signal])));
  await Promise.race([new Promise((resolve) => child.stdout.once("data", resolve)), ended]);
  child.kill("SIGTERM");
  assert.deepEqual(await ended, [null, "SIGTERM"]);
  assert.deepEqual(records.map((record) => record[USER]), ["last"]);
});
