// The server of tests/replaced/server.ts, written against the tracker that tallyd replaces: it compiles with `strict`, and works
// while the daemon is killed and the database is stopped.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { startDaemon, until } from "./daemon.mjs";
import { startVendors } from "./vendors.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "tallyd-replaced-"));
/** The environment of one container, which the application and the daemon beside it share. */
const SHARED = {
  TALLYD_HTTP: "http://127.0.0.1:7420", TALLYD_HTTP_TOKEN: "t", TALLYD_TOKEN: "t", TALLYD_ENDPOINT: "unix:/tmp/t", TALLYD_APP: "web",
  TALLYD_DAILY_BUDGET_USD: "50", TALLYD_ALERT_THRESHOLD_PERCENT: "80",
};
const warnings = [];
let daemon, vendors, server, tracker, url, CostTracker, costTracker;

function compile() {
  writeFileSync(join(folder, "package.json"), '{"type":"module"}');
  cpSync(join(root, "tests/replaced/server.ts"), join(folder, "server.ts"));
  mkdirSync(join(folder, "node_modules"));
  for (const name of readdirSync(join(root, "node_modules"))) if (!name.startsWith(".")) symlinkSync(join(root, "node_modules", name), join(folder, "node_modules", name));
  symlinkSync(root, join(folder, "node_modules/tallyd"));
  const options = ["--strict", "--noUncheckedIndexedAccess", "--exactOptionalPropertyTypes", "--module", "nodenext", "--target", "es2022", "--types", "node", "--skipLibCheck"];
  execFileSync(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), ...options, "server.ts"], { cwd: folder, stdio: "inherit" });
}

before(async () => {
  process.on("warning", (warning) => warnings.push(warning.message));
  compile();
  [daemon, vendors] = await Promise.all([startDaemon({ env: { ...SHARED, TALLYD_HTTP_ANALYSIS_ENDPOINT: "/api/claude/analysis" } }), startVendors()]);
  ({ CostTracker, costTracker } = await import(pathToFileURL(join(root, "dist/esm/index.js")).href));
  const { build } = await import(pathToFileURL(join(folder, "server.js")).href);
  Object.assign(process.env, { TALLYD_SOCKET: daemon.socket, TALLYD_HTTP: daemon.url, TALLYD_HTTP_TOKEN: await daemon.token("admin") });
  tracker = new CostTracker(50, 80);
  server = build(tracker, { claude: vendors.url, rentcast: vendors.url }).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  url = `http://127.0.0.1:${server.address().port}`;
}, { timeout: 90_000 });

after(async () => {
  await tracker?.close();
  server?.closeAllConnections();
  server?.close();
  await vendors?.stop();
  await daemon?.stop();
  rmSync(folder, { recursive: true, force: true });
});

async function ask(path, body, user) {
  const headers = { "content-type": "application/json", ...(user ? { "x-user": user } : {}) };
  const answer = await fetch(url + path, { headers, ...(body ? { method: "POST", body: JSON.stringify(body) } : {}) });
  return { status: answer.status, body: await answer.json() };
}

const calls = () => Number(daemon.sql("SELECT coalesce(sum(calls), 0) FROM daily_api_costs"));

test("the default budget is set once, and another instance's does not replace it", async () => {
  await until("the budget is there", () => daemon.sql("SELECT round(amount_usd) || ' ' || warning_percent FROM api_budgets") === "50 80");
  const other = new CostTracker(7, 50);
  await until("the other one has been answered", async () => (await other.getSummary()).dailyBudget === 50);
  await other.close();
  assert.equal(daemon.sql("SELECT round(amount_usd) || ' ' || warning_percent FROM api_budgets"), "50 80");
});

test("calls are recorded with what they cost, and a visitor who is not signed in is no user", async () => {
  const analysis = await ask("/api/claude/analysis", {}, "u1");
  assert.deepEqual(analysis, { status: 200, body: { cost: "0.006000" } }); // 1,000 × 3 + 200 × 15 USD a million
  await ask("/api/claude/analysis", {});
  assert.deepEqual((await ask("/api/value", undefined, "u1")).body, { cost: "0.20" });
  await until("all are loaded", () => calls() === 3);
  assert.deepEqual((await ask("/api/admin/user-stats")).body, ["u1 2 1 1 1"]);
  assert.equal(daemon.sql("SELECT count(*) FROM api_usage_log WHERE user_id = ''"), "1");
  const [day] = (await ask("/api/admin/cost-history?days=2")).body;
  assert.deepEqual([day.cost, day.claude, day.rentcast], ["0.2120", 2, 1]);
  assert.deepEqual([day.models, day.endpoints], [["claude-sonnet-4-5 2 0.0120 2000+400"], ["/avm/value 1 0.20"]]);
  assert.match((await ask("/api/admin/costs")).body.line, /0\.21 of 50\.00, 49\.79 left \(normal\)/);
});

test("a model without a price costs 0 with one warning, and stays unpriced", async () => {
  assert.equal(await tracker.recordClaude("no-such-model", 10, 10, "/x", "u2"), 0);
  assert.equal(await tracker.recordClaude("no-such-model", 10, 10, "/x", "u2"), 0);
  await until("both are loaded", () => calls() === 5);
  assert.equal(daemon.sql("SELECT count(*) FROM api_usage_log WHERE cost_usd IS NULL"), "2");
  assert.equal(warnings.filter((warning) => warning.includes("no-such-model")).length, 1, warnings.join("\n"));
});

test("prices and settings are there at once, and durable soon", async () => {
  const pricing = (await ask("/api/admin/pricing")).body;
  assert.equal(pricing.sonnet, "3.00");
  assert.deepEqual(pricing.plans.toSorted(), ["developer 0 50 0.200", "foundation 74 1000 0.060", "growth 199 5000 0.030", "scale 449 25000 0.015"]);
  await ask("/api/admin/rentcast-cost", { costPerRequest: 0.03 });
  assert.equal((await ask("/api/admin/pricing")).body.request, "0.030", "before the daemon has it");
  await until("the daemon has the price", () => daemon.sql("SELECT count(*) FROM api_prices WHERE origin = 'api'") === "1");
  await until("a request costs that", async () => (await ask("/api/value", undefined, "u1")).body.cost === "0.03");
  await ask("/api/admin/budget", { budget: 0.26 });
  const throttled = await until("the threshold is reached", async () => {
    const answer = await ask("/api/claude/analysis", {}, "u1");
    return answer.status === 429 && answer;
  });
  assert.match(throttled.body.error, /^budget used: (8\d|9\d|1\d\d)\.\d %$/);
  await ask("/api/admin/budget", { budget: 50 });
  assert.equal((await ask("/api/claude/analysis", {}, "u1")).status, 200, "the first question after the change has it");
  assert.deepEqual((await ask("/api/admin/metrics")).body, { sessions: { active: 0, total: 0, byTier: {} } });
});

test("a refused setting is told to the handler, and nothing throws", async () => {
  const told = [];
  const strict = new CostTracker({ onError: (error) => told.push(error.message) });
  strict.setDailyBudget(-1);
  strict.setRentCastCostPerRequest(-1);
  await until("both are told", () => told.length === 2);
  assert.match(told[0], /400 to POST \/api\/admin\/budget: .*budget/);
  assert.ok(strict.getRentCastCostPerRequest() > 0, "a refused price does not hold");
  await strict.close();
});

test("while the daemon is away a cost is by the last known prices, soon, and the record is kept", { timeout: 90_000 }, async () => {
  await until("all are loaded", () => JSON.parse(daemon.run("status", "--json")).wal.unflushed_records === 0);
  const before = calls();
  await daemon.kill();
  // The recorder hears of the socket's end in a later turn of the event loop.
  await until("the recorder knows", () => !tracker.recorder.stats.connected);
  assert.equal(await tracker.recordClaude("claude-sonnet-4-20250514", 1_000_000, 0, "/x", "u1"), 6, "by the rates of large prompts");
  assert.equal(await tracker.recordClaude("claude-sonnet-4-5", 100_000, 0, "/x", "u1"), 0.3);
  assert.equal(await tracker.recordRentCast("/avm/value", "u1"), 0.03);
  // These are not awaited; an unhandled rejection would end this process.
  void tracker.getTodayCosts();
  void tracker.getSummary();
  void tracker.getHistory();
  void tracker.getUserCallStats();
  void tracker.getActiveSessions();
  tracker.setDailyBudget(51);
  assert.equal(tracker.getPricingInfo().rentcast.costPerRequest, 0.03);
  await assert.rejects(tracker.getSummary());
  await daemon.up();
  await until("both are loaded", () => calls() === before + 3);
  await until("the budget is durable", () => daemon.sql("SELECT round(amount_usd) FROM api_budgets") === "51");
  daemon.run("reconcile");
});

test("while the database is away recording goes on, and questions are answered with an error", { timeout: 90_000 }, async () => {
  const before = calls();
  const pid = Number(readFileSync(join(daemon.data, readdirSync(daemon.data, { recursive: true }).find((name) => name.endsWith("postmaster.pid"))), "utf8").split("\n")[0]);
  process.kill(pid, "SIGKILL");
  assert.equal(await tracker.recordClaude("claude-sonnet-4-5", 100_000, 0, "/x", "u1"), 0.3);
  await until("it is loaded", () => calls() === before + 1);
  await until("questions are answered again", () => tracker.getSummary().catch(() => undefined));
});

test("the default instance is configured by the environment and begins with its first use", async () => {
  assert.ok(costTracker instanceof CostTracker);
  assert.equal(costTracker.getPricingInfo().claude["claude-sonnet-4-5"].inputPerMToken, 3);
  assert.equal(await costTracker.recordClaude("claude-sonnet-4-5", 100_000, 0), 0.3);
  const summary = await costTracker.getSummary();
  assert.equal(summary.dailyBudget, 51);
  await costTracker.close();
});

test("each price that the package knows is in the daemon's catalog, and each Claude model is known", async () => {
  const { KNOWN_PRICES } = await import(pathToFileURL(join(root, "dist/esm/known-prices.js")).href);
  const headers = { authorization: `Bearer ${process.env.TALLYD_HTTP_TOKEN}` };
  const { prices } = await (await fetch(`${daemon.url}/api/v1/prices?provider=claude&limit=1000`, { headers })).json();
  const standard = prices.filter((price) => price.service_tier === "standard");
  assert.deepEqual(Object.keys(KNOWN_PRICES.claude).toSorted(), [...new Set(standard.map((price) => price.model))].toSorted(), "node prices.mjs writes it anew");
  const number = (text) => (text === undefined || text === null ? null : Number(text));
  for (const [model, rates] of Object.entries(KNOWN_PRICES.claude)) {
    const told = standard.filter((price) => price.model === model).map(({ rates: { per_million_tokens: rate } }) => [number(rate.input), number(rate.output), number(rate.cache_read)]);
    const known = [rates.inputPerMToken, rates.outputPerMToken, rates.cacheReadPerMToken];
    assert.ok(told.some((one) => JSON.stringify(one) === JSON.stringify(known)), `${model}: ${known} is not among ${JSON.stringify(told)}`);
  }
});
