// The end of a process, and bursts: without a daemon, with one in miniature, and with one that is stuck.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { miniature } from "./miniature.mjs";
import { CostTracker, instrument, Recorder, recordingFetch } from "../dist/esm/index.js";

const INDEX = JSON.stringify(new URL("../dist/esm/index.js", import.meta.url).href);
const NOBODY = "/nonexistent/tallyd.sock";

/** Runs a program that has a `recorder`. Resolves to its output and its seconds. */
function program(code, options = { socket: NOBODY }, env = {}) {
  const script = `import { Recorder, CostTracker } from ${INDEX};\nconst recorder = new Recorder(${JSON.stringify(options)});\n${code}`;
  const begun = performance.now();
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], { env: { ...process.env, ...env }, timeout: 60_000 });
  let [out, err] = ["", ""];
  child.stdout.on("data", (piece) => (out += piece));
  child.stderr.on("data", (piece) => (err += piece));
  return new Promise((resolve) => child.on("close", (code) => resolve({ code, out, err, seconds: (performance.now() - begun) / 1000 })));
}

test("process.exit() loses nothing of what a daemon takes", { timeout: 60_000 }, async (t) => {
  for (const before of ["", "await recorder.flush(5_000);", "await new Promise((resolve) => setTimeout(resolve, 1));"]) {
    const daemon = await miniature(t, { acks: true });
    const { code, err } = await program(`
      recorder.record({ provider: "x" });
      ${before}
      for (let at = 0; at < 2_000; at += 1) recorder.record({ provider: "x", request_id: String(at) });
      process.exit(3);`, { socket: daemon.socket });
    assert.deepEqual([code, err], [3, ""], before);
    assert.equal(new Set(daemon.records.map((record) => record[7])).size, 2_001, before);
  }
});

test("without a daemon a process ends in its time, and tells what it lost", { timeout: 120_000 }, async () => {
  const record = 'for (let at = 0; at < 7; at += 1) recorder.record({ provider: "x" });';
  const [own, exits, waits, quiet] = await Promise.all([
    program(record), program(`${record} process.exit(0);`), program('await recorder.recordAndWait({ provider: "x" });'),
    program(record, { socket: NOBODY, quiet: true, exitTimeout: 100 }),
  ]);
  for (const { err, seconds } of [own, exits]) {
    assert.match(err, /7 records were not delivered before the process ended, and are lost: connect ENOENT \/nonexistent\/tallyd\.sock/);
    // Five seconds of its own; a loaded machine may need the rest to start Node.
    assert.ok(seconds < 25, `${seconds} s`);
  }
  assert.equal(own.code, 0);
  assert.match(own.err, /no connection to unix:\/nonexistent\/tallyd\.sock, records wait/);
  assert.ok(own.seconds > 5, `${own.seconds} s: it waits for a daemon that may come back`);
  assert.match(waits.err, /1 record was not delivered before the process ended, and is lost/);
  assert.equal(quiet.err, "");
});

test("a daemon that says nothing holds no process", { timeout: 120_000 }, async (t) => {
  const socket = join(mkdtempSync(join(tmpdir(), "tallyd-stuck-")), "s");
  const links = [];
  const server = createServer((link) => links.push(link.on("error", () => {}))).listen(socket);
  t.after(() => (server.close(), links.forEach((link) => link.destroy())));
  const record = 'recorder.record({ provider: "x" });';
  for (const { err, seconds } of await Promise.all([program(record, { socket }), program(`${record} process.exit(0);`, { socket })])) {
    assert.match(err, /1 record was not delivered before the process ended, and is lost/);
    assert.ok(seconds < 25, `${seconds} s`);
  }
});

test("a burst of 100,000 beside a healthy daemon loses nothing, and one that is larger can be awaited", { timeout: 120_000 }, async (t) => {
  const daemon = await miniature(t, { acks: true, keep: false });
  const burst = new Recorder({ socket: daemon.socket });
  const record = { provider: "claude", model: "claude-sonnet-4-5", endpoint: "/api/chat", user_id: "user-42", input_tokens: 1200, output_tokens: 350 };
  for (let at = 0; at < 100_000; at += 1) burst.record(record);
  assert.equal(await burst.close(60_000), 0);
  assert.deepEqual([burst.stats.acked, burst.stats.dropped], [100_000, 0]);
  const awaited = new Recorder({ socket: daemon.socket, maxQueueBytes: 100_000, maxBytes: 10_000 });
  for (let at = 0; at < 20_000; at += 1) {
    await awaited.room();
    assert.ok(awaited.record(record));
  }
  assert.equal(await awaited.close(60_000), 0);
  assert.deepEqual([awaited.stats.acked, awaited.stats.dropped], [20_000, 0]);
});

test("each kind of loss is told once, and nothing when it is quiet", async () => {
  const { err, out } = await program(`
    for (let at = 0; at < 200; at += 1) recorder.record({ provider: "x" });
    recorder.record({ provider: "x", input_tokens: 0.5 });
    await new Promise((resolve) => setTimeout(resolve, 100));
    await recorder.close(10);
    console.log(recorder.stats.dropped);`, { socket: NOBODY, maxQueueBytes: 10_000, maxBytes: 100 });
  assert.equal(out, "201\n");
  assert.equal(err.match(/queue is full/g).length, 1, err);
  assert.equal(err.match(/no connection to/g).length, 1, err);
  assert.equal(err.match(/were not delivered/g).length, 1, err);
  const quiet = await program('for (let at = 0; at < 200; at += 1) recorder.record({ provider: "x" }); await recorder.close(10);', { socket: NOBODY, quiet: true, maxQueueBytes: 1_000 });
  assert.equal(quiet.err, "");
});

test("switched off, nothing is kept and nothing is opened", async () => {
  const { out, err, seconds } = await program(`
    const tracker = new CostTracker(50);
    tracker.setDailyBudget(3);
    console.log(recorder.record({ provider: "x" }), recorder.inFlight, await recorder.flush(), await tracker.recordRentCast("/avm"), (await recorder.recordAndWait({ provider: "x" })).id.length, await recorder.close());`,
  { socket: NOBODY }, { TALLYD_DISABLED: "1", TALLYD_HTTP: "http://127.0.0.1:9" });
  assert.deepEqual([out, err], ["true 0 0 0.2 36 0\n", ""]);
  assert.ok(seconds < 20);
  const off = new Recorder({ socket: NOBODY, disabled: true });
  const answer = new Response("{}");
  assert.equal(await recordingFetch(off, { provider: "rentcast", fetch: async () => answer })("https://x.invalid/"), answer);
  assert.equal(off.inFlight, 0);
});

test("fake timers neither stop the recorder nor move its records", { timeout: 60_000 }, async (t) => {
  const daemon = await miniature(t, { acks: true });
  // In a process of its own: with fake timers the test runner itself would stop reporting.
  const { code, out, err } = await program(`
    import FakeTimers from ${JSON.stringify(import.meta.resolve("@sinonjs/fake-timers"))};
    const clock = FakeTimers.install({ now: 1_000 });
    const late = new Recorder({ socket: ${JSON.stringify(daemon.socket)} });
    late.record({ provider: "x" });
    await late.recordAndWait({ provider: "x", occurred_at: new Date(1_600_000_000_000) });
    late.record({ provider: "x" });
    const left = [await late.flush(30_000), await late.close(30_000)];
    clock.uninstall();
    console.log(...left);`, { disabled: true });
  assert.deepEqual([code, out, err], [0, "0 0\n", ""]);
  assert.equal(daemon.records.length, 3);
  assert.ok(Math.abs(Number(daemon.records[0][1]) / 1000 - Date.now()) < 60_000);
  assert.equal(Number(daemon.records[1][1]), 1_600_000_000_000_000);
});

test("a client of a minified SDK is known by what it has, and instrumented once", async (t) => {
  const daemon = await miniature(t, { acks: true });
  const recorder = new Recorder({ socket: daemon.socket });
  class a { baseURL = "http://proxy.internal/"; messages = {}; completions = {}; fetch = async () => Response.json({ model: "claude-sonnet-4-5", usage: { input_tokens: 3, output_tokens: 4 } }); }
  class b { baseURL = "http://proxy.internal/"; chat = {}; responses = {}; fetch = async () => Response.json({ model: "gpt-4o", usage: { prompt_tokens: 3, completion_tokens: 4, total_tokens: 7 } }); }
  const [claude, gpt] = [instrument(recorder, new a()), instrument(recorder, new b())];
  instrument(recorder, claude);
  await (await claude.fetch("http://proxy.internal/v1/messages", { method: "POST", body: "{}" })).json();
  const outer = recordingFetch(recorder, { provider: "openai", fetch: gpt.fetch });
  await (await outer("http://proxy.internal/v1/chat/completions", { method: "POST", body: "{}" })).json();
  assert.equal(await recorder.close(30_000), 0);
  assert.deepEqual(daemon.records.map((record) => record[2]), ["claude", "openai"]);
});

test("what instrument() records is not recorded again by a tracker", async (t) => {
  const daemon = await miniature(t, { acks: true, costs: "1.25" });
  const tracker = new CostTracker({ socket: daemon.socket, http: "http://127.0.0.1:9", costTimeout: 30_000 });
  // Without a connection the tracker does not wait for the daemon's cost.
  assert.ok(await tracker.recorder.ready(30_000));
  const warnings = [];
  const heard = (warning) => warnings.push(warning.message);
  process.on("warning", heard);
  t.after(() => process.off("warning", heard));
  class Client { baseURL = "https://api.anthropic.com/"; messages = {}; fetch = async () => Response.json({ model: "claude-sonnet-4-5-20250929", usage: { input_tokens: 3, cache_read_input_tokens: 5, output_tokens: 4 } }); }
  const client = instrument(tracker.recorder, new Client());
  const rentcast = recordingFetch(tracker.recorder, { provider: "rentcast", fetch: async () => Response.json({}) });
  await (await client.fetch("https://api.anthropic.com/v1/messages", { method: "POST", body: "{}" })).json();
  assert.equal(await tracker.recordClaude("claude-sonnet-4-5", 3, 4, "/api/chat", "u1"), 1.25);
  await rentcast("https://api.rentcast.io/v1/avm/value");
  assert.equal(await tracker.recordRentCast("/avm/value"), 1.25);
  assert.equal(daemon.records.length, 2);
  await tracker.recordClaude("claude-sonnet-4-5", 3, 4);
  await tracker.recordRentCast("/avm/value");
  assert.equal(daemon.records.length, 4, "these are calls of their own");
  const elsewhere = await miniature(t, { acks: true });
  const other = new Recorder({ socket: elsewhere.socket });
  await (await instrument(other, new Client()).fetch("https://api.anthropic.com/v1/messages", { method: "POST", body: "{}" })).json();
  await tracker.recordClaude("claude-sonnet-4-5", 3, 4);
  assert.equal(await other.close(30_000), 0);
  assert.deepEqual([elsewhere.records.length, daemon.records.length], [1, 5], "the tracker's daemon was not told of it");
  assert.equal(await tracker.close(30_000), 0);
  assert.equal(warnings.filter((text) => text.includes("not counted again")).length, 1);
});
