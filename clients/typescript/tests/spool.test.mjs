// A spool: its format, its bounds, and an application that is killed again and again. ROUNDS and SEED change the kills.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { startDaemon, until } from "./daemon.mjs";
import { Recorder } from "../dist/esm/index.js";
import { FileSpool, spools } from "../dist/esm/spool.js";
import { crc32, HEAD_BYTES, headBytes, readSpool, UNIT, units, writeEntry } from "../dist/esm/spool-format.js";
import { miniature } from "./miniature.mjs";

const PROGRAM = process.execPath;
const temporary = () => mkdtempSync(join(tmpdir(), "tallyd-spool-"));
const hex = (bytes) => Buffer.from(bytes).toString("hex");
const vectors = JSON.parse(readFileSync(new URL("../../vectors/spool.json", import.meta.url)));

function fileOf({ bytes, parts }) {
  const file = Buffer.alloc(bytes);
  for (const { at, hex: part } of parts) Buffer.from(part, "hex").copy(file, at);
  return file;
}

test("files are read as the vectors say", () => {
  assert.ok(vectors.length >= 16);
  for (const vector of vectors) {
    if (vector.error) {
      assert.throws(() => readSpool(fileOf(vector)), Error, vector.name);
      continue;
    }
    const { head, entries } = readSpool(fileOf(vector));
    assert.deepEqual([head.producer, head.secret], [vector.producer, vector.secret], vector.name);
    assert.deepEqual(entries.map(({ seq, record }) => ({ seq, record: hex(record) })), vector.entries, vector.name);
  }
});

test("a file is written as the vectors say", () => {
  const vector = vectors.find(({ name }) => name === "three records");
  const wanted = fileOf(vector);
  const salt = wanted.subarray(24, 32);
  const file = Buffer.alloc(wanted.length);
  file.set(headBytes({ producer: vector.producer, secret: vector.secret, salt, area: wanted.length - HEAD_BYTES }));
  let at = HEAD_BYTES;
  for (const { seq, record } of vector.entries) {
    const bytes = Buffer.from(record, "hex");
    writeEntry(file.subarray(at), crc32(salt), seq, bytes);
    at += units(bytes.length) * UNIT;
  }
  assert.equal(hex(file), hex(wanted));
});

test("a full spool takes no more until some are settled, and its file has one owner", async () => {
  const folder = temporary();
  const spool = new FileSpool(folder, 1, "web", "0".repeat(32));
  const record = new Uint8Array(1024 * 1024).fill(7);
  const taken = [];
  for (let seq; (seq = spool.put(record)) !== undefined; ) taken.push(seq);
  assert.deepEqual(taken, [1, 2, 3]);
  spool.settle(1);
  // The first one's room is free. The rest at the end is left empty.
  assert.deepEqual([spool.put(record), spool.put(record)], [4, undefined]);
  assert.equal(spool.fits(1000), false);
  const [path] = spools.files(folder);
  assert.equal(await spools.adopt(path), undefined, "its recorder lives");
  spool.release();
  const orphan = await spools.adopt(path);
  assert.deepEqual([orphan.producer, orphan.entries.map(({ seq }) => seq)], ["web", [2, 3, 4]]);
  assert.equal(await spools.adopt(path), undefined, "it has an owner");
  orphan.remove();
  orphan.release();
  writeFileSync(join(folder, "empty.spool"), "");
  assert.equal(await spools.adopt(join(folder, "empty.spool")), undefined);
  assert.deepEqual(readdirSync(folder), []);
});

test("the next recorder delivers what the last one left, as the same producer", async (t) => {
  const [folder, daemon] = [temporary(), await miniature(t, { acks: true })];
  const of = (socket, options = {}) => new Recorder({ socket, spool: folder, quiet: true, gather: 1, ...options });
  const nobody = of(join(folder, "nobody"), { app: "web", tags: { team: "search" } });
  for (let number = 1; number <= 1_000; number += 1) assert.ok(nobody.record({ provider: "claude", model: "m", input_tokens: number }));
  assert.equal(nobody.record({ provider: "claude", metadata: { text: "x".repeat(2 << 20) } }), false, "larger than a frame");
  const waits = assert.rejects(nobody.recordAndWait({ provider: "claude", input_tokens: 1_001 }), /closed/);
  assert.equal(await nobody.close(50), 1_001);
  await waits;
  assert.deepEqual([nobody.stats.recorded, nobody.stats.dropped], [1_001, 1]);
  assert.equal(readdirSync(folder).length, 1);
  const next = of(daemon.socket);
  assert.equal((await next.recordAndWait({ provider: "claude", input_tokens: 1 })).cost_usd, undefined);
  await until("all are delivered", () => next.stats.recovered === 1_001);
  assert.equal(daemon.records.length, 1_002);
  const left = daemon.records.filter((record) => record[6] === "web");
  assert.deepEqual(left.map((record) => Number(record[8])), Array.from({ length: 1_001 }, (_, at) => at + 1));
  assert.equal(await next.close(), 0);
  assert.deepEqual(readdirSync(folder), [], "nothing is left, so no file is");
});

test("without a spool's file, records are in memory, and over HTTP there is none", async (t) => {
  const [folder, daemon] = [temporary(), await miniature(t, { acks: true })];
  writeFileSync(join(folder, "file"), "");
  // Nobody can make a folder in /proc, not even root.
  for (const [at, place] of [join(folder, "file"), "/proc/spool"].entries()) {
    const recorder = new Recorder({ socket: daemon.socket, spool: place, quiet: true });
    assert.match(recorder.stats.lastError, /in memory alone/);
    recorder.record({ provider: "claude" });
    assert.equal(await recorder.close(), 0);
    assert.equal(daemon.records.length, at + 1);
  }
  chmodSync(folder, 0o777);
  const open = new Recorder({ socket: daemon.socket, spool: folder, quiet: true });
  assert.match(open.stats.lastError, /everybody may write to it/);
  assert.equal(await open.close(), 0);
  assert.deepEqual(readdirSync(folder), ["file"]);
  assert.throws(() => new Recorder({ endpoint: "https://localhost", spool: folder }), TypeError);
});

test("what cannot be delivered stays, and does not hold up the rest", async (t) => {
  const [folder, refuses] = [temporary(), new Set()];
  const daemon = await miniature(t, { acks: true, refuses });
  const of = (socket) => new Recorder({ socket, spool: folder, quiet: true, gather: 1 });
  // Two processes with one folder, which both end without a daemon.
  const both = [of(join(folder, "nobody")), of(join(folder, "nobody"))];
  for (const one of both) for (let number = 1; number <= 10; number += 1) assert.ok(one.record({ provider: "claude", input_tokens: number }));
  for (const one of both) assert.equal(await one.close(1), 10);
  const refused = join(folder, readdirSync(folder)[0]);
  refuses.add(readFileSync(refused).toString("latin1", 192, 224));
  mkdirSync(join(folder, "0.spool"));
  writeFileSync(join(folder, "1.spool"), "not a spool");
  const next = of(daemon.socket);
  await until("the other process's records are delivered", () => next.stats.recovered === 10);
  await until("the refusal is told", () => /\(secret\)/.test(next.stats.lastError));
  assert.equal(await next.close(), 0);
  assert.equal(readdirSync(folder).length, 3, "the folder, the text, and the refused file");
  refuses.clear();
  const last = of(daemon.socket);
  await until("the rest is delivered", () => last.stats.recovered === 10);
  assert.equal(daemon.records.length, 20);
  await last.close();
});

test("a full disk costs records that are counted, and nothing that record() has taken", async (t) => {
  const folder = temporary();
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=512k", "tmpfs", folder], { stdio: "ignore" });
  } catch {
    return t.skip("mounting needs root");
  }
  t.after(() => execFileSync("umount", ["-l", folder]));
  const nobody = new Recorder({ socket: join(folder, "nobody"), spool: join(folder, "spool"), quiet: true });
  let taken = 0;
  while (nobody.record({ provider: "claude", input_tokens: taken + 1 })) taken += 1;
  assert.ok(taken > 100);
  for (let number = 0; number < 100; number += 1) nobody.record({ provider: "claude", metadata: "x".repeat(9_000) });
  assert.match(nobody.stats.lastError, /the spool cannot be written: ENOSPC/);
  assert.deepEqual([nobody.stats.recorded, nobody.stats.dropped], [taken, 101]);
  assert.equal(await nobody.close(1), taken);
  const daemon = await miniature(t, { acks: true });
  const next = new Recorder({ socket: daemon.socket, spool: join(folder, "spool"), quiet: true });
  await until("all are delivered", () => next.stats.recovered === taken);
  assert.deepEqual(daemon.records.map((record) => Number(record[8])), Array.from({ length: taken }, (_, at) => at + 1));
  assert.equal(await next.close(), 0);
});

/** Numbers from 0 to 1, by the seed: mulberry32. */
function random(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b_79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

test("an application is killed again and again, and each call that record() took is there once", { timeout: 3_600_000 }, async (t) => {
  const [rounds, seed] = [Number(process.env.ROUNDS ?? 10), Number(process.env.SEED ?? Date.now() % 2 ** 31)];
  console.log(`${rounds} rounds; SEED=${seed} repeats this`);
  const draw = random(seed);
  const daemon = await startDaemon();
  t.after(() => daemon.stop());
  const folder = join(temporary(), "spool");
  const taken = new Map();
  let life = 0;
  const start = () => {
    const process = spawn(PROGRAM, [fileURLToPath(new URL("spooling/app.mjs", import.meta.url)), daemon.socket, folder, String((life += 1))], { stdio: ["ignore", "pipe", "inherit"] });
    const app = { process, life: String(life), said: "" };
    app.begun = new Promise((resolve) => process.stdout.on("data", (piece) => ((app.said += piece), resolve())));
    app.ended = new Promise((resolve) => process.on("close", resolve));
    return app;
  };
  for (let round = 1; round <= rounds; round += 1) {
    // In some rounds two processes share the folder.
    const apps = Array.from({ length: draw() < 0.25 ? 2 : 1 }, start);
    if (draw() < 0.75) await Promise.race([apps[0].begun, apps[0].ended]);
    await new Promise((wake) => setTimeout(wake, draw() * 60));
    // In long runs less often: a start of the daemon takes longer than all else.
    if (draw() < Math.max(0.02, 2 / rounds)) await daemon.kill().then(() => daemon.up());
    for (const app of apps) assert.ok(app.process.kill("SIGKILL"), "it ended by itself");
    for (const app of apps) {
      await app.ended;
      // The last line may be cut short.
      const numbers = [...app.said.matchAll(/^taken (\d+)\n/gm)].map(([, number]) => Number(number));
      taken.set(app.life, numbers.at(-1) ?? 0);
    }
  }
  const last = new Recorder({ socket: daemon.socket, spool: folder });
  await until("all spools are delivered", () => readdirSync(folder).length === 1);
  const { recovered } = last.stats;
  assert.equal(await last.close(), 0);
  const found = () => daemon.sql("SELECT user_id, count(*), count(DISTINCT input_tokens), max(input_tokens) FROM api_usage_log WHERE app = 'spooling' GROUP BY 1")
    .split("\n").filter(Boolean).map((line) => line.split("|").map(Number));
  const recorded = [...taken.values()].reduce((sum, count) => sum + count, 0);
  await until("all are in PostgreSQL", () => found().reduce((sum, [, count]) => sum + count, 0) >= recorded && JSON.parse(daemon.run("status", "--json")).wal.unflushed_records === 0);
  const wrong = found().filter(([life, count, distinct, max]) => count !== distinct || count !== max || max < taken.get(String(life)) || max > taken.get(String(life)) + 1);
  assert.deepEqual(wrong, [], "life, calls, different ones, the highest");
  const missing = [...taken].filter(([life, count]) => count > 0 && !found().some(([one]) => String(one) === life));
  assert.deepEqual(missing, []);
  assert.ok(recorded > 0);
  console.log(`${rounds} rounds, ${life} processes, ${recorded} calls, ${recovered} of them by the last start; lost 0, doubled 0; SEED=${seed}`);
  daemon.run("reconcile");
});
