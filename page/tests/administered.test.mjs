// Sessions over time, tokens, repricing, decisions about many rows at once, and deploys in the chart of costs.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { show, stage } from "./browser.mjs";
import { until } from "./daemon.mjs";
import { ZONE, addDays, at, today } from "./noon.mjs";

const day = today();
const call = (date, model, cost) => ({ provider: "acme", model, app: "web", occurred_at: at(date, "09:00"), input_tokens: 1_000_000, ...(cost ? { cost_usd: cost } : {}) });
const stand = stage(ZONE, [call(day, "known", "1.25"), call(day, "first"), call(addDays(day, -1), "first"), call(day, "second"), call(day, "third")]);

const words = (text) => text.split(/\s+/).filter(Boolean).join(" ");
const rows = async (table) => (await table.locator("tbody tr").allInnerTexts()).map(words);
/** The table's rows, once there are as many as expected. */
const shown = (table, count) => until(`${count} rows`, async () => {
  const found = await rows(table);
  if (found.length !== count) throw new Error(found.join(" / "));
  return found;
});
async function ask(method, path, body, token = stand.token) {
  const answer = await fetch(`${stand.daemon.url}${path}`, { method, headers: { authorization: `Bearer ${token}`, "content-type": "application/json" }, body: JSON.stringify(body) });
  const text = await answer.text();
  return { status: answer.status, json: text ? JSON.parse(text) : null };
}

test("sessions have a line over time, in which an hour without a sample is a gap", async () => {
  stand.daemon.sql(`
    CREATE SCHEMA auth;
    CREATE TABLE auth.users (id uuid PRIMARY KEY, last_sign_in_at timestamptz, banned_until timestamptz, deleted_at timestamptz);
    CREATE TABLE auth.sessions (user_id uuid, created_at timestamptz, refreshed_at timestamp, not_after timestamptz);
    INSERT INTO tallyd_session_samples SELECT date_trunc('hour', now(), 'UTC') - n * interval '1 hour', 1000 + n, 40, 30, 20 FROM generate_series(0, 5) AS n WHERE n <> 2
      ON CONFLICT (hour) DO UPDATE SET active = excluded.active`);
  await stand.inside(async (tab, page) => {
    await show(tab, stand.daemon, "sessions");
    const found = await shown(page.getByRole("table", { name: "Sessions by hour" }), 5);
    assert.match(found[0], /:00 1,000 40 30 20$/);
    assert.match(found[4], /:00 1,005 40 30 20$/);
    await page.getByText("1 hour has no sample").waitFor();
    const plot = page.locator(".plot");
    await plot.focus();
    for (let step = 0; step < 4; step += 1) await page.keyboard.press("ArrowRight");
    await page.locator(".tooltip").getByText("No value").waitFor();
    await page.keyboard.press("ArrowRight");
    await page.locator(".tooltip").getByText("1,001").waitFor();
    assert.deepEqual(await tab.axe(), []);
    await page.getByRole("button", { name: "90 days" }).click();
    assert.match(page.url(), /last=90$/);
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Download CSV" }).click()]);
    assert.equal(readFileSync(await download.path(), "utf8").trim().split("\n").length, 6);
  });
});

test("a token is created, shown once, works, and is revoked; the view is for admins", async () => {
  const reader = await stand.daemon.token("read");
  await stand.inside(async (tab, page) => {
    await show(tab, stand.daemon, "tokens");
    await page.getByRole("button", { name: "Create a token" }).click();
    await page.getByLabel("Name").fill("ci");
    await page.getByLabel("Role").selectOption("ingest");
    await page.getByLabel("Ends after days").fill("30");
    await page.getByLabel("Costs that it may state").selectOption("refuse");
    await page.getByRole("button", { name: "Create", exact: true }).click();
    const text = await page.getByLabel("The token", { exact: true }).innerText();
    assert.deepEqual(await tab.axe(), [], "the token");
    await page.getByRole("button", { name: "Done" }).click();
    assert.equal((await ask("POST", "/api/v1/records", { provider: "acme", model: "known", cost_usd: "1" }, text)).json.refused, 1);
    assert.equal(await page.getByText(text.slice(-20)).count(), 0, "it is shown once");
    const table = page.getByRole("table", { name: "Tokens" });
    const found = await shown(table, 3);
    assert.match(found[0], /^ci ingest stated costs: none .*Revoke$/);
    assert.ok(found.some((row) => row.includes("this session")), found.join(" / "));
    page.once("dialog", (dialog) => void dialog.accept());
    await page.getByRole("button", { name: "Revoke the token ci" }).click();
    await page.getByText("The token ci was revoked").waitFor();
    await shown(table, 2);
    assert.equal((await ask("POST", "/api/v1/records", { provider: "acme" }, text)).status, 401);
    await page.getByRole("button", { name: "All", exact: true }).click();
    assert.match((await shown(table, 3))[0], /^ci .* Revoked/);
    assert.deepEqual(await tab.axe(), []);
  });
  const admin = stand.token;
  stand.token = reader;
  await stand.inside(async (tab, page) => {
    await show(tab, stand.daemon, "tokens");
    await page.getByRole("heading", { name: "Overview" }).waitFor();
    assert.equal(await page.getByRole("navigation", { name: "Views" }).getByRole("link", { name: "Tokens" }).count(), 0);
  });
  stand.token = admin;
});

test("calls are repriced from the view of prices: some models, then those of a new price", async () => {
  for (const model of ["first", "second"]) {
    assert.equal((await ask("POST", "/api/v1/prices", { provider: "acme", model, effective_from: addDays(day, -9), per_million: { input: "2" } })).status, 200);
  }
  const unpriced = () => stand.daemon.sql("SELECT string_agg(model || ' ' || unpriced_calls, ', ' ORDER BY model, day) FROM daily_api_costs WHERE unpriced_calls > 0");
  await until("the daemon has the prices", async () => (await ask("GET", "/api/v1/unpriced")).json.models.filter(({ priceable }) => priceable).length === 2);
  await stand.inside(async (tab, page) => {
    await show(tab, stand.daemon, "prices?provider=acme");
    await page.getByLabel("Select first").check();
    await page.getByRole("button", { name: "Reprice 1 model…" }).click();
    await page.getByRole("button", { name: "Show what would change" }).click();
    await page.getByText("2 of 2 calls would change").waitFor();
    assert.deepEqual(await rows(page.getByRole("table", { name: "Plan by model" })), ["first 2 unpriced $4.00"]);
    assert.deepEqual(await tab.axe(), [], "the plan");
    assert.match(unpriced(), /first 1/, "a plan changes nothing");
    await page.getByRole("button", { name: "Reprice 2 calls" }).click();
    await page.getByText("2 calls were priced anew, 2 of them for the first time: +$4.00.").waitFor();
    assert.equal(unpriced(), "second 1, third 1");
    await page.getByRole("button", { name: "Reprice second" }).click();
    await page.getByRole("textbox", { name: "Model" }).fill("nothing");
    await page.getByRole("button", { name: "Show what would change" }).click();
    await page.getByText("None of 0 calls would change.").waitFor();
    assert.ok(await page.getByRole("button", { name: "Reprice 0 calls" }).isDisabled());
    await page.getByRole("button", { name: "Cancel" }).click();
    await page.getByRole("button", { name: "Set a price of third" }).click();
    await page.getByLabel("Input").fill("3");
    await page.getByRole("button", { name: "Preview impact" }).click();
    await page.getByRole("button", { name: "Add this price" }).click();
    await page.getByRole("button", { name: "Reprice its calls…" }).click();
    await page.getByRole("button", { name: "Show what would change" }).click();
    await page.getByRole("button", { name: "Reprice 2 calls" }).click();
    await page.getByText("2 calls were priced anew, 2 of them").waitFor();
    assert.equal(unpriced(), "");
  });
  JSON.parse(stand.daemon.run("reconcile", "--json"));
});

test("dead letters and alerts are decided about by selection, and by all that match", async () => {
  const wrong = (n, more = {}) => ({ provider: "acme", model: "known", cost_usd: "1", colour: n, ...more });
  stand.daemon.refuse(wrong(1), wrong(2), wrong(3), { provider: "acme", input_tokens: -1 }, { provider: "acme", output_tokens: -1 });
  const open = () => stand.daemon.sql("SELECT count(*) FROM dead_letters WHERE (field = 'colour' OR code = 'range') AND settled_at IS NULL");
  await until("the letters are there", () => open() === "5");
  stand.daemon.sql("INSERT INTO api_alerts (kind, key, message, details) SELECT 'test', 'k' || n, 'test alert ' || n, '{}' FROM generate_series(1, 3) AS n");
  await stand.inside(async (tab, page) => {
    await show(tab, stand.daemon, "dead-letters?field=colour");
    const table = page.getByRole("table", { name: "Dead letters" });
    await shown(table, 3);
    for (const box of (await table.getByRole("checkbox", { name: /^Select letter/ }).all()).slice(0, 2)) await box.check();
    assert.deepEqual(await tab.axe(), [], "a selection");
    await page.getByRole("button", { name: "Retry 2 selected without it" }).click();
    await page.getByText("2 records were accepted and loaded.").waitFor();
    await shown(table, 1);
    await show(tab, stand.daemon, "dead-letters?code=range");
    await shown(table, 2);
    page.once("dialog", (dialog) => void dialog.accept());
    await page.getByRole("button", { name: "Drop all that match" }).click();
    await page.getByText("2 letters were dropped.").waitFor();
    assert.equal(open(), "1");
    await show(tab, stand.daemon, "alerts");
    await page.getByLabel("Select: test alert 1").check();
    await page.getByLabel("Select: test alert 3").check();
    assert.deepEqual(await tab.axe(), [], "alerts");
    await page.getByRole("button", { name: "Acknowledge 2 selected" }).click();
    await until("they are acknowledged", () => stand.daemon.sql("SELECT string_agg(message, '') FROM api_alerts WHERE acknowledged_at IS NULL") === "test alert 2");
  });
});

test("a deploy that a job told is marked in the chart, listed, and removed", async () => {
  const job = await stand.daemon.token("ingest", "job");
  for (const [app, version] of [["web", "1.4.2"], ["worker", "7"]]) {
    assert.equal((await ask("POST", "/api/v1/deploys", { app, version, at: at(day, "08:00"), by: "ada" }, job)).status, 200);
  }
  await stand.inside(async (tab, page) => {
    await show(tab, stand.daemon, "costs?days=7&by=model");
    await page.getByText("2 deploys are marked").click();
    await page.getByText(/08:00 worker 7 by ada$/).waitFor();
    await page.locator(".plot").focus();
    await page.keyboard.press("End");
    await page.locator(".tooltip").getByText("Deployed: web 1.4.2 (08:00), worker 7 (08:00)").waitFor();
    assert.deepEqual(await tab.axe(), []);
    page.once("dialog", (dialog) => void dialog.accept());
    await page.getByRole("button", { name: "Remove the deploy worker 7" }).click();
    await page.getByText("1 deploy is marked").waitFor();
    await show(tab, stand.daemon, "costs?days=7&app=worker");
    assert.equal(await page.getByText("is marked").count(), 0);
    await show(tab, stand.daemon, "overview?app=web");
    await page.getByText("1 deploy is marked").waitFor();
  });
});
