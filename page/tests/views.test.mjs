// Two dimensions at once, saved views, alert rules, reports, latencies, and the bounds of sums.
import assert from "node:assert/strict";
import { test } from "node:test";
import { settled, show, stage } from "./browser.mjs";
import { until } from "./daemon.mjs";
import { ZONE, addDays, at, today } from "./noon.mjs";

const day = today();
const yesterday = addDays(day, -1);
const call = (date, provider, model, user, cost, more = {}) => ({ provider, model, user_id: user, occurred_at: at(date, "09:00"), ...(cost ? { cost_usd: cost } : {}), tags: { team: "search" }, ...more });
const CALLS = [
  call(day, "acme", "alpha", "ann", "1.25", { latency_ms: 100 }), call(day, "acme", "alpha", "ben", "2", { latency_ms: 1_500 }),
  call(day, "acme", "beta", "ann", "4", { metadata: { incomplete: true } }),
  call(day, "other", "gamma", "cleo", "0.5", { tags: { team: "support" } }), call(day, "acme", "unknown", "ann", null, { input_tokens: 1_000_000 }),
  call(yesterday, "acme", "alpha", "ann", "1"), call(yesterday, "acme", "beta", "ben", "3", { status: 500 }),
];

const stand = stage(ZONE, CALLS);

const words = (text) => text.split(/\s+/).filter(Boolean).join(" ");
const rows = async (table) => (await table.locator("tbody tr").allInnerTexts()).map(words);
/** Waits until a table has these rows. */
const shows = (table, expected) => until(`the table shows ${expected.join(" / ")}`, async () => {
  const found = await rows(table);
  if (found.join() !== expected.join()) throw new Error(`it shows ${found.join(" / ")}`);
  return true;
});

test("costs by two dimensions add up, lead to the calls of a cell, and change places", async () => {
  await stand.inside(async (tab, page) => {
    const of = `from=${day}&to=${day}`;
    await show(tab, stand.daemon, `costs?${of}`);
    await page.getByLabel("Split by").selectOption("model");
    const table = page.getByRole("table", { name: "Cost by provider and model" });
    await shows(table, ["acme $4.0000 $3.2500 — unpriced $7.2500 plus 1 unpriced call", "other — — $0.5000 — $0.5000"]);
    assert.deepEqual((await table.locator("thead th").allInnerTexts()).map(words), ["Provider", "beta", "alpha", "gamma", "unknown", "Total ↓"]);
    assert.equal(words(await table.locator("tfoot tr").innerText()), "Total $4.0000 $3.2500 $0.5000 unpriced $7.7500 plus 1 unpriced call");
    assert.equal(new URL(page.url()).hash, `#/costs?${of}&split=model`);
    assert.deepEqual(await tab.axe(), []);
    await page.getByRole("button", { name: "Calls", exact: true }).click();
    await shows(page.getByRole("table", { name: "Calls by provider and model" }), ["acme 1 2 — 1 4", "other — — 1 — 1"]);
    await page.goBack();
    await page.getByRole("button", { name: "Swap" }).click();
    await shows(page.getByRole("table", { name: "Cost by model and provider" }), ["beta $4.0000 — $4.0000", "alpha $3.2500 — $3.2500", "gamma — $0.5000 $0.5000", "unknown unpriced — unpriced"]);
    await page.getByRole("heading", { name: "Cost by model", exact: true }).waitFor();
    await page.goBack();
    await table.locator("tbody tr", { hasText: "acme" }).getByRole("link", { name: "$3.2500" }).click();
    await page.getByRole("heading", { name: "Cost by user" }).waitFor();
    await settled(page);
    assert.equal(new URL(page.url()).hash, `#/costs?${of}&model=alpha&provider=acme&by=user`);
    await page.locator("tbody tr", { hasText: "ben" }).getByText("$2.00").first().waitFor();
    // The other view keeps both dimensions; a group leads to the one that it is split by.
    await show(tab, stand.daemon, `costs?${of}&by=tag:team&split=user`);
    await page.getByRole("navigation", { name: "Views" }).getByRole("link", { name: "Overview" }).click();
    await page.getByRole("navigation", { name: "Views" }).getByRole("link", { name: "Costs" }).click();
    await page.getByRole("table", { name: "Cost by team and user" }).getByRole("link", { name: "search" }).click();
    await page.getByRole("heading", { name: "Cost by user" }).waitFor();
    await show(tab, stand.daemon, "costs?by=user&split=model&days=90");
    await page.getByText("This range is too long for both").waitFor();
    await page.getByRole("button", { name: "Show 30 days" }).click();
    await shows(page.getByRole("table", { name: "Cost by user and model" }), ["ann $4.0000 $2.2500 — unpriced $6.2500 plus 1 unpriced call", "ben $3.0000 $2.0000 — — $5.0000", "cleo — — $0.5000 — $0.5000"]);
  });
});

test("a view is saved under a name, opened from any other, renamed and deleted; its link is copied", async () => {
  await stand.inside(async (tab, page) => {
    await tab.context.grantPermissions(["clipboard-read", "clipboard-write"]);
    const hash = "#/costs?by=model&days=7&split=user";
    await show(tab, stand.daemon, hash.slice(2));
    await page.getByRole("button", { name: "Saved views" }).click();
    await page.getByLabel("Name of this view").fill("Search team");
    await page.getByRole("button", { name: "Save", exact: true }).click();
    await page.getByRole("button", { name: "View: Search team" }).waitFor();
    await page.getByRole("button", { name: "Copy link to this view" }).click();
    await page.getByText("Link copied").waitFor();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), page.url());
    assert.deepEqual(await tab.axe(), []);
    await page.keyboard.press("Escape");
    await page.getByRole("navigation", { name: "Views" }).getByRole("link", { name: "Records" }).click();
    await page.getByRole("button", { name: "Saved views" }).click();
    await page.getByLabel("Name of this view").fill("Records");
    await page.getByRole("button", { name: "Save", exact: true }).click();
    const list = page.getByRole("group", { name: "Saved views" });
    await list.getByRole("button", { name: "Rename Search team" }).click();
    await page.getByLabel("New name of Search team").fill("Records");
    await page.keyboard.press("Enter");
    await list.getByRole("alert").getByText("A view with the name “Records” is there already.").waitFor();
    await page.getByLabel("New name of Search team").fill("Models");
    await page.keyboard.press("Enter");
    await list.getByRole("link", { name: "Models" }).click();
    await page.getByRole("table", { name: "Cost by model and user" }).waitFor();
    assert.equal(new URL(page.url()).hash, hash);
    // Another tab of the browser has them, too.
    const second = await tab.context.newPage();
    await second.goto(`${stand.daemon.url}/#/overview`);
    await second.getByRole("button", { name: "Saved views" }).click();
    await second.getByRole("link", { name: "Models" }).waitFor();
    second.once("dialog", (dialog) => void dialog.accept());
    await second.getByRole("button", { name: "Delete Models" }).click();
    await second.getByText("“Models” was deleted.").waitFor();
    await page.getByRole("button", { name: "Saved views" }).waitFor();
    await second.close();
    assert.deepEqual(JSON.parse(await page.evaluate(() => localStorage.getItem("tallyd.views"))).map(({ name }) => name), ["Records"]);
  });
});

test("a rule is set, its wrong values are told at their fields, its state and last alert are shown, it is changed and removed", async () => {
  await stand.inside(async (tab, page) => {
    // A wrong body is answered with 400, which browsers report.
    tab.expected.push("400");
    await show(tab, stand.daemon, "rules");
    await page.getByText("No rule is set").waitFor();
    await page.getByRole("button", { name: "Set a rule" }).click();
    const fill = async (label, value) => { await page.getByLabel(label, { exact: label === "Name" }).fill(value); };
    const save = async (said) => {
      await page.getByRole("button", { name: "Save" }).click();
      const wrong = page.locator("dialog").getByRole("alert");
      await wrong.getByText(said).waitFor();
      assert.equal(await wrong.count(), 1);
      // The field has the focus, and is described by the message.
      const described = () => page.evaluate(() => document.getElementById(document.activeElement.getAttribute("aria-describedby"))?.innerText ?? "");
      await until(`the field of ${said} has the focus`, async () => said.test(await described()));
    };
    await fill("Name", "spend");
    await fill("Window", "5x");
    await fill("Alert from", "5");
    await save(/“5x” is not a window\. Write 1h to 2160h, or 1d to 90d\./);
    assert.deepEqual(await tab.axe(), [], "a wrong value");
    await fill("Window", "1d");
    await fill("Warning from", "9");
    await save(/The warning of 9 is not below the alert of 5\./);
    await fill("Warning from", "0.5");
    await fill("Route", "nowhere");
    // The daemon knows the routes.
    await save(/Route: none of this name is configured; there are \[/);
    await fill("Route", "default");
    await fill("Provider", "Acme");
    await page.locator("select[name=other]").selectOption("tag:team");
    await fill("Name of the team", "search");
    await fill("Owner", "platform");
    await page.getByRole("button", { name: "Save" }).click();
    await page.getByText("The rule spend is set.").waitFor();
    const row = page.locator("tbody tr");
    await row.getByText("Cost in 1 day · provider acme · team search · warning from $0.50, alert from $5.00").waitFor();
    await row.getByText("Alert", { exact: true }).waitFor();
    await row.getByText("now $7.25").waitFor();
    await row.getByRole("link", { name: day }).waitFor();
    assert.deepEqual(await tab.axe(), [], "a rule");
    await page.getByRole("button", { name: "Edit the rule spend" }).click();
    assert.deepEqual(await Promise.all(["Window", "Warning from", "Owner"].map((label) => page.getByLabel(label).inputValue())), ["1d", "0.5", "platform"]);
    await fill("Alert from", "500");
    await fill("Quiet hours", "22:00-07:00");
    await page.getByRole("button", { name: "Save" }).click();
    await row.getByText("alert from $500.00").waitFor();
    await row.getByText("quiet 22:00-07:00").waitFor();
    await page.getByRole("button", { name: "Pause the rule spend" }).click();
    await row.getByText("Paused", { exact: true }).waitFor();
    await page.getByText("The rule spend is paused").waitFor();
    await page.getByRole("button", { name: "Resume the rule spend" }).click();
    await row.getByText("Warning", { exact: true }).waitFor();
    page.once("dialog", (dialog) => void dialog.accept());
    await page.getByRole("button", { name: "Remove the rule spend" }).click();
    await page.getByText("No rule is set").waitFor();
    assert.equal(stand.daemon.sql("SELECT string_agg(action, ' ' ORDER BY id) FROM tallyd_audit_log WHERE action LIKE 'alert_rule%'"), "alert_rule.set alert_rule.set alert_rule.set alert_rule.set alert_rule.remove");
    // Its alerts stay, under their kind.
    await show(tab, stand.daemon, "alerts?show=all");
    await page.locator(".badge", { hasText: "Rule" }).first().waitFor();
  });
});

test("reports of days, weeks and months have the figures that routes get", async () => {
  stand.daemon.run("budgets", "set", "10", "--period", "day");
  await until("the budget is evaluated", () => stand.daemon.sql("SELECT count(*) FROM api_budget_states") === "1");
  await stand.inside(async (tab, page) => {
    const { total } = JSON.parse(stand.daemon.run("report", "--period", "day", "--of", day, "--json"));
    assert.equal(total.cost_usd, "7.75");
    await show(tab, stand.daemon, "reports?period=day");
    const tile = (label) => page.locator(".tile").filter({ has: page.getByText(label, { exact: true }) });
    await tile("Failed calls").getByText("50.0 %").waitFor();
    await page.getByRole("button", { name: "After" }).click();
    await until("the day's sum is shown", async () => words(await tile("Cost").innerText()) === "Cost $7.75 +$3.75, +93.8 % plus 1 unpriced call");
    await page.getByText("This day is not over yet.").waitFor();
    await shows(page.getByRole("table", { name: "Top movers by team" }), ["search $7.25 +$3.25 +81.3 %", "support $0.50 +$0.50 new"]);
    await page.getByRole("table", { name: "Budgets" }).getByText("$7.75 of $10.00").waitFor();
    assert.deepEqual(await tab.axe(), []);
    assert.ok(await page.getByRole("button", { name: "After" }).isDisabled(), "the next day has not begun");
    await page.getByRole("table", { name: "Top movers by team" }).getByRole("link", { name: "search" }).click();
    await page.locator(".tile").first().getByText("$7.25", { exact: true }).waitFor();
    assert.equal(new URL(page.url()).hash, `#/costs?from=${day}&to=${day}&tag:team=search`);
    for (const period of ["week", "month"]) {
      await show(tab, stand.daemon, `reports?period=${period}&of=${day}`);
      const { total } = JSON.parse(stand.daemon.run("report", "--period", period, "--of", day, "--json"));
      await tile("Calls").locator(".tile-value").getByText(String(total.calls), { exact: true }).waitFor();
    }
  });
});

test("a sum says in which range it lies and why, and models have their latencies, for ranges that have them", async () => {
  const headers = { authorization: `Bearer ${stand.token}`, "content-type": "application/json" };
  // The nearest known prices are those of the provider's other models.
  for (const [model, input] of [["small", "1"], ["large", "10"]]) {
    const price = { provider: "acme", model, effective_from: "2020-01-01T00:00:00Z", source: "a test", per_million: { input } };
    const answer = await fetch(`${stand.daemon.url}/api/v1/prices`, { method: "POST", headers, body: JSON.stringify(price) });
    assert.ok(answer.ok, await answer.text());
  }
  await until("the daemon has the prices", async () => (await (await fetch(`${stand.daemon.url}/api/v1/costs/bounds?days=1`, { headers })).json()).high_usd === "17.75");
  await stand.inside(async (tab, page) => {
    const of = `from=${day}&to=${day}`;
    await show(tab, stand.daemon, `costs?by=model&${of}`);
    const bounds = page.locator("details.bounds");
    await bounds.getByText("With 1 unpriced call this sum is between $8.75 and $17.75. 1 stream broke off").waitFor();
    await bounds.locator("summary").click();
    await shows(page.getByRole("table", { name: "What the sum lacks" }), [
      "beta acme broke off 1 $0.00 not known the provider bills tokens that it did not report: the most is unknown, and not in the sum's bounds",
      "unknown acme unpriced 1 $1.00 as small $10.00 as large",
    ]);
    assert.deepEqual(await tab.axe(), []);
    const table = page.getByRole("table", { name: "Totals by model" });
    const latencies = async (name) => (await table.locator("tbody tr", { hasText: name }).locator("td").allInnerTexts()).slice(-2).join(" ");
    await until("the models have their latencies", async () => (await latencies("alpha")) === "100 ms 1.50 s");
    assert.equal(await latencies("gamma"), "— —");
    await table.getByRole("button", { name: "p95" }).click();
    await until("the slowest come first", async () => (await rows(table))[0].startsWith("alpha"));
    await show(tab, stand.daemon, `costs?by=model&days=90`);
    await page.getByText("choose at most 31 days to see it").waitFor();
    assert.equal(await table.getByRole("button", { name: "p95" }).count(), 0);
    await bounds.getByText("With 1 unpriced call this sum is between $12.75 and $21.75.").waitFor();
    await show(tab, stand.daemon, `costs?provider=other&${of}`);
    await page.getByText("This sum is exact: every call is priced, and no stream broke off.").waitFor();
    await show(tab, stand.daemon, "overview");
    await bounds.getByText("between $12.75 and $21.75").waitFor();
  });
});

test("vendor bills show each day of each vendor, where it stands and the parts of its difference", async () => {
  const entry = (number, ago, state, cause, billed, residues = []) => `(${number}, 'anthropic', (now() AT TIME ZONE 'UTC')::date - ${ago}, '${state}', ${cause}, 3, 0, 2, ${billed}, '${JSON.stringify(residues)}', '', '', now(), '', '${number}')`;
  const residue = { kind: "unrecorded_model", model: "claude-opus-4-5", workspace: "wrkspc_lab", difference_usd: "-0.42", note: "9 tokens" };
  await stand.inside(async (tab, page) => {
    await show(tab, stand.daemon, "bills");
    await page.getByText("No day is closed").waitFor();
    stand.daemon.sql(`INSERT INTO tallyd_vendor_closings (number, vendor, day, state, cause, calls, unpriced_calls, recorded_usd, billed_usd, residues, bill_sha256, sums, at, previous, hash) VALUES
      ${entry(1, 4, "matched", "NULL", 2)}, ${entry(2, 3, "differs", "NULL", 2.42, [residue])}, ${entry(3, 2, "matched", "NULL", 2)}, ${entry(4, 2, "open", "'amended'", 2)}`);
    await page.reload();
    await page.getByRole("heading", { name: "Anthropic: 2 of 4 days closed, 1 differs by −$0.42" }).waitFor();
    const found = (await rows(page.getByRole("table", { name: "Days of anthropic" }))).map((row) => row.replace(/^\S+ \S+ \S+ \S+ /, ""));
    assert.deepEqual(found, ["not closed — — —", "open $2.00 $2.00 $0.00 a call was amended or voided", "differs $2.42 $2.00 −$0.42 unrecorded model", "matched $2.00 $2.00 $0.00"]);
    await page.locator("tbody tr", { hasText: "differs" }).locator(".sort").click();
    assert.deepEqual(await rows(page.getByRole("table", { name: "Parts of the difference" })), ["unrecorded model claude-opus-4-5 wrkspc_lab −$0.42 9 tokens"]);
    assert.deepEqual(await tab.axe(), []);
  });
});
