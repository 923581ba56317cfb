// The page's figures are right: units, unpriced calls, small amounts, names, comparisons, zones, age.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { launch, open, show, signIn } from "./browser.mjs";
import { Daemon, until } from "./daemon.mjs";
import { ZONE, addDays, at, local, today } from "./noon.mjs";

const shortDay = (day) => new Intl.DateTimeFormat("en-US", { timeZone: "UTC", month: "short", day: "numeric" }).format(new Date(`${day}T00:00:00Z`));
/** A range as the page writes it. */
const inWords = (from, to) => `${shortDay(from)}${from.slice(0, 4) === to.slice(0, 4) ? "" : `, ${from.slice(0, 4)}`} to ${shortDay(to)}, ${to.slice(0, 4)}`;
const day = today();
const yesterday = addDays(day, -1);
const lastMonthEnd = addDays(`${day.slice(0, 7)}-01`, -1);
const lastMonthStart = `${lastMonthEnd.slice(0, 7)}-01`;

const call = (date, time, cost, more = {}) => ({ provider: "openai", model: "gpt-4o", occurred_at: at(date, time), cost_usd: cost, ...more });
const CALLS = [
  call(day, "00:10", "2", { input_tokens: 80_000_000, app: "web", tags: { team: "search" } }),
  call(day, "00:11", "1.25", { provider: "openrouter", app: "web", tags: { team: "search" } }),
  call(day, "00:12", "0.00001", { provider: "acme", model: "tiny", user_id: "saver" }),
  ...[1, 2, 3].map((second) => ({ provider: "acme", model: "unknown", user_id: "stranger", occurred_at: at(day, `00:0${second}`) })),
  call(yesterday, "00:30", "1"),
  call(yesterday, "23:30", "2"),
  call(lastMonthStart, "12:00", "5"),
  call(lastMonthEnd, "12:00", "7"),
  call(addDays(day, -40), "12:00", "11", { app: "web" }),
];
const priced = CALLS.filter((one) => one.cost_usd !== undefined).map((one) => ({ ...one, cost: Number(one.cost_usd), local: local(new Date(one.occurred_at)).toISOString() }));
const spent = (which) => `$${priced.filter(({ local }) => which(local.slice(0, 10), local.slice(11, 13))).reduce((sum, { cost }) => sum + cost, 0).toFixed(2)}`;

let daemon;
let browser;
let token;

before(async () => {
  daemon = await Daemon.start({ env: { TALLYD_ROLLUP_TIME_ZONE: ZONE, TALLYD_ALERTS_INTERVAL_MS: "5000", TALLYD_HTTP_STATEMENT_TIMEOUT_MS: "60000", TALLYD_DIMENSIONS_NAMES: "team" } });
  await daemon.record(CALLS);
  token = await daemon.token("admin");
  browser = await launch();
}, { timeout: 90_000 });

after(async () => {
  await browser?.close();
  await daemon?.stop();
});

async function inside(run) {
  const tab = await open(browser, daemon);
  // The text that a chart has drawn since its canvas was last cleared: a canvas has no text to read.
  await tab.page.addInitScript(() => {
    globalThis.drawn = [];
    const { clearRect, fillText } = CanvasRenderingContext2D.prototype;
    CanvasRenderingContext2D.prototype.clearRect = function (...where) { globalThis.drawn = []; clearRect.apply(this, where); };
    CanvasRenderingContext2D.prototype.fillText = function (text, ...where) { globalThis.drawn.push(text); fillText.call(this, text, ...where); };
  });
  try {
    await signIn(tab, daemon, token);
    await run(tab);
    assert.deepEqual(tab.problems, []);
  } finally {
    await tab.context.close();
  }
}

test("a chart's axis and its table are in the unit of what is shown", async () => {
  await inside(async (tab) => {
    await show(tab, daemon, "costs");
    const axis = async (unit, others) => {
      await until(`the axis shows ${unit}`, async () => {
        const drawn = await tab.page.evaluate(() => globalThis.drawn);
        return drawn.some((text) => unit.test(text)) && !drawn.some((text) => others.test(text));
      });
    };
    await axis(/^\$[1-9]/, /M$/);
    await tab.page.getByRole("button", { name: "Over time" }).click();
    // The first table has the reasons of the sum's range.
    const cells = tab.page.locator(":not(.bounds *) > table tbody tr").first().locator("td");
    await cells.nth(1).getByText("$3.25").waitFor();
    for (const [button, unit, others, total] of [["Tokens", /^[1-9]\d*M$/, /\$/, "80,000,000"], ["Calls", /^[1-9]$/, /\$|M$/, "6"], ["Cost", /^\$[1-9]/, /M$/, "$3.25"]]) {
      await tab.page.getByRole("button", { name: button, exact: true }).click();
      await axis(unit, others);
      await cells.nth(1).getByText(total).waitFor();
    }
  });
});

test("what has no price is unpriced, and a small amount is less than what can be shown, in no view nothing", async () => {
  await inside(async (tab) => {
    const row = (name) => tab.page.getByRole("row").filter({ hasText: name });
    await show(tab, daemon, "costs?by=model&days=7");
    await row("unknown").getByText("unpriced").waitFor();
    await row("tiny").getByText("< $0.0001").first().waitFor();
    for (const [path, expected] of [["costs?by=provider", "openai"], ["costs?by=user", "stranger"], ["users", "stranger"], ["users/stranger", "Cost by day"], ["users/saver", "Cost by day"], ["overview", "Month to date"]]) {
      await show(tab, daemon, path);
      await tab.page.locator("main").getByText(expected).first().waitFor();
      assert.doesNotMatch(await tab.page.locator("main").innerText(), /\$0\.0{4,}\b/, path);
    }
    await show(tab, daemon, "users");
    await row("stranger").getByText("unpriced").waitFor();
    await row("saver").getByText("< $0.0001").waitFor();
    await show(tab, daemon, "users/stranger");
    await tab.page.locator(".tile").first().getByText("unpriced").waitFor();
    await row("acme").first().getByText("unpriced").waitFor();
    await show(tab, daemon, "records");
    await row("tiny").getByText("$0.000010").waitFor();
    await row("unknown").first().getByText("unpriced").waitFor();
  });
});

test("a model of two providers is two rows that can be told apart, and two in the file", async () => {
  await inside(async (tab) => {
    await show(tab, daemon, "costs?by=model&days=7");
    const names = await tab.page.locator("tbody td .named").allInnerTexts();
    assert.ok(names.includes("gpt-4o (openai)") && names.includes("gpt-4o (openrouter)"), names.join());
    assert.equal(new Set(names).size, names.length, names.join());
    const [download] = await Promise.all([tab.page.waitForEvent("download"), tab.page.getByRole("button", { name: "Download CSV" }).click()]);
    const lines = readFileSync(await download.path(), "utf8").trim().split("\n").filter((line) => line.startsWith(day) && line.includes("gpt-4o"));
    assert.deepEqual(lines.map((line) => line.split(",")[1]), ["openai", "openrouter"]);
    await show(tab, daemon, "overview");
  });
});

test("by application, any range is had, with what it cost before the call log's last month", async () => {
  await inside(async (tab) => {
    const range = (name) => tab.page.getByRole("group", { name: "Days" }).getByRole("button", { name });
    await show(tab, daemon, "costs?days=90");
    await tab.page.getByRole("button", { name: "App", exact: true }).click();
    await tab.page.locator(".head").getByText(inWords(addDays(day, -89), day)).waitFor();
    assert.equal(await range("90 days").getAttribute("aria-pressed"), "true");
    for (const name of ["90 days", "All"]) assert.ok(await range(name).isEnabled(), name);
    const web = CALLS.filter((one) => one.app === "web").reduce((sum, one) => sum + Number(one.cost_usd), 0);
    await tab.page.locator("tbody tr", { hasText: "web" }).first().getByText(`$${web.toFixed(2)}`).first().waitFor();
    await show(tab, daemon, "costs?days=90&bucket=hour");
    assert.equal(await tab.page.getByLabel("Interval").inputValue(), "", "the bars are days");
  });
});

test("costs are stacked by a tag that is a dimension, and the address keeps it", async () => {
  await inside(async (tab) => {
    await show(tab, daemon, "costs?days=30");
    await tab.page.getByLabel(/^Tag /).selectOption("team");
    const row = (name) => tab.page.locator("tbody tr", { hasText: name }).first();
    await row("search").getByText("$3.25").first().waitFor();
    await row("(no team)").waitFor();
    assert.match(tab.page.url(), /by=tag(:|%3A)team/);
    await tab.page.getByRole("heading", { name: "Cost by team" }).waitFor();
    const [download] = await Promise.all([tab.page.waitForEvent("download"), tab.page.getByRole("button", { name: "Download CSV" }).click()]);
    const [head] = readFileSync(await download.path(), "utf8").split("\n");
    assert.match(head, /,app,tag:team,calls,/);
    await tab.page.getByLabel(/^Tag /).selectOption("");
    await tab.page.getByRole("heading", { name: "Cost by provider" }).waitFor();
  });
});

test("a new budget of an application stands where it is at once", async () => {
  daemon.run("budgets", "set", "5", "--period", "day", "--for", "app=other");
  await until("it is evaluated", () => daemon.sql("SELECT count(*) FROM api_budget_states") === "1");
  daemon.run("budgets", "set", "0.01", "--period", "day", "--for", "app=web");
  await inside(async (tab) => {
    await show(tab, daemon, "budgets");
    await tab.page.getByText("Over budget", { exact: true }).waitFor();
  });
});

test("the overview shows the budgets that are used most, and compares like with like", async () => {
  for (const [index, amount] of ["100000", "90000", "80000", "70000"].entries()) {
    daemon.run("budgets", "set", amount, "--period", "month", "--for", `provider=provider-${index}`);
  }
  daemon.run("budgets", "set", "4", "--period", "day");
  await inside(async (tab) => {
    await show(tab, daemon, "overview");
    const names = () => tab.page.locator(".budget strong").allInnerTexts();
    await until("the used ones come first", async () => (await names()).slice(0, 2).join() === "web · daily,All spend · daily");
    assert.equal((await names()).length, 4);
    /** The last line of a tile's note: those before have the difference and the unpriced calls. */
    const note = async (label) => (await tab.page.locator(".tile").filter({ hasText: label }).locator(".tile-note").innerText()).split("\n").at(-1);
    await until("today is compared with the same hours of yesterday", async () => {
      const hour = local(new Date()).toISOString().slice(11, 13);
      const expected = `yesterday ${spent((on, h) => on === yesterday && h < hour)} by ${hour}:00, ${spent((on) => on === yesterday)} in all`;
      const shown = await note("Today");
      if (shown !== expected) throw new Error(`${shown}, not ${expected}`);
      return true;
    });
    const sameDay = [addDays(lastMonthStart, Number(day.slice(8)) - 1), lastMonthEnd].sort()[0];
    const month = (end) => spent((on) => on >= lastMonthStart && on <= end);
    assert.equal(await note("Month to date"), `last month ${month(sameDay)} by ${shortDay(sameDay)}, ${month(lastMonthEnd)} in all`);
  });
});

test("the zone of days is written beside them: on the page, in files, by the status", async () => {
  await inside(async (tab) => {
    for (const path of ["overview", "costs", "users", "budgets", "records"]) {
      await show(tab, daemon, path);
      await tab.page.locator(".head").getByText(ZONE).waitFor();
    }
    for (const path of ["costs", "budgets", "forecast"]) {
      const answer = await fetch(`${daemon.url}/api/v1/${path}?format=csv`, { headers: { authorization: `Bearer ${token}` } });
      const [head, ...lines] = (await answer.text()).trim().split("\n").map((line) => line.split(","));
      assert.equal(head.at(-1), "time_zone", path);
      assert.ok(lines.length > 0 && lines.every((line) => line.at(-1) === ZONE), path);
    }
  });
  assert.match(daemon.run("status"), new RegExp(`days in +${ZONE.replace("+", "\\+")}`));
  assert.equal(JSON.parse(daemon.run("status", "--json")).time_zone, ZONE);
});

test("figures that wait for a database that hangs are not live, and are again once it goes on", async () => {
  await inside(async (tab) => {
    await show(tab, daemon, "budgets");
    tab.expected.push("503");
    daemon.postgres("SIGSTOP");
    try {
      await tab.page.locator(".fresh.stale").waitFor();
      assert.equal(await tab.page.locator(".fresh", { hasText: "Live" }).count(), 0);
    } finally {
      daemon.postgres("SIGCONT");
    }
    await tab.page.locator(".fresh", { hasText: "Live" }).waitFor();
  });
});
