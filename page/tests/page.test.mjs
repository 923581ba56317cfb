// The page in a real browser, on a real daemon: each view, an edit, an export, an error, a session that ends. No request
// leaves the host, nothing is written to the console, and axe finds nothing in either scheme.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { AxeBuilder } from "@axe-core/playwright";
import { chromium } from "playwright-core";
import { fill, startDaemon, until } from "../../tests/node/daemon.mjs";

const ARGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const VIEWS = ["overview", "costs", "users", "sessions", "budgets", "prices", "records", "dead-letters"];

let daemon, browser;

before(async () => {
  daemon = await startDaemon();
  await fill(daemon);
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ARGS });
}, { timeout: 120_000 });

after(async () => {
  await browser?.close();
  await daemon?.stop();
});

/** A signed-in page that notes what it should not do. */
async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, acceptDownloads: true, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  const faults = [];
  page.on("console", (message) => faults.push(`console: ${message.text()}`));
  page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
  page.on("request", (request) => {
    if (!request.url().startsWith(daemon.url) && !request.url().startsWith("data:")) faults.push(`elsewhere: ${request.url()}`);
  });
  const go = async (hash) => {
    await page.goto(`${daemon.url}/${hash}`);
    await page.waitForSelector("main h1");
  };
  await page.goto(daemon.link());
  await page.waitForSelector("nav");
  return { context, page, faults, go, close: async () => { await context.close(); assert.deepEqual(faults, []); } };
}

/** Settled: an answer is shown, nothing loads. */
async function settled(page) {
  await page.waitForSelector("main .panel, main .stats");
  await page.waitForFunction(() => !document.querySelector(".loading, .blank"));
}

async function violations(page) {
  const found = await new AxeBuilder({ page }).withTags(["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]).analyze();
  return found.violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.html).slice(0, 3).join(" ")}`);
}

test("a link signs in once, and the address keeps nothing of it", async () => {
  const link = daemon.link();
  const { page, close } = await open();
  await page.goto("about:blank");
  await page.context().clearCookies();
  await page.goto(link);
  await page.waitForSelector("nav");
  assert.equal(new URL(page.url()).hash, "");
  const [cookie] = await page.context().cookies();
  assert.deepEqual([cookie.name, cookie.httpOnly, cookie.sameSite], ["tallyd_session", true, "Strict"]);
  assert.equal(await page.evaluate(() => document.cookie), "", "scripts do not see it");
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.waitForSelector(".sign-in");
  await close();
  // Again: the browser says in its console that the answer was 401, and so this page is not asked to be silent.
  const context = await browser.newContext();
  const other = await context.newPage();
  await other.goto(link);
  await other.getByRole("alert").getByText("the code is used up or unknown").waitFor();
  await context.close();
});

test("a token signs in, a wrong one is told, and a revoked one is out", async () => {
  const made = JSON.parse(daemon.run("token", "create", "--name", "reader", "--role", "read", "--json"));
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(`${daemon.url}/#/budgets`);
  await page.getByLabel("Token").fill(made.token.slice(0, -1));
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("alert").getByText("the token is unknown, revoked or expired").waitFor();
  await until("the daemon knows the token", async () => {
    await page.getByLabel("Token").fill(made.token);
    await page.getByRole("button", { name: "Sign in" }).click();
    return await page.waitForSelector("nav", { timeout: 1_000 }).then(() => true, () => false);
  });
  await page.getByRole("heading", { name: "Budgets", level: 1 }).waitFor();
  assert.equal(await page.getByRole("button", { name: "Set a budget" }).count(), 0, "who may only read is offered no change");
  daemon.run("token", "revoke", String(made.id));
  await page.getByText("Your session is over.").waitFor();
  await context.close();
});

for (const colorScheme of ["light", "dark"]) {
  test(`each view is there, and axe finds nothing (${colorScheme})`, async () => {
    const { page, go, close } = await open({ colorScheme });
    for (const view of VIEWS) {
      await go(`#/${view}`);
      await settled(page);
      assert.deepEqual(await violations(page), [], view);
    }
    const user = await page.evaluate(async () => (await (await fetch("/api/v1/users?limit=1")).json()).users[0].id);
    await go(`#/users/${user}`);
    await settled(page);
    assert.deepEqual(await violations(page), [], "a user");
    await go("#/budgets");
    await page.getByRole("button", { name: "Set a budget" }).click();
    assert.deepEqual(await violations(page), [], "a dialog");
    await close();
  });
}

test("nothing is cut off on a phone", async () => {
  const { page, go, close } = await open({ viewport: { width: 360, height: 780 } });
  for (const view of VIEWS) {
    await go(`#/${view}`);
    await settled(page);
    const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(wider <= 0, `${view} is ${wider} px wider than the screen`);
  }
  await close();
});

test("the numbers are those of the database", async () => {
  const { page, go, close } = await open();
  await go("#/costs?range=all&by=provider");
  await settled(page);
  const shown = (await page.locator("tfoot td").allInnerTexts()).map((text) => text.trim()).filter(Boolean);
  const calls = Number(daemon.sql("SELECT sum(calls) FROM daily_api_costs"));
  const cost = Number(daemon.sql("SELECT round(sum(cost_usd), 2) FROM daily_api_costs"));
  assert.deepEqual(shown, [calls.toLocaleString("en-US"), cost.toLocaleString("en-US", { style: "currency", currency: "USD" })]);
  for (const by of ["Model", "Endpoint", "User"]) {
    await page.getByRole("button", { name: by, exact: true }).click();
    await page.getByRole("region", { name: `Cost by ${by.toLowerCase()}` }).waitFor();
    const total = (await page.locator("tfoot td").last().locator("xpath=preceding-sibling::td[1]").innerText()).trim();
    assert.equal(total, shown[1], by);
  }
  await close();
});

test("filters, sorting and pages are in the address", async () => {
  const { page, go, close } = await open();
  await go("#/users");
  await settled(page);
  await page.getByRole("button", { name: "Claude calls" }).click();
  await page.waitForURL(/sort=claude_calls/);
  await page.getByRole("button", { name: "Next" }).click();
  await page.waitForURL(/offset=50/);
  await page.getByText("51 – 100 of").waitFor();
  await page.getByLabel("Search by id or address").fill("user-00003");
  await page.waitForURL(/search=user-00003/);
  await page.getByText("1 user", { exact: true }).waitFor();
  await page.reload();
  await page.getByText("1 user", { exact: true }).waitFor();
  await page.getByRole("link", { name: "user-00003" }).click();
  await page.getByRole("heading", { name: "user-00003", level: 1 }).waitFor();
  await close();
});

test("a series is hidden and shown, with the keyboard", async () => {
  const { page, go, close } = await open();
  await go("#/costs");
  await settled(page);
  const claude = page.locator(".legend").getByRole("button", { name: "Claude" });
  await claude.focus();
  await page.keyboard.press("Enter");
  assert.equal(await claude.getAttribute("aria-pressed"), "false");
  await page.keyboard.press("Space");
  assert.equal(await claude.getAttribute("aria-pressed"), "true");
  const plot = await page.locator(".plot").boundingBox();
  await page.mouse.move(plot.x + plot.width / 2, plot.y + 100);
  await page.locator(".tip").getByText("Claude").waitFor();
  await close();
});

test("a file has what the table shows", async () => {
  const { page, go, close } = await open();
  await go("#/users");
  await settled(page);
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: "CSV" }).click()]);
  assert.equal(download.suggestedFilename(), "users.csv");
  const lines = (await readFile(await download.path(), "utf8")).trim().split("\n");
  assert.equal(lines.length - 1, Number(daemon.sql("SELECT count(DISTINCT user_id) FROM daily_user_api_costs WHERE user_id <> ''")));
  await close();
});

test("a budget is set, changed and removed", async () => {
  const { page, go, close } = await open();
  await go("#/budgets");
  await page.getByRole("button", { name: "Set a budget" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Of").selectOption("user");
  await dialog.getByLabel("Which").fill("user-00009");
  await dialog.getByLabel("USD").fill("12.5");
  await dialog.getByRole("button", { name: "Save" }).click();
  await page.getByText("User user-00009").waitFor();
  const row = page.locator(".budgets li", { hasText: "user-00009" });
  await row.getByRole("button", { name: "Change" }).click();
  await dialog.getByLabel("USD").fill("13");
  await dialog.getByRole("button", { name: "Save" }).click();
  await row.getByText("$13.00").waitFor();
  await row.getByRole("button", { name: "Remove" }).click();
  await row.getByRole("button", { name: "really?" }).click();
  await row.waitFor({ state: "detached" });
  const actions = daemon.sql("SELECT string_agg(action, ' ' ORDER BY id) FROM tallyd_audit_log WHERE action LIKE 'budget%'");
  assert.equal(actions, "budget.set budget.set budget.remove");
  await close();
});

test("a price is added after a look at what it changes", async () => {
  const { page, go, close } = await open();
  await go("#/overview");
  await page.getByRole("row", { name: /new-1/ }).getByRole("link", { name: "Add a price" }).click();
  const dialog = page.getByRole("dialog");
  assert.equal(await dialog.getByLabel("Model").inputValue(), "new-1");
  const add = dialog.getByRole("button", { name: "Add it" });
  assert.ok(await add.isDisabled(), "not before the look");
  await dialog.getByLabel("Input").fill("3");
  await dialog.getByLabel("Output").fill("15");
  await dialog.getByLabel("Since").fill("2026-01-01");
  await dialog.getByRole("button", { name: "What would it change?" }).click();
  await dialog.getByText("1 would cost $3.00 instead of $0.00").waitFor();
  await add.click();
  await dialog.waitFor({ state: "detached" });
  await page.getByLabel("Search by provider or model").fill("new-1");
  await page.getByText("1 prices").waitFor();
  assert.equal(daemon.sql("SELECT rates #>> '{per_million_tokens,output}' FROM api_prices WHERE model = 'new-1'"), "15");
  await close();
});

test("a dead letter is corrected and retried, another is dropped", async () => {
  const { page, go, close } = await open();
  await go("#/dead-letters");
  await settled(page);
  await page.getByRole("row", { name: /unknown_field/ }).getByRole("button").click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText('"colour": "red"').waitFor();
  assert.equal(await dialog.getByLabel("Correct the field").inputValue(), "colour");
  await dialog.getByRole("button", { name: "Correct and retry" }).click();
  await dialog.waitFor({ state: "detached" });
  await page.getByRole("row", { name: /missing/ }).getByRole("button").click();
  await dialog.getByRole("button", { name: "Drop" }).click();
  await dialog.getByRole("button", { name: "Delete it for good?" }).click();
  await page.getByText("There is none").waitFor();
  assert.equal(daemon.sql("SELECT string_agg(outcome, ' ' ORDER BY outcome) FROM dead_letters"), "dropped retried");
  await close();
});

test("it stays live, says so when it cannot, and goes on by itself", async () => {
  const { page, faults, go, context } = await open();
  await go("#/overview");
  await settled(page);
  const calls = async () => Number((await page.locator(".stat").first().locator(".note").innerText()).split(" ")[0].replaceAll(",", ""));
  const first = await calls();
  daemon.run("record", "--provider", "rentcast", "--endpoint", "/avm");
  await until("the new call is shown", async () => (await calls()) === first + 1);
  assert.deepEqual(faults, []);
  await daemon.down();
  await page.getByText("What stands here is not current").waitFor();
  assert.equal(await calls(), first + 1, "what was known stays");
  await daemon.up();
  await page.getByText("What stands here is not current").waitFor({ state: "detached" });
  await context.close();
});
