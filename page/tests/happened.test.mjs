// The page shows the causes of spend: one filter in all views, comparisons with the range before, from a bar to its calls.
import assert from "node:assert/strict";
import { test } from "node:test";
import { settled, show, stage } from "./browser.mjs";
import { until } from "./daemon.mjs";
import { ZONE, addDays, at, today } from "./noon.mjs";

const day = today();
const then = addDays(day, -2);
const past = addDays(day, -40);
const LONG_ID = "5e0e2c5f-3b5e-4c7b-9a55-6a0a3f0f7d11";

const call = (date, time, model, user, cost, latency, more = {}) => ({ provider: "acme", model, user_id: user, occurred_at: at(date, time), ...(cost ? { cost_usd: cost } : {}), latency_ms: latency, app: "web", tags: { team: "search" }, ...more });
const CALLS = [
  call(then, "09:00", "alpha", "ann", "1", 100), call(then, "09:10", "alpha", "ann", "1.5", 300), call(then, "11:00", "alpha", LONG_ID, "0.5", 200),
  call(then, "12:00", "beta", "ben", "5", 50),
  call(then, "13:00", "gamma", "cleo", "2", 70, { provider: "other" }),
  call(then, "14:00", "unknown", "ann", null, 10),
  call(past, "10:00", "alpha", "ann", "10", 90), call(past, "10:00", "old", "ann", "4", 90),
];

const stand = stage(ZONE, CALLS);

const chips = async (page) => (await page.locator(".chip > span").allInnerTexts()).map((text) => text.replace(/\s+/g, " "));
const row = (page, name) => page.locator("tbody tr").filter({ hasText: name });

test("from the month's chart it is three clicks to the calls, and Back leads the same way back", async () => {
  await stand.inside(async (tab, page) => {
    await show(tab, stand.daemon, "costs");
    const month = page.url();
    const over = await page.locator(".u-over").boundingBox();
    // The base of the bar is the provider that cost most.
    await page.mouse.click(over.x + (over.width * 27.6) / 30.2, over.y + over.height * 0.97);
    await page.getByRole("heading", { name: "Cost by model" }).waitFor();
    assert.equal(new URL(page.url()).hash, `#/costs?provider=acme&from=${then}&to=${then}&by=model`);
    await row(page, "alpha").getByText("$3.00").first().waitFor();
    await row(page, "alpha").getByRole("link", { name: "alpha" }).click();
    await page.getByRole("heading", { name: "Cost by user" }).waitFor();
    await settled(page);
    assert.deepEqual(await chips(page), ["provider: acme", "model: alpha"]);
    await row(page, "ann").getByRole("link", { name: "2", exact: true }).click();
    await page.getByRole("heading", { name: "Records" }).waitFor();
    await until("ann's calls are shown", async () => (await page.locator("tbody tr").count()) === 2);
    assert.deepEqual(await chips(page), ["provider: acme", "model: alpha", "user: ann"]);
    for (const heading of ["Cost by user", "Cost by model", "Cost by provider"]) {
      await page.goBack();
      await page.getByRole("heading", { name: heading }).waitFor();
    }
    assert.equal(page.url(), month);
    // A bar of an hour, by keyboard.
    await show(tab, stand.daemon, `costs?from=${then}&to=${then}&by=model`);
    await page.locator(".plot").focus();
    await page.keyboard.press("End");
    for (let hour = 23; hour > 12; hour -= 1) await page.keyboard.press("ArrowLeft");
    await page.locator(".tooltip").getByText("12:00").waitFor();
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "Records" }).waitFor();
    await until("that hour's call is shown", async () => (await page.locator("tbody tr").allInnerTexts()).join().includes("beta") && (await page.locator("tbody tr").count()) === 1);
    assert.deepEqual(await tab.axe(), []);
  });
});

test("a filter is chosen from suggestions, holds in every view, and its link shows the same", async () => {
  await stand.inside(async (tab, page) => {
    await show(tab, stand.daemon, "costs?days=90");
    await page.getByRole("button", { name: "Add a filter" }).click();
    await page.getByLabel("Filter by").selectOption("user");
    await until("users are suggested", async () => (await page.locator("datalist option").evaluateAll((all) => all.map((one) => one.value))).includes("ann"));
    assert.deepEqual(await tab.axe(), []);
    await page.getByLabel("Name of the user").fill("ann");
    await page.getByLabel("Name of the user").press("Enter");
    await page.locator(".tile").first().getByText("$16.50", { exact: true }).waitFor();
    const views = page.getByRole("navigation", { name: "Views" });
    await views.getByRole("link", { name: "Records" }).click();
    await until("only ann's calls are shown", async () => (await page.locator("tbody tr").count()) === 3);
    await page.getByText("31 days at most").waitFor();
    await views.getByRole("link", { name: "Overview" }).click();
    await page.locator(".compared strong").getByText("$16.50").waitFor();
    assert.deepEqual(await tab.axe(), []);
    const second = await tab.context.newPage();
    await second.goto(page.url());
    await second.locator(".compared strong").getByText("$16.50").waitFor();
    assert.deepEqual(await chips(second), ["user: ann"]);
    await second.close();
    await page.getByRole("button", { name: "Remove the filter user ann" }).click();
    await page.locator(".compared strong").getByText("$24.00").waitFor();
    await page.goBack();
    await page.locator(".compared strong").getByText("$16.50").waitFor();
    await show(tab, stand.daemon, `costs?tag:team=search&days=7`);
    await page.locator(".tile").first().getByText("$10.00", { exact: true }).waitFor();
    await views.getByRole("link", { name: "Records" }).click();
    await until("calls with the tag are shown", async () => (await page.locator("tbody tr").count()) === 6);
  });
});

test("sums are compared with the range before, and say what they lack; movers come in the order of their change", async () => {
  await stand.inside(async (tab, page) => {
    const tile = (label) => page.locator(".tile").filter({ has: page.getByText(label, { exact: true }) });
    await show(tab, stand.daemon, "costs?by=model&table=movers");
    assert.equal((await tile("Cost").innerText()).replace(/\s+/g, " "), "Cost $10.00 −$4.00, −28.6 % plus 1 unpriced call");
    await page.locator(".compared").getByText("$14.00").waitFor();
    assert.equal(await tile("Cost per call").locator(".tile-value").innerText(), "$2.0000");
    const movers = (await page.locator(":not(.bounds *) > table tbody tr").allInnerTexts()).map((text) => text.split(/\s+/).filter(Boolean).join(" "));
    assert.deepEqual(movers, ["alpha $10.00 $3.00 −$7.00 −70.0 %", "beta $0.00 $5.00 +$5.00 new", "old $4.00 $0.00 −$4.00 −100 %", "gamma $0.00 $2.00 +$2.00 new"]);
    assert.deepEqual(await tab.axe(), []);
    // On a month's first days its calls are in the month before.
    await page.getByRole("button", { name: then.slice(0, 7) === day.slice(0, 7) ? "This month" : "Last month" }).click();
    const start = `${then.slice(0, 7)}-01`;
    await until("the month is compared with the same days of the month before", async () => {
      const { from, before } = await page.evaluate(() => ({ from: document.querySelector(".lead").innerText, before: document.querySelector(".compared").innerText }));
      return from.startsWith(`${new Date(`${start}T00:00:00Z`).toLocaleString("en-US", { timeZone: "UTC", month: "short" })} 1`) && / 1(, \d{4})? to |^Compared with .* 1, /.test(before);
    });
    await page.getByRole("button", { name: "Cumulative" }).click();
    await page.getByRole("button", { name: "Cumulative" }).and(page.locator("[aria-pressed=true]")).waitFor();
    await page.goBack();
    await page.getByRole("button", { name: "Each" }).and(page.locator("[aria-pressed=true]")).waitFor();
  });
});

test("the calls of any day are ordered by cost and by latency; a long id stays on one line of a phone", async () => {
  await stand.inside(async (tab, page) => {
    await show(tab, stand.daemon, `records?from=${then}&to=${then}`);
    const order = async (name, expected) => {
      await page.getByRole("button", { name }).click();
      await until(`${name}: ${expected}`, async () => (await page.locator("tbody tr td:nth-child(2)").allInnerTexts()).map((text) => text.split(/\s+/)[1]).join(" ") === expected);
    };
    await order("Dearest", "beta gamma alpha alpha alpha");
    await order("Slowest", "alpha alpha alpha gamma beta unknown");
    await page.getByRole("button", { name: "Day before" }).click();
    await page.getByText("No calls match").waitFor();
    await page.getByRole("button", { name: "Day after" }).click();
    await row(page, "beta").waitFor();
    for (const path of ["costs?by=user", "overview?by=user", `costs?by=user&table=movers&days=90`, "users", `records?user=${LONG_ID}`, `users/${LONG_ID}`]) {
      await show(tab, stand.daemon, path);
      const { wide, inner } = await page.evaluate(() => ({ wide: document.documentElement.scrollWidth, inner: innerWidth }));
      assert.ok(wide <= inner, `${path}: ${wide} of ${inner}`);
      for (const name of await page.locator("td .name", { hasText: LONG_ID }).all()) {
        // Columns that a phone leaves out have no box.
        const box = await name.boundingBox();
        assert.ok(box === null || box.height < 30, `${path}: ${box?.height}`);
      }
    }
  }, { width: 390, height: 844 });
});

test("the difference is split by cause, in sentences, and the parts are the daemon's", async () => {
  await stand.inside(async (tab, page) => {
    const parts = [["volume", "-3.5"], ["new_users", "1"], ["model_mix", "0"], ["errors", "0"], ["tokens_per_call", "0"], ["cache_share", "0"], ["price", "-1.25"], ["tier", "0"], ["other", "-0.25"]];
    const asked = [];
    await page.route(({ pathname }) => pathname === "/api/v1/costs/change", (route) => {
      asked.push(Object.fromEntries(new URL(route.request().url()).searchParams));
      return route.fulfill({ json: { before_usd: "14", after_usd: "10", difference_usd: "-4", before_calls: 2, after_calls: 6, parts: parts.map(([cause, usd]) => ({ cause, usd, note: cause === "other" ? "a stated cost" : null })) } });
    });
    await show(tab, stand.daemon, "costs?provider=acme&table=causes");
    const causes = page.getByRole("table", { name: "Causes of the difference" });
    await causes.locator("strong", { hasText: "Difference" }).waitFor();
    const texts = (await causes.locator("tbody tr").allInnerTexts()).map((text) => text.split(/\s+/).filter(Boolean).join(" "));
    assert.deepEqual(texts, ["Volume −$3.50 −25.0 % fewer calls", "New users +$1.00 +7.1 % calls of users who had not called before", "Price −$1.25 −8.9 % list prices fell", "Other −$0.25 −1.8 % the rest: a stated cost", "Difference −$4.00 −28.6 % 2 calls before, 6 now"]);
    assert.deepEqual(asked[0], { from: addDays(day, -29), to: day, before_from: addDays(day, -59), before_to: addDays(day, -30), provider: "acme" });
    assert.deepEqual(await tab.axe(), []);
  });
});

test("units stand beside costs: the cost of one, its change, the margin", async () => {
  await stand.inside(async (tab, page) => {
    const row = (more) => ({ value: "search", unit: "order", quantity: "20", revenue_usd: "40", cost_usd: "10", calls: 6, unpriced_calls: 1, cost_per_unit_usd: "0.5", margin_usd: "30", margin_percent: "75", ...more });
    await page.route(({ pathname }) => pathname === "/api/v1/units", (route) => {
      const asked = new URL(route.request().url()).searchParams;
      assert.equal(asked.get("group_by"), "tag:team");
      return route.fulfill({ json: { rows: asked.get("to") === day ? [row({}), row({ value: "", unit: null, quantity: null, revenue_usd: null, cost_usd: "0", unpriced_calls: 0, cost_per_unit_usd: null, margin_usd: null, margin_percent: null })] : [row({ cost_per_unit_usd: "0.4" })] } });
    });
    await show(tab, stand.daemon, "costs?by=tag:team&table=units");
    const units = page.getByRole("table", { name: "Cost per unit and margin" });
    await units.waitFor();
    const texts = (await units.locator("tbody tr").allInnerTexts()).map((text) => text.split(/\s+/).filter(Boolean).join(" "));
    assert.deepEqual(texts, ["search order 20 $10.00 plus 1 unpriced call $0.5000 +$0.10, +25.0 % $40.00 $30.00 75.0 %", "(no team) not stated — $0.00 — — — — —"]);
    assert.deepEqual(await tab.axe(), []);
  });
});
