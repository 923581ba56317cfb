// Calculations of the page without a browser: ranges to compare with, the pace of a budget, the saving by caching, two
// dimensions at once, saved views, the form of alert rules.
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
const { COLUMNS_MAX, ROWS_MAX, pivotOf, sumsBy } = await load("pivot");
const { NAME_MAX, VIEWS_MAX, readViews, renamed, withView } = await load("savedviews");
const { fieldOf, ruleOf } = await load("rule");

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

test("rows and columns of two dimensions add up to the last digit, with all others in a row and a column", () => {
  const zero = { calls: 0, errors: 0, input_tokens: 0, output_tokens: 0, cache_read_tokens: 0, cache_write_5m_tokens: 0, cache_write_1h_tokens: 0, requests: 0, unpriced_calls: 0 };
  const pair = (app, model, cost, provider = "p") => ({ ...zero, app, provider, model, calls: 1, cost_usd: cost });
  const whole = (pairs) => text(pairs.reduce((sum, { cost_usd }) => sum + parse(cost_usd), 0n));
  const check = (pivot, total) => {
    const of = (row) => parse(row.cost_usd);
    const sum = (rows) => text(rows.reduce((all, row) => all + of(row), 0n));
    for (const row of pivot.rows) assert.equal(sum(row.cells), row.sums.cost_usd, row.name);
    for (const [at, column] of pivot.columns.entries()) assert.equal(sum(pivot.rows.map(({ cells }) => cells[at])), column.sums.cost_usd, column.name);
    for (const heads of [pivot.rows, pivot.columns]) assert.equal(sum(heads.map(({ sums }) => sums)), total);
    assert.equal(pivot.total.cost_usd, total);
  };
  const pairs = [];
  for (let app = 0; app < ROWS_MAX + 5; app += 1) for (let model = 0; model < COLUMNS_MAX + 3; model += 1) pairs.push(pair(`a${app}`, `m${model}`, `${100 - app}.00000000000000000${model}`));
  // The same model of a second provider is a column of its own.
  pairs.push(pair("a0", "m0", "1000", "q"));
  const total = whole(pairs);
  const of = (some) => pivotOf(some, sumsBy(pairs, "app"), sumsBy(pairs, "model"), { ...zero, calls: pairs.length, cost_usd: total }, "app", "model");
  const all = of(pairs);
  check(all, total);
  assert.deepEqual([all.rows.length, all.columns.length], [ROWS_MAX + 1, COLUMNS_MAX + 1]);
  assert.deepEqual(all.columns.slice(0, 2).map(({ name }) => name), ["m8", "m7"]);
  assert.deepEqual([all.rows[0].name, all.rows[0].sums.cost_usd, all.rows.at(-1).name], ["a0", "1900.000000000000000036", "All others"]);
  // Pairs that were not loaded are in "All others".
  check(of(pairs.slice(40)), total);
  const few = [pair("x", "m", "1"), pair("y", "n", "2")];
  const small = pivotOf(few, sumsBy(few, "app"), sumsBy(few, "model"), { ...zero, calls: 2, cost_usd: "3" }, "app", "model");
  assert.deepEqual(small.rows.map(({ name, cells }) => [name, cells.map(({ cost_usd }) => cost_usd).join()]), [["y", "2,0"], ["x", "0,1"]]);
});

test("saved views are bounded, and what another script has stored is not followed", () => {
  const view = (name, to = "#/costs") => ({ name, to });
  assert.deepEqual(readViews(JSON.stringify([view("a"), { name: "b", to: "javascript:alert(1)" }, view(""), view("x".repeat(NAME_MAX + 1)), view("c", `#/${"x".repeat(3_000)}`), null, 5])), [view("a")]);
  for (const text of [null, "", "{", "{}", "5"]) assert.deepEqual(readViews(text), []);
  let views = [];
  for (let at = 0; at < VIEWS_MAX; at += 1) views = withView(views, view(`v${at}`));
  assert.throws(() => withView(views, view("one more")), /30 saved views/);
  assert.equal(withView(views, view("v3", "#/users")).find(({ name }) => name === "v3").to, "#/users");
  assert.equal(readViews(JSON.stringify([...views, view("beyond")])).length, VIEWS_MAX);
  assert.throws(() => renamed(views, "v1", "v2"), /there already/);
  assert.deepEqual(renamed(views, "v1", "w").filter(({ name }) => ["v1", "w"].includes(name)), [view("w")]);
  for (const name of [" ", "x".repeat(NAME_MAX + 1)]) assert.throws(() => renamed(views, "v1", name), /characters/);
});

test("the form of a rule names the field and the value that is wrong", () => {
  const form = (more) => (name) => ({ name: "spend", metric: "cost", window: "24h", alert: "100", ...more })[name] ?? "";
  const rule = ruleOf(form({ provider: "claude", alert: "$1,000.50", quiet: "22:00 - 07:00" }), false);
  assert.deepEqual(rule, { name: "spend", metric: "cost", filter: { provider: "claude" }, window: "24h", short_window: null, warning: null, alert: "1000.50", no_data: false, budget_id: null, owner: "", route: "default", quiet: "22:00-07:00", paused: false });
  assert.equal(ruleOf(form({ metric: "forecast_percent", budget: "7", window: "" }), true).no_data, false);
  assert.deepEqual(ruleOf(form({ alert: "", window: "2h" }), true).no_data, true);
  for (const [more, field, message] of [
    [{ name: "" }, "name", /has a name/], [{ window: "5x" }, "window", /“5x” is not a window/], [{ window: "2161h" }, "window", /2160h/], [{ window: "91d" }, "window", /90d/],
    [{ alert: "ten" }, "alert", /“ten” is not a number/], [{ alert: "0" }, "alert", /above 0/], [{ warning: "100" }, "warning", /100 is not below the alert of 100/],
    [{ alert: "" }, "alert", /never apply/], [{ quiet: "22-7" }, "quiet", /“22-7” is not a part of the day/], [{ quiet: "07:00-07:00" }, "quiet", /part of the day/],
    [{ other: "tag:team" }, "value", /Name the team/], [{ other: "tag:team", value: "search" }, "window", /in days/], [{ other: "user", value: "u", model: "m", window: "1d" }, "model", /provider alone/],
    [{ metric: "burn_rate" }, "budget", /Choose a budget/], [{ metric: "burn_rate", budget: "7", short_window: "1d" }, "short_window", /“1d” is not shorter than “24h”/],
  ]) assert.throws(() => ruleOf(form(more), false), (error) => error.field === field && message.test(error.message), JSON.stringify(more));
  for (const [message, field] of [["Route: none of this name is configured.", "route"], ["Name and owner: at most 100 characters.", "name"], ["Budget_id: there is no budget 9.", "budget"], ["Filter: the rollups do not have these together.", "other"], ["The database is away.", null]]) {
    assert.equal(fieldOf(message), field, message);
  }
});
