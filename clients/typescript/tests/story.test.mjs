// A loop uses up a team's budget and is stopped in the process. Two receivers are told. Every sum of the day equals the call log.
// docs/guide/story.md shows the same steps with the server of example/teams.mjs.

import assert from "node:assert/strict";
import { createHmac, randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { startDaemon, until } from "./daemon.mjs";
import { build } from "../example/teams.mjs";
import { startVendors } from "./vendors.mjs";
import { BudgetExceededError, tags } from "../dist/esm/index.js";

const CUSTOMERS = { search: ["acme", "borealis", "cobalt"], support: ["delta", "ember"] };
const SCOPE = { "tag:team": "support" };
const REASON = 'tallyd: the call was not made: the budget of tag team "support" is used up';
const BUDGET = "0.10";
// A chat of the stub: 500 tokens at 2.50, 400 cached ones at 1.25, 50 of output at 10.00 USD a million.
const CHAT_USD = usd("0.00225");
const SECRET = `whsec_${randomBytes(32).toString("base64")}`;

/** Decimal text as an integer of 10⁻¹⁸ USD, which loses no digit. */
function usd(text) {
  const [, sign, whole, part = ""] = /^(-?)(\d+)(?:\.(\d{1,18}))?$/.exec(text) ?? assert.fail(`${text} is not an amount`);
  return BigInt(`${sign}${whole}${part.padEnd(18, "0")}`);
}
const total = (amounts) => amounts.reduce((sum, amount) => sum + amount, 0n);

/** A zone in which it is about noon, so that no day ends during the test. */
function noon() {
  const hours = 12 - new Date().getUTCHours();
  return `Etc/GMT${hours > 0 ? "-" : "+"}${Math.abs(hours)}`;
}

/** Keeps the webhooks that it receives: path, headers and body as text. */
async function startReceiver() {
  const taken = [];
  const server = createServer(async (request, response) => {
    let text = "";
    for await (const piece of request) text += piece;
    taken.push({ path: request.url, headers: request.headers, text });
    response.writeHead(204).end();
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const stop = () => (server.closeAllConnections(), new Promise((resolve) => server.close(resolve)));
  return { at: (path) => taken.filter((message) => message.path === path), url: `http://127.0.0.1:${server.address().port}`, stop };
}

const zone = noon();
const day = (back) => new Intl.DateTimeFormat("sv-SE", { timeZone: zone }).format(Date.now() - back * 86_400_000);
const [today, yesterday] = [day(0), day(1)];
let daemon, vendors, receiver, folder, app, url, token;

before(async () => {
  [vendors, receiver] = await Promise.all([startVendors(), startReceiver()]);
  folder = mkdtempSync(join(tmpdir(), "tallyd-story-"));
  const config = join(folder, "config.toml");
  writeFileSync(config, `[rollup]
time_zone = "${zone}"
[dimensions]
names = ["team", "customer"]
[alerts]
webhook_url = "${receiver.url}/slack"
routes = [{ name = "billing", kind = "webhook", url = "${receiver.url}/billing", secret = "${SECRET}" }]
`);
  daemon = await startDaemon({ env: { TALLYD_CONFIG: config, TALLYD_ALERTS_INTERVAL_MS: "200" } });
  token = await daemon.token("read");
  // Yesterday each customer had three calls of the same kind.
  const at = new Date(Date.now() - 86_400_000).toISOString();
  const call = { support: { provider: "openai", model: "gpt-4o", endpoint: "/v1/chat/completions", input_tokens: 500, cache_read_tokens: 400, output_tokens: 50 },
    search: { provider: "claude", model: "claude-sonnet-5", endpoint: "/v1/messages", input_tokens: 1000, output_tokens: 200 } };
  const calls = Object.entries(CUSTOMERS).flatMap(([team, customers]) => customers.map((customer) => ({ ...call[team], occurred_at: at, tags: { team, customer } })));
  await daemon.record([...calls, ...calls, ...calls]);
  for (const name of ["team", "customer"]) await until(`the rollup of ${name} has all calls`, async () => (await get(`costs?group_by=tag:${name}&from=${yesterday}&to=${today}`)).whole_from === null);
  app = build({ socket: daemon.socket, anthropicKey: "k", anthropicUrl: vendors.url, openaiKey: "k", openaiUrl: `${vendors.url}/v1` });
  await new Promise((resolve) => app.server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${app.server.address().port}`;
  assert.equal(await app.recorder.ready(30_000), true);
}, { timeout: 120_000 });

after(async () => {
  // Without a vendor the loop ends in any case.
  await vendors?.stop();
  app?.server.closeAllConnections();
  await new Promise((resolve) => (app?.server.listening ? app.server.close(resolve) : resolve()));
  await app?.recorder.close();
  await daemon?.stop();
  await receiver?.stop();
  if (folder) rmSync(folder, { recursive: true });
});

async function ask(path, customer) {
  const answer = await fetch(url + path, { method: "POST", headers: { "x-customer": customer } });
  return { status: answer.status, ...(await answer.json()) };
}

async function get(path) {
  const answer = await fetch(`${daemon.url}/api/v1/${path}`, { headers: { authorization: `Bearer ${token}` } });
  assert.equal(answer.status, 200, await answer.clone().text());
  return await answer.json();
}

/** The call log's sums by day and team, which are read once: the calls have ended by then. */
let log;
const logged = (from, to, team) => total(log.filter((row) => from <= row.day && row.day <= to && (team ?? row.team) === row.team).map((row) => usd(row.cost)));

test("a runaway loop ends at its team's budget, and the other team goes on", { timeout: 120_000 }, async (t) => {
  daemon.run("budgets", "set", BUDGET, "--for", "tag:team=support", "--limit", "hard");
  daemon.run("rules", "set", "support", "--metric", "cost", "--window", "1d", "--alert", BUDGET, "--where", "tag:team=support", "--route", "billing");
  for (const [team, customers] of Object.entries(CUSTOMERS)) for (const customer of customers) assert.equal((await ask(`/${team}`, customer)).status, 200);

  const stopped = await ask("/support/agent", "ember");
  assert.deepEqual(stopped, { status: 429, error: REASON, scope: SCOPE });

  const { openai: sent, anthropic: searched } = vendors.served;
  await tags({ team: "support" }, () => assert.rejects(app.openai.chat.completions.create({ model: "gpt-4o", messages: [] }), (error) => error instanceof BudgetExceededError && error.message === REASON));
  for (const customer of CUSTOMERS.support) assert.equal((await ask("/support", customer)).status, 429);
  for (const customer of CUSTOMERS.search) assert.equal((await ask("/search", customer)).status, 200);
  assert.deepEqual([vendors.served.openai, vendors.served.anthropic], [sent, searched + 3], "no refused call has reached the vendor");

  assert.equal(await app.recorder.flush(), 0);
  await daemon.loaded();
  log = daemon.sql(`SELECT (occurred_at AT TIME ZONE '${zone}')::date, tags ->> 'team', count(*), string_agg(DISTINCT tags ->> 'customer', ' '), sum(cost_usd)
    FROM api_usage_log GROUP BY 1, 2`).split("\n").map((line) => {
    const [day, team, calls, customers, cost] = line.split("|");
    return { day, team, calls: Number(calls), customers, cost };
  });
  // Each call that the vendors have answered is in the call log, once, and the budget was used up by them.
  const [search, support] = ["search", "support"].map((team) => log.filter((row) => row.day === today && row.team === team));
  assert.deepEqual(search.map(({ calls, customers }) => [calls, customers]), [[searched + 3, "acme borealis cobalt"]]);
  assert.deepEqual(support.map(({ calls, customers }) => [calls, customers]), [[sent, "delta ember"]]);
  assert.equal(usd(support[0].cost), BigInt(sent) * CHAT_USD);
  assert.ok(usd(support[0].cost) >= usd(BUDGET), `${sent} calls`);
  t.diagnostic(`${sent} calls of 0.00225 USD against a budget of ${BUDGET} USD`);
});

test("Slack and a signed webhook tell of it", { timeout: 120_000 }, async () => {
  const [slack] = await until("the budget's alert", () => {
    const found = receiver.at("/slack").filter(({ text }) => text.includes("alert at 100 %"));
    return found.length > 0 && found;
  });
  assert.match(JSON.parse(slack.text).text, /^tallyd: daily budget \(tag team "support"\) \d{3,} % used: \d.* of 0\.10 USD .*; top: "gpt-4o" /);
  const { headers, text } = await until("the rule's alert", () => receiver.at("/billing")[0]);
  const signed = createHmac("sha256", Buffer.from(SECRET.slice("whsec_".length), "base64")).update(`${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${text}`);
  assert.equal(headers["webhook-signature"], `v1,${signed.digest("base64")}`);
  const { type, data } = JSON.parse(text);
  assert.deepEqual([type, data.urgent, data.details.rule, data.details.level], ["rule.trigger", true, "support", "alert"]);
  assert.ok(usd(data.details.value) >= usd(BUDGET), text);
});

test("report, costs, FOCUS export and call log have the same sums, to the last digit", { timeout: 120_000 }, async () => {
  for (const period of ["day", "week"]) {
    const report = JSON.parse(daemon.run("report", "--period", period, "--of", today, "--json"));
    assert.ok(report.first <= today && today <= report.last);
    assert.equal(usd(report.total.cost_usd), logged(report.first, report.last), period);
    const { movers } = report.movers.find(({ by }) => by === "tag:team" || by === "team");
    for (const team of Object.keys(CUSTOMERS)) assert.equal(usd(movers.find(({ name }) => name === team).cost_usd), logged(report.first, report.last, team), `${period} ${team}`);
  }
  const { rows } = await get(`costs?group_by=tag:team&bucket=total&from=${yesterday}&to=${today}`);
  const exported = daemon.run("export", "focus", "--from", yesterday, "--to", today, "--by", "tag:team").trim().split("\n").map(cells);
  const [names, ...lines] = exported;
  const focus = lines.map((line) => Object.fromEntries(line.map((cell, at) => [names[at], cell])));
  for (const team of Object.keys(CUSTOMERS)) {
    const log = logged(yesterday, today, team);
    assert.equal(total(rows.filter((row) => row["tag:team"] === team).map((row) => usd(row.cost_usd))), log, `costs of ${team}`);
    const billed = focus.filter(({ Tags }) => JSON.parse(Tags).team === team).map(({ BilledCost }) => usd(BilledCost));
    assert.equal(total(billed), log, `FOCUS of ${team}`);
  }
  assert.equal(total(focus.map(({ BilledCost }) => usd(BilledCost))), logged(yesterday, today));
  assert.equal(total(rows.map((row) => usd(row.cost_usd))), logged(yesterday, today));
  const { equal, differences } = JSON.parse(daemon.run("reconcile", "--json"));
  assert.deepEqual([equal, differences], [true, []]);
});

/** The cells of a CSV line without line breaks in cells. */
const cells = (line) => [...line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g)].map(([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain);

test("the change since yesterday has its cause, a team and a customer", async () => {
  const change = (more) => get(`costs/change?from=${today}&to=${today}&${more}`);
  const all = await change("group_by=tag:team");
  assert.equal(usd(all.difference_usd), logged(today, today) - logged(yesterday, yesterday));
  assert.equal(total(all.parts.map(({ usd: part }) => usd(part))), usd(all.difference_usd));
  const support = await change("tag:team=support&group_by=tag:customer");
  assert.equal(usd(support.difference_usd), logged(today, today, "support") - logged(yesterday, yesterday, "support"));
  const causes = support.parts.filter(({ usd: part }) => usd(part) !== 0n);
  assert.deepEqual(causes.map(({ cause, usd: part }) => [cause, usd(part)]), [["volume", usd(support.difference_usd)]]);
  assert.equal(support.movers[0]["tag:customer"], "ember", JSON.stringify(support.movers));
});

test("the guide shows this server", () => {
  const guide = readFileSync(new URL("../../../docs/guide/story.md", import.meta.url), "utf8");
  const server = readFileSync(new URL("../example/teams.mjs", import.meta.url), "utf8");
  const flush = (text) => text.replace(/^ +/gm, "");
  const pieces = [...guide.matchAll(/```js\n([\s\S]*?)```/g)].map((match) => flush(match[1]));
  assert.equal(pieces.length, 3);
  for (const piece of pieces) assert.ok(flush(server).includes(piece), piece);
});
