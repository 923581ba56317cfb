// The shared vectors: every client writes the same bytes.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { isDeepStrictEqual } from "node:util";
import "../dist/esm/node.js";
import { recordsOfBatch } from "../dist/esm/batches.js";
import { estimated, scoped } from "../dist/esm/call-scope.js";
import { encodeRecord } from "../dist/esm/record.js";
import { read as readUsage, StreamUsage } from "../dist/esm/usage.js";
import { BELIEVED, Standing } from "../dist/esm/standing.js";
import { helloFrame, Inbox, recordsFrame, watchFrame } from "../dist/esm/wire.js";

const read = (name) => JSON.parse(readFileSync(new URL(`../../vectors/${name}.json`, import.meta.url)));
const hex = (bytes) => Buffer.from(bytes).toString("hex");

test("records are written byte for byte", () => {
  const vectors = read("records");
  assert.ok(vectors.length >= 28);
  for (const { name, record, array_hex } of vectors) assert.equal(hex(encodeRecord(record)), array_hex, name);
});

test("a call is held back as every client does, for as long as the daemon is believed", () => {
  const vectors = read("throttle");
  assert.ok(vectors.length >= 72);
  for (const { name, budgets, call, throttle, remaining, says } of vectors) {
    for (const denies of [false, true]) {
      const standing = new Standing(denies);
      const check = (now) => standing.check(scoped(call, {}, { app: "" }), estimated(call), now);
      const isUnknown = (now) => assert.deepEqual([check(now).allowed, check(now).known], [!denies, false], name);
      isUnknown(1_000);
      standing.hear(budgets, 1_000);
      for (const now of [1_000, 1_000 + BELIEVED - 1]) {
        const { allowed, known, ...told } = check(now);
        assert.deepEqual([allowed, known], [!throttle, true], name);
        if (remaining) assert.equal(told.remaining, remaining, name);
        if (says) assert.equal(told.reason, says, name);
      }
      isUnknown(1_000 + BELIEVED);
    }
  }
  const standing = new Standing();
  standing.hear({ budget: { should_throttle: true, status: "exceeded" } }, 0);
  assert.deepEqual([standing.status(1), standing.status(BELIEVED)], ["exceeded", "normal"]);
});

test("frames of a client are written byte for byte, those of a daemon are read", () => {
  let seen = 0;
  for (const { name, sender, hex: bytes, message } of read("frames")) {
    seen += 1;
    if (message.hello) assert.equal(hex(helloFrame(message.hello)), bytes, name);
    else if (message.watch) assert.equal(hex(watchFrame()), bytes, name);
    else if (message.records) {
      const { first_seq, records } = message.records;
      assert.equal(hex(recordsFrame(first_seq, records.map(encodeRecord))), bytes, name);
    } else {
      assert.equal(sender, "server");
      const whole = Buffer.from(bytes, "hex");
      for (const cut of [whole.length, 1, 3]) {
        const inbox = new Inbox();
        const found = [];
        for (let at = 0; at < whole.length; at += cut) found.push(...inbox.push(whole.subarray(at, at + cut)));
        const plain = JSON.parse(JSON.stringify(found));
        const prune = (value) => (value && typeof value === "object" && !Array.isArray(value) ? Object.fromEntries(Object.entries(value).filter(([, one]) => one !== null && !(Array.isArray(one) && one.length === 0)).map(([key, one]) => [key, prune(one)])) : value);
        assert.deepEqual(plain.map(prune), [prune(message)], `${name}, in pieces of ${cut}`);
      }
    }
  }
  assert.ok(seen >= 15);
});

test("what a vendor's answer says is read as every client reads it", () => {
  const vectors = read("usage");
  assert.ok(vectors.length >= 80);
  const wrong = [];
  for (const { name, vendor, answer, events, record } of vectors) {
    const family = vendor === "openrouter" ? "openai" : vendor;
    const provider = vendor === "anthropic" ? "claude" : vendor;
    const stream = new StreamUsage(family);
    events?.forEach((event) => stream.event(event));
    const found = events ? stream.result() : readUsage(family, answer);
    const units = Object.entries(found?.extra_units ?? {}).map(([unit, count]) => [unit, String(count)]);
    const cost = found?.cost_usd === undefined ? {} : { cost_usd: Number(found.cost_usd) };
    const whole = found && { provider, ...found, ...cost, ...(units.length > 0 ? { extra_units: Object.fromEntries(units) } : {}) };
    const told = whole ? Object.fromEntries(Object.entries(whole).filter(([key, value]) => value !== 0 || key === "cost_usd")) : null;
    const right = record?.cost_usd === undefined ? record : { ...record, cost_usd: Number(record.cost_usd) };
    if (!isDeepStrictEqual(told, right)) wrong.push(`${name}: ${JSON.stringify(told)}, not ${JSON.stringify(right)}`);
  }
  assert.deepEqual(wrong, []);
});

test("a batch's results are records, with the same ids each time", () => {
  const vectors = read("batches");
  assert.ok(vectors.length >= 3);
  for (const { name, vendor, lines, records } of vectors) {
    for (const results of [lines, lines.filter((line) => line !== "").map((line) => JSON.parse(line))]) {
      const found = [...recordsOfBatch(vendor, results)];
      assert.deepEqual(found.map((record) => Object.fromEntries(Object.entries(record).filter(([, value]) => value !== 0))), records, name);
      for (const record of found) assert.ok(encodeRecord(record).length > 0, name);
    }
  }
  assert.throws(() => [...recordsOfBatch("anthropic", ["{"])], /line 1 is not JSON/);
  assert.throws(() => [...recordsOfBatch("anthropic", ["", '{"colour":1}'])], /line 2 is not a result/);
});

test("what cannot be written says which field", () => {
  for (const [record, says] of [
    [{ provider: "x", outptu_tokens: 1 }, /outptu_tokens/],
    [{ provider: "x", input_tokens: 1.5 }, /input_tokens.*1\.5/],
    [{ provider: "x", model: 7 }, /model/],
    [{ provider: "x", id: "x" }, /UUID/],
    [{ provider: "x", cost_usd: NaN }, /NaN/],
  ]) assert.throws(() => encodeRecord(record), { name: "TypeError", message: says });
  assert.equal(hex(encodeRecord({ provider: "x", cost_usd: 1e-7 })), hex(encodeRecord({ provider: "x", cost_usd: "0.0000001" })), "no exponent");
});

test("a daemon's nonsense is an error, not a hang", () => {
  for (const bytes of ["00000000", "ffffffff", "00000001c1", "0000000181", "0000000180"]) {
    const inbox = new Inbox();
    assert.throws(() => [...inbox.push(Buffer.from(bytes, "hex"))], bytes);
  }
});
