// A complete server: 1,000 calls, a daemon that restarts, a database that is killed. Then the admin page shows exactly the calls that the
// vendors have served.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { startDaemon, until } from "./daemon.mjs";
import { build } from "../example/server.mjs";
import { startVendors } from "./vendors.mjs";

const CALLS = 1_000;
let daemon, vendors, server, tracker, url;

before(async () => {
  [daemon, vendors] = await Promise.all([startDaemon(), startVendors()]);
  const { token } = JSON.parse(daemon.run("token", "create", "--name", "server", "--role", "admin", "--json"));
  const built = build({
    socket: daemon.socket, http: daemon.url, httpToken: token, anthropicKey: "k", anthropicUrl: vendors.url, rentcastUrl: vendors.url,
  });
  tracker = built.tracker;
  await new Promise((resolve) => (server = built.app.listen(0, "127.0.0.1", resolve)));
  url = `http://127.0.0.1:${server.address().port}`;
}, { timeout: 60_000 });

after(async () => {
  await tracker?.close();
  server?.closeAllConnections();
  await new Promise((resolve) => (server ? server.close(resolve) : resolve()));
  await vendors?.stop();
  await daemon?.stop();
});

async function ask(path, body, user = "u1") {
  const headers = { "x-user": user, "content-type": "application/json" };
  const answer = await fetch(url + path, { headers, ...(body ? { method: "POST", body: JSON.stringify(body) } : {}) });
  assert.equal(answer.status, 200, await answer.clone().text());
  return await answer.json();
}

/** Kills the private cluster with SIGKILL, as the kernel would. */
function killPostgres() {
  const folder = readdirSync(daemon.data, { recursive: true }).find((name) => name.endsWith("postmaster.pid"));
  process.kill(Number(readFileSync(join(daemon.data, folder), "utf8").split("\n")[0]), "SIGKILL");
}

test("after a restart and an outage the history has every call, once", { timeout: 120_000 }, async () => {
  const texts = new Set();
  for (let at = 0; at < CALLS; at += 20) {
    if (at === 300) await daemon.kill();
    if (at === 400) await daemon.up();
    if (at === 600) killPostgres();
    await Promise.all(Array.from({ length: 20 }, async (_, n) => {
      const user = `u${(at + n) % 7}`;
      if ((at + n) % 4 === 0) texts.add((await ask("/api/value?address=1+Main", undefined, user)).price);
      else texts.add((await ask("/api/chat", { text: "Hello" }, user)).text);
    }));
  }
  assert.deepEqual([...texts].sort(), [250_000, "Hello there"], "every answer is the vendor's");
  await daemon.down();
  await daemon.up();
  assert.equal(await tracker.recorder.flush(30_000), 0);
  await until("all are in PostgreSQL", () => Number(daemon.sql("SELECT count(*) FROM api_usage_log")) >= CALLS);
  const [today] = await until("the daemon answers", () => ask("/api/admin/cost-history?days=2").catch(() => undefined));
  const { anthropic, rentcast } = vendors.served;
  assert.equal(anthropic + rentcast, CALLS);
  assert.deepEqual([today.totalCalls, today.claudeCalls, today.rentcastCalls], [CALLS, anthropic, rentcast]);
  const [model] = Object.values(today.byModel);
  assert.deepEqual([model.calls, model.inputTokens, model.outputTokens], [anthropic, anthropic * 1000, anthropic * 200]);
  // The exact sum, from the price of one call.
  const one = daemon.sql("SELECT DISTINCT cost_usd FROM api_usage_log WHERE provider = 'claude'");
  assert.doesNotMatch(one, /\n/, "each call of Claude has the same usage, and so the same cost");
  assert.equal(daemon.sql(`SELECT sum(cost_usd) = ${one} * ${anthropic} + 0.2 * ${rentcast} FROM daily_api_costs`), "t");
  assert.equal(daemon.sql("SELECT count(DISTINCT user_id), count(DISTINCT endpoint) FROM api_usage_log"), "7|2");
  daemon.run("reconcile");
});

test("the tracker's methods answer as they did", async () => {
  const { cost } = await ask("/api/import", { input: 1_000_000, output: 0 });
  const calls = () => Number(daemon.sql("SELECT sum(calls) FROM daily_api_costs"));
  await until("it is in PostgreSQL", () => calls() === CALLS + 1);
  assert.equal(cost, Number(daemon.sql("SELECT cost_usd FROM api_usage_log WHERE endpoint = '/api/import'")));
  assert.ok(cost > 0);
  assert.equal(await tracker.recordRentCast("/avm", "u1"), 0.2);
  assert.equal(await tracker.recordClaude("no-such-model", 10, 10), 0, "an unknown price is told by a warning");
  await until("all are in PostgreSQL", () => calls() === CALLS + 3);
  tracker.setDailyBudget(25);
  const summary = await tracker.getSummary();
  assert.deepEqual([summary.dailyBudget, summary.today.totalCalls], [25, CALLS + 3]);
  tracker.setRentCastCostPerRequest(0.25);
  assert.equal(tracker.getPricingInfo().rentcast.costPerRequest, 0.25);
  const stats = await tracker.getUserCallStats();
  assert.ok(stats.some((user) => user.userId === "u1"), JSON.stringify(stats).slice(0, 200));
  assert.equal((await tracker.getTodayCosts()).totalCalls, CALLS + 3);
  assert.equal((await ask("/api/admin/summary")).dailyBudget, 25);
});
