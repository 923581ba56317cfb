// Calculations of the page without a browser: ranges to compare with, the pace of a budget, the saving by caching.
import assert from "node:assert/strict";
import { test } from "node:test";
import { build } from "esbuild";

const load = async (name) => {
  const bundled = await build({ entryPoints: [`${import.meta.dirname}/../src/${name}.ts`], bundle: true, write: false, format: "esm" });
  return import(`data:text/javascript;base64,${Buffer.from(bundled.outputFiles[0].contents).toString("base64")}`);
};
const { nextDimension, rangeBefore, rangeOf } = await load("filter");
const { paceOf } = await load("pace");
const { savedAt } = await load("rates");
const { parse, text } = await load("money");

test("a range is compared with the same days of the month before, or with as many days before it", () => {
  const today = "2026-03-31";
  for (const [from, to, expected] of [
    ["2026-02-01", "2026-02-28", "2026-01-01 2026-01-31"],
    ["2026-03-01", today, "2026-02-01 2026-02-28"],
    ["2026-03-01", "2026-03-10", "2026-02-19 2026-02-28"],
    ["2026-03-25", today, "2026-03-18 2026-03-24"],
    [today, today, "2026-03-30 2026-03-30"],
  ]) {
    const before = rangeBefore({ from, to }, "custom", today);
    assert.equal(`${before.from} ${before.to}`, expected, `${from} ${to}`);
  }
  const before = rangeBefore({ from: "2026-03-01", to: "2026-03-15" }, "month", "2026-03-15");
  assert.deepEqual(before, { from: "2026-02-01", to: "2026-02-15" });
  // The beginning of a month is longer than the month before it.
  assert.deepEqual(rangeBefore({ from: "2026-03-01", to: "2026-03-30" }, "month", "2026-03-30"), { from: "2026-02-01", to: "2026-02-28" });
  // 30 days that happen to be a month are 30 days.
  assert.deepEqual(rangeBefore({ from: "2026-04-01", to: "2026-04-30" }, "30", "2026-04-30"), { from: "2026-03-02", to: "2026-03-31" });
  assert.equal(rangeBefore({ from: "2026-04-01", to: "2026-04-30" }, "all", "2026-04-30"), null);
  const query = (text) => new URLSearchParams(text);
  assert.deepEqual(rangeOf("last-month", query(""), "2026-01-09", ""), { from: "2025-12-01", to: "2025-12-31" });
  assert.deepEqual(rangeOf("custom", query("from=x&to=2026-01-02"), "2026-01-09", ""), { from: "2026-01-02", to: "2026-01-09" });
});

test("of a provider come the models, of a model the users, and then the calls; of a long range only what rollups have", () => {
  const month = { from: "2026-03-01", to: "2026-03-31" };
  const year = { from: "2025-04-01", to: "2026-03-31" };
  for (const [by, filters, short, long] of [
    ["provider", { provider: "claude" }, "model", "model"],
    ["model", { provider: "claude", model: "m" }, "user", "app"],
    ["user", { user: "u" }, "model", "provider"],
    ["user", { model: "m", user: "u" }, null, null],
    ["tag:team", { "tag:team": "search" }, "model", "model"],
    ["model", { "tag:team": "search", model: "m" }, "user", "provider"],
  ]) {
    assert.equal(nextDimension(by, filters, month), short, `${by} ${JSON.stringify(filters)}`);
    assert.equal(nextDimension(by, filters, year), long, `${by} ${JSON.stringify(filters)}, a year`);
  }
});

test("a budget lasts, will be used up, or was", () => {
  const budget = (amount, expected) => ({ amount_usd: amount, period_start: "2026-03-01", period_end: "2026-04-01", forecast: expected ? { expected_usd: expected } : null });
  const spend = Array.from({ length: 11 }, (_, at) => parse(String((at + 1) * 10)));
  const of = (amount, expected) => { const { expected: sum, usedUp, isPast } = paceOf(budget(amount, expected), spend, "2026-03-11"); return [text(sum), usedUp, isPast]; };
  // Ten a day so far: 110 spent, 20 days left.
  assert.deepEqual(of("400"), ["310", null, false]);
  // 190 are left; 200 are expected in 21 days, today among them: the 20th of them.
  assert.deepEqual(of("300"), ["310", "2026-03-30", false]);
  assert.deepEqual(of("300", "131"), ["131", null, false]);
  assert.deepEqual(of("120", "320"), ["320", "2026-03-12", false]);
  assert.deepEqual(of("35"), ["310", "2026-03-04", true]);
  // Nothing is spent: no pace.
  assert.deepEqual(paceOf(budget("5"), [0n], "2026-03-01"), { expected: 0n, usedUp: null, isPast: false });
});

test("the saving by caching is reads less the surcharge of writes, where a list price is known", () => {
  const row = (model, read, write, more = {}) => ({ provider: "claude", model, cache_read_tokens: read, cache_write_5m_tokens: write, cache_write_1h_tokens: 0, ...more });
  const prices = [{ provider: "claude", model: "sonnet", service_tier: "standard", rates: { per_million_tokens: { input: "3", cache_read: "0.3", cache_write_5m: "3.75" } } }];
  const of = (...rows) => { const { usd, isWhole } = savedAt(rows, prices); return [text(usd), isWhole]; };
  assert.deepEqual(of(row("sonnet", 1_000_000, 0)), ["2.7", true]);
  assert.deepEqual(of(row("sonnet-20250929", 1_000_000, 2_000_000)), ["1.2", true]);
  assert.deepEqual(of(row("sonnet", 1_000_000, 0), row("other", 5, 0)), ["2.7", false]);
  assert.deepEqual(of(row("other", 0, 0)), ["0", true]);
  assert.deepEqual(of(row("sonnet", 0, 0, { cache_write_1h_tokens: 5 })), ["0", false]);
});
