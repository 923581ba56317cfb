// The page end to end: a real daemon with a PostgreSQL of its own, a real browser. `make test-page` runs it.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { after, before, describe, test } from "node:test";
import { launch, open, show, signIn } from "./browser.mjs";
import { Daemon, until } from "./daemon.mjs";

let daemon;
let browser;
let token;

before(async () => {
  daemon = await Daemon.start();
  await daemon.fill({ days: 60, seconds: 1, users: 80 });
  token = await daemon.token("admin");
  browser = await launch();
}, { timeout: 90_000 });

after(async () => {
  await browser?.close();
  await daemon?.stop();
});

/** A signed-in browser. The test fails if anything unexpected has happened by its end. */
async function inside(run, options = {}) {
  const tab = await open(browser, daemon, options);
  try {
    await signIn(tab, daemon, options.token ?? token);
    await run(tab);
    assert.deepEqual(tab.problems, []);
  } finally {
    await tab.context.close();
  }
}

const VIEWS = [
  ["overview", "Month to date"], ["costs", "Totals"], ["costs?by=model&days=7", "claude-opus-4-5"], ["costs?by=user&days=90", "user-00001"], ["costs?split=model", "Cost by provider and model"],
  ["users?search=user-0000", "user-00001"], ["users/user-00001?days=7", "Cost by day"], ["sessions", "Active sessions"], ["budgets", "budget"], ["alerts?show=all", "alert"], ["rules", "No rule is set"], ["reports", "Compared with"], ["prices?provider=claude&search=sonnet", "claude-sonnet-4-5"],
  ["records?only=errors", "claude"], ["dead-letters", "missing"], ["pipeline", "Write-ahead log"], ["changes", "token.create"],
];

describe("signing in", () => {
  test("asks for a token, says why one is refused, and goes on to the view that was asked for", async () => {
    const tab = await open(browser, daemon);
    tab.expected.push("401");
    await tab.page.goto(`${daemon.url}/#/users`);
    await tab.page.getByLabel("Token").fill("tallyd_1_wrong");
    await tab.page.getByRole("button", { name: "Sign in" }).click();
    await tab.page.getByRole("alert").getByText("unknown, revoked or expired").waitFor();
    assert.deepEqual(await tab.axe(), []);
    await tab.page.getByLabel("Token").fill(token);
    await tab.page.keyboard.press("Enter");
    await tab.page.getByRole("heading", { name: "Users" }).waitFor();
    const cookie = (await tab.context.cookies()).find((one) => one.name === "tallyd_session");
    assert.ok(cookie.httpOnly && cookie.sameSite === "Strict", JSON.stringify(cookie));
    assert.equal(await tab.page.evaluate(() => document.cookie), "", "no script reads it");
    // A second tab shares the session: cookie and proof are the origin's.
    const second = await tab.context.newPage();
    await second.goto(`${daemon.url}/`);
    await second.getByRole("navigation", { name: "Views" }).waitFor();
    assert.deepEqual(tab.problems, []);
    await tab.context.close();
  });

  test("the page of another port gets the cookie, and can do nothing with it", async () => {
    const received = [];
    const other = createServer((request, response) => {
      received.push(request.headers.cookie ?? "");
      response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><title>other</title>");
    });
    await new Promise((done) => other.listen(0, "127.0.0.1", done));
    const tab = await open(browser, daemon);
    try {
      await signIn(tab, daemon, token);
      const page = await tab.context.newPage();
      await page.goto(`http://127.0.0.1:${other.address().port}/`);
      const cookie = received.find((one) => one.startsWith("tallyd_session="));
      assert.ok(cookie, "browsers send it to every port");
      // Its server has no proof.
      for (const headers of [{ cookie }, { cookie, "x-tallyd-page": "1" }, { authorization: `Bearer ${cookie.split("=")[1]}` }]) {
        const answer = await fetch(`${daemon.url}/api/v1/costs`, { headers });
        assert.ok([401, 403].includes(answer.status), `${answer.status}`);
      }
      // Its page can neither read answers nor change anything nor sign in.
      const tried = await page.evaluate(async ({ url, token }) => {
        const ask = async (path, options) => {
          try { return (await fetch(url + path, { credentials: "include", ...options })).type; } catch { return "refused"; }
        };
        return [
          await ask("/api/v1/costs", {}),
          await ask("/api/v1/costs", { headers: { "x-tallyd-page": "1" } }),
          await ask("/session", { method: "POST", headers: { "content-type": "application/json", "x-tallyd-page": "1" }, body: JSON.stringify({ token }) }),
          await ask("/session", { method: "DELETE" }),
          localStorage.length,
        ];
      }, { url: daemon.url, token });
      assert.deepEqual(tried, ["refused", "refused", "refused", "refused", 0]);
      // Blind, as a form sends it.
      await page.evaluate(({ url, token }) => fetch(`${url}/session`, { method: "POST", mode: "no-cors", credentials: "include", body: JSON.stringify({ token }) }).catch(() => {}), { url: daemon.url, token });
      assert.equal((await tab.context.cookies()).filter((one) => one.name === "tallyd_session").map((one) => `tallyd_session=${one.value}`)[0], cookie, "nobody else was signed in");
      await show(tab, daemon, "users");
    } finally {
      await tab.context.close();
      other.close();
    }
  });

  test("a link signs in once, and its code is gone from the address", async () => {
    const link = daemon.link();
    const tab = await open(browser, daemon);
    await tab.page.goto(link);
    await tab.page.getByRole("navigation", { name: "Views" }).waitFor();
    assert.doesNotMatch(tab.page.url(), /code=/);
    assert.deepEqual(tab.problems, []);
    await tab.context.close();
    const again = await open(browser, daemon);
    again.expected.push("401");
    await again.page.goto(link);
    await again.page.getByText("used up or unknown").waitFor();
    await again.context.close();
  });

  test("signing out ends the session, and a revoked token's page asks to sign in and stays where it was", async () => {
    const other = await daemon.token("admin", "to be revoked");
    const tab = await open(browser, daemon);
    tab.expected.push("401");
    await signIn(tab, daemon, other);
    await show(tab, daemon, "records");
    const id = /^tallyd_(\d+)_/.exec(other)[1];
    daemon.run("token", "revoke", id, "--yes");
    await tab.page.getByText("Your session has ended").waitFor();
    await tab.page.getByLabel("Token").fill(token);
    await tab.page.keyboard.press("Enter");
    await tab.page.getByRole("heading", { name: "Records" }).waitFor();
    await tab.page.getByRole("button", { name: "Sign out" }).click();
    await tab.page.getByRole("heading", { name: "Sign in to tallyd" }).waitFor();
    assert.equal((await tab.context.cookies()).length, 0);
    assert.deepEqual(tab.problems, []);
    await tab.context.close();
  });
});

describe("accessibility", { concurrency: 2 }, () => {
  for (const scheme of ["light", "dark"]) {
    test(`each shows what it is for, in ${scheme}, without a fault that axe finds`, async () => {
      await inside(async (tab) => {
        for (const [path, text] of VIEWS) {
          await show(tab, daemon, path);
          await tab.page.locator("main").getByText(text).first().waitFor();
          assert.deepEqual(await tab.axe(), [], path);
        }
      }, { scheme });
    });
  }

});

describe("views", () => {
  test("a phone shows each without scrolling sideways", async () => {
    await inside(async (tab) => {
      for (const [path] of VIEWS) {
        await show(tab, daemon, path);
        const { wide, shown } = await tab.page.evaluate(() => ({ wide: document.documentElement.scrollWidth, shown: innerWidth }));
        assert.ok(wide <= shown, `${path}: ${wide} of ${shown}`);
      }
    }, { width: 375, height: 740 });
  });

  test("a chart is read with the keyboard, and its legend takes series away", async () => {
    await inside(async (tab) => {
      await show(tab, daemon, "costs");
      await tab.page.locator(".plot").focus();
      await tab.page.keyboard.press("End");
      const tooltip = tab.page.locator(".tooltip");
      await tooltip.getByText("so far").waitFor();
      assert.match(await tooltip.innerText(), /claude[\s\S]*rentcast|rentcast[\s\S]*claude/);
      const legend = tab.page.locator(".legend").getByRole("button", { name: "rentcast" });
      await legend.click();
      assert.equal(await legend.getAttribute("aria-pressed"), "false");
      await tab.page.locator(".plot").focus();
      await tab.page.keyboard.press("End");
      assert.doesNotMatch(await tooltip.innerText(), /rentcast/);
    });
  });

  test("filters stand in the address, and the figures are the database's", async () => {
    await inside(async (tab) => {
      await show(tab, daemon, "costs");
      await tab.page.getByRole("button", { name: "Model", exact: true }).click();
      await tab.page.getByRole("button", { name: "7 days" }).click();
      await tab.page.locator("table").getByText("claude-opus-4-5").waitFor();
      assert.match(tab.page.url(), /#\/costs\?by=model&days=7$/);
      await tab.page.locator(".changing").waitFor({ state: "detached" });
      const expected = daemon.sql("SELECT to_char(round(sum(cost_usd), 4), 'FM999,999,990.0000') FROM daily_api_costs WHERE day > current_date - 7");
      await until(`the total is $${expected}`, async () => (await tab.page.locator("tfoot .money").first().innerText()) === `$${expected}`);
      await tab.page.getByRole("button", { name: "Custom" }).click();
      await tab.page.getByLabel("First day").waitFor();
    });
  });

  test("users are searched, sorted and opened", async () => {
    await inside(async (tab) => {
      await show(tab, daemon, "users");
      await tab.page.getByRole("button", { name: /RentCast calls/ }).click();
      await until("the column is sorted", async () => (await tab.page.locator("th[aria-sort=descending]").innerText()).includes("RentCast"));
      await tab.page.getByRole("searchbox").fill("user-00007");
      await tab.page.keyboard.press("Enter");
      await until("one user is left", async () => (await tab.page.locator("tbody tr").count()) === 1);
      const cells = await tab.page.locator("tbody td").allInnerTexts();
      const [claude, rentcast] = daemon.sql("SELECT claude_calls, rentcast_calls FROM (SELECT sum(calls) FILTER (WHERE provider = 'claude') AS claude_calls, sum(calls) FILTER (WHERE provider = 'rentcast') AS rentcast_calls FROM daily_user_api_costs WHERE user_id = 'user-00007') AS u").split("|");
      assert.deepEqual(cells.slice(1, 3).map((text) => text.replaceAll(",", "")), [claude, rentcast]);
      await tab.page.getByRole("link", { name: "user-00007" }).click();
      await tab.page.getByRole("heading", { name: "Cost by day" }).waitFor();
    });
  });

  test("records are narrowed, opened and paged", async () => {
    await inside(async (tab) => {
      await show(tab, daemon, "records");
      await tab.page.getByRole("button", { name: "Failed" }).click();
      await until("only failed calls are left", async () => (await tab.page.locator("td .badge.good").count()) === 0);
      await tab.page.locator("tbody .sort").first().click();
      await tab.page.locator(".facts").getByText("Service tier").waitFor();
      await tab.page.getByRole("group", { name: "Only" }).getByRole("button", { name: "All" }).click();
      await tab.page.getByRole("button", { name: "Next" }).click();
      await tab.page.getByText("51–100").waitFor();
    });
  });
});

describe("changes", () => {
  test("a budget is set, changed and removed, and the change log says by whom", async () => {
    await inside(async (tab) => {
      await show(tab, daemon, "budgets");
      await tab.page.getByRole("button", { name: "Set a budget" }).click();
      assert.deepEqual(await tab.axe(), [], "the dialog");
      // More than the demo's calls can cost up to the last day of any month: no threshold of this budget is reached.
      await tab.page.getByLabel("Amount in USD").fill("1,234,567.5");
      await tab.page.getByLabel("Period").selectOption("month");
      await tab.page.getByLabel("Limit").selectOption("soft");
      await tab.page.getByRole("button", { name: "Save" }).click();
      await tab.page.getByText("of $1,234,567.50").waitFor();
      await until("it is evaluated", async () => !(await tab.page.locator(".budget").innerText()).includes("$0.00 of"));
      assert.deepEqual(await tab.axe(), [], "a budget");
      await tab.page.getByRole("button", { name: /^Edit/ }).click();
      assert.equal(await tab.page.getByLabel("Limit").inputValue(), "soft");
      await tab.page.getByLabel("Limit").selectOption("hard");
      await tab.page.getByLabel("Amount in USD").fill("0.01");
      await tab.page.getByRole("button", { name: "Save" }).click();
      await tab.page.getByText("Over budget", { exact: true }).waitFor();
      await tab.page.getByText("Calls are refused", { exact: true }).waitFor();
      // A new budget in place of an existing one gives a notice.
      await tab.page.getByRole("button", { name: "Set a budget" }).click();
      await tab.page.getByLabel("Amount in USD").fill("0.02");
      await tab.page.getByLabel("Period").selectOption("month");
      await tab.page.getByRole("button", { name: "Save" }).click();
      await tab.page.getByText("The new budget replaces the one of $0.01").waitFor();
      tab.page.once("dialog", (dialog) => void dialog.accept());
      await tab.page.getByRole("button", { name: /^Remove/ }).click();
      await tab.page.getByText("No budget is set").waitFor();
      const log = daemon.sql("SELECT actor || ' ' || action FROM tallyd_audit_log WHERE action LIKE 'budget%' ORDER BY id");
      assert.deepEqual(log.split("\n"), [...Array(3).fill("token:1 admin budget.set"), "token:1 admin budget.remove"]);
    });
  });

  test("an alert is seen, acknowledged, and kept", async () => {
    await inside(async (tab) => {
      const raised = () => Number(daemon.sql("SELECT count(*) FROM api_alerts WHERE acknowledged_at IS NULL"));
      // The earlier budget was used up at one amount or at both: one alert per threshold.
      const all = raised();
      assert.ok([3, 6].includes(all), `${all} alerts`);
      await show(tab, daemon, "alerts");
      await tab.page.getByText("Monthly budget (all spend)").first().waitFor();
      await tab.page.getByRole("navigation", { name: "Views" }).getByText(`${all} new`).waitFor({ state: "attached" });
      assert.deepEqual(await tab.axe(), [], "new alerts");
      await tab.page.getByRole("button", { name: /^Acknowledge: Monthly budget .* alert at 100 %/ }).first().click();
      await until("one is seen", async () => raised() === all - 1);
      await tab.page.getByRole("button", { name: "Acknowledge all" }).click();
      await tab.page.getByText("No new alerts").waitFor();
      await tab.page.getByRole("button", { name: "All", exact: true }).click();
      await tab.page.getByText("Acknowledged by token:1 admin").first().waitFor();
      assert.deepEqual(await tab.axe(), [], "alerts that were seen");
    });
  });

  test("a price is added after its effect was shown, and what it prices is priced", async () => {
    await inside(async (tab) => {
      await show(tab, daemon, "prices");
      await tab.page.getByRole("button", { name: "Set a price" }).click();
      await tab.page.getByLabel("Input").fill("3");
      await tab.page.getByLabel("Output").fill("15");
      await tab.page.getByLabel("Cache read").fill("0.30");
      await tab.page.getByRole("button", { name: "Preview impact" }).click();
      await tab.page.locator(".effect").getByText("claude-experimental-preview").waitFor();
      await tab.page.locator(".effect").getByText("unpriced").waitFor();
      assert.deepEqual(await tab.axe(), [], "the effect");
      await tab.page.getByRole("button", { name: "Add this price" }).click();
      await tab.page.getByRole("status").getByText("was added").waitFor();
      // The form proposed the day before the first unpriced call, so that every one of them has a price now.
      await tab.page.getByText("has a price now").waitFor();
      const stored = daemon.sql("SELECT rates -> 'per_million_tokens' ->> 'input', origin FROM api_prices WHERE model = 'claude-experimental-preview'");
      assert.equal(stored, "3|api");
      const missed = daemon.sql("SELECT count(*) FROM api_usage_log u WHERE u.model = 'claude-experimental-preview' AND NOT EXISTS (SELECT FROM api_prices p WHERE p.model = u.model AND p.effective_from <= u.occurred_at)");
      assert.equal(missed, "0", "calls before the price holds");
    });
  });

  test("a dead letter is corrected and retried once, another is dropped; what is still wrong stays and says so", async () => {
    await inside(async (tab) => {
      await show(tab, daemon, "dead-letters?code=missing");
      await tab.page.locator("tbody .sort").first().click();
      await tab.page.locator(".payload").getByText("claude-haiku-4-5").waitFor();
      await tab.page.getByPlaceholder("field", { exact: true }).fill("");
      await tab.page.getByRole("button", { name: "Retry", exact: true }).click();
      await tab.page.getByRole("alert").waitFor();
      assert.deepEqual(await tab.axe(), [], "an error");
      await tab.page.getByPlaceholder("field", { exact: true }).fill("provider");
      await tab.page.getByPlaceholder("value").fill("claude");
      await tab.page.getByRole("button", { name: "Retry", exact: true }).click();
      await tab.page.getByText("was accepted and loaded as").waitFor();
      await tab.page.getByText("No dead letters").waitFor();
      assert.equal(daemon.sql("SELECT count(*) FROM api_usage_log WHERE input_tokens = 800 AND output_tokens = 90 AND model = 'claude-haiku-4-5'"), "1");
      await show(tab, daemon, "dead-letters?code=format");
      await tab.page.locator("tbody .sort").first().click();
      tab.page.once("dialog", (dialog) => void dialog.accept());
      await tab.page.getByRole("button", { name: "Drop", exact: true }).click();
      await tab.page.getByText("The letter was dropped").waitFor();
    });
    JSON.parse(daemon.run("reconcile", "--json"));
  });

  test("a call is voided with a reason, is struck through, and is as it was when it is restored", async () => {
    await inside(async (tab) => {
      const { page } = tab;
      await show(tab, daemon, "records");
      const calls = page.locator("tbody tr:not(.detail)");
      const cost = () => calls.first().locator("td").last().innerText();
      const before = await cost();
      await calls.first().locator(".sort").click();
      const form = page.getByRole("form", { name: "Change this call" });
      assert.equal(await form.getByRole("button", { name: "Void" }).isDisabled(), true, "a reason is needed");
      await form.getByLabel("Reason").fill("a load test");
      page.once("dialog", (dialog) => dialog.accept());
      await form.getByRole("button", { name: "Void" }).click();
      await page.getByText("The call was voided.").waitFor();
      const voided = calls.filter({ hasText: "a load test" });
      await voided.locator("s").first().waitFor();
      assert.equal(await voided.locator("s").last().innerText(), before);
      assert.deepEqual(await tab.axe(), []);
      await voided.locator(".sort").click();
      await page.locator(".facts").getByText("voided by").waitFor();
      await form.getByLabel("Reason").fill("it was real");
      await form.getByRole("button", { name: "Restore" }).click();
      await page.getByText("The call was amended.").waitFor();
      await until("the call is as it was", async () => (await page.locator("tbody s").count()) === 0);
      await calls.first().locator(".sort").click();
      await page.locator(".changes li").nth(1).waitFor();
      const said = await page.locator(".changes li").allInnerTexts();
      assert.match(said[0], /^voided by .*: a load test .* → \$0,/);
      assert.match(said[1], /^amended by .*: it was real \$0 → /);
    });
    JSON.parse(daemon.run("reconcile", "--json"));
  });

  test("whoever may only read is offered no change", async () => {
    const reader = await daemon.token("read");
    await inside(async (tab) => {
      for (const path of ["budgets", "rules", "prices", "dead-letters"]) {
        await show(tab, daemon, path);
        assert.equal(await tab.page.locator("main button.primary, main button.danger").count(), 0, path);
      }
      await tab.page.getByText("(read only)").waitFor();
    }, { token: reader });
  });
});

describe("files and weather", () => {
  test("a CSV file has what the table has", async () => {
    await inside(async (tab) => {
      await show(tab, daemon, "costs?days=7");
      const [download] = await Promise.all([tab.page.waitForEvent("download"), tab.page.getByRole("button", { name: "Download CSV" }).click()]);
      const lines = readFileSync(await download.path(), "utf8").trim().split("\n");
      assert.match(lines[0], /^bucket,provider,.*cost_usd/);
      assert.equal(lines.length, 1 + Number(daemon.sql("SELECT count(DISTINCT (day, provider)) FROM daily_api_costs WHERE day > current_date - 7")));
    });
  });

  test("new calls appear without a reload", async () => {
    await inside(async (tab) => {
      await show(tab, daemon, "records");
      daemon.run("record", "--provider", "rentcast", "--endpoint", "/v1/just/now");
      await tab.page.getByText("/v1/just/now").waitFor();
    });
  });

  test("what is shown stays, marked as old, while the daemon is away, and is live again after", async () => {
    await inside(async (tab) => {
      tab.expected.push("ERR_CONNECTION_REFUSED", "503");
      await show(tab, daemon, "pipeline");
      await daemon.down();
      await tab.page.getByText("The daemon does not answer").first().waitFor();
      await tab.page.getByText(/Old: as of/).waitFor();
      await tab.page.getByText("Write-ahead log").first().waitFor();
      assert.deepEqual(await tab.axe(), [], "old data");
      await daemon.up();
      await tab.page.locator(".fresh", { hasText: "Live" }).waitFor();
      await until("the notice is gone", async () => (await tab.page.getByText("The daemon does not answer").count()) === 0);
    });
  });

  test("nothing is asked while the page is hidden", async () => {
    const tab = await open(browser, daemon);
    // The test controls the page's clock.
    await tab.page.clock.install();
    await signIn(tab, daemon, token);
    try {
      await show(tab, daemon, "pipeline");
      await tab.page.evaluate(() => {
        Object.defineProperty(document, "hidden", { configurable: true, get: () => true });
        document.dispatchEvent(new Event("visibilitychange"));
      });
      // Work under way may end.
      await tab.page.waitForLoadState("networkidle");
      let asked = 0;
      tab.page.on("request", () => { asked += 1; });
      await tab.page.clock.runFor("10:00");
      assert.equal(asked, 0);
      await tab.page.evaluate(() => {
        Object.defineProperty(document, "hidden", { configurable: true, get: () => false });
        document.dispatchEvent(new Event("visibilitychange"));
      });
      await until("it asks again", () => asked > 0);
      asked = 0;
      await tab.page.clock.runFor("01:00");
      await until("and goes on", () => asked > 1);
      assert.deepEqual(tab.problems, []);
    } finally {
      await tab.context.close();
    }
  });

  test("a daemon without a record says what to do", async () => {
    const fresh = await Daemon.start();
    try {
      const tab = await open(browser, fresh);
      await signIn(tab, fresh, await fresh.token("admin"));
      for (const [path, text] of [["overview", "No calls recorded yet"], ["costs", "No calls in this range"], ["users", "No users yet"], ["sessions", "No session tables"], ["rules", "No rule is set"], ["reports", "No calls in this week"], ["records", "No calls match"], ["dead-letters", "No dead letters"]]) {
        await show(tab, fresh, path);
        await tab.page.getByText(text).waitFor();
        assert.deepEqual(await tab.axe(), [], path);
      }
      assert.deepEqual(tab.problems, []);
      await tab.context.close();
    } finally {
      await fresh.stop();
    }
  });

  test("a daemon whose every record is refused says how many and why; a group is decided about at once", async () => {
    const fresh = await Daemon.start();
    try {
      for (let sent = 0; sent < 30; sent += 1) fresh.refuse({ provider: "rentcast", colour: sent });
      for (let sent = 0; sent < 12; sent += 1) fresh.refuse({ provider: "rentcast", status: 1000 });
      await until("they are counted", () => fresh.sql("SELECT coalesce(sum(refused), 0) FROM tallyd_refusals") === "42");
      const tab = await open(browser, fresh);
      await signIn(tab, fresh, await fresh.token("admin"));
      await show(tab, fresh, "overview");
      await tab.page.getByText("All records were refused").first().waitFor();
      await tab.page.getByText("expected 0 to 999, found 1000").waitFor();
      await tab.page.getByText("42 records were refused").waitFor();
      assert.deepEqual(await tab.axe(), [], "overview");
      await show(tab, fresh, "dead-letters");
      const groups = tab.page.getByRole("table", { name: "Refusals by reason, field and sender" });
      await groups.getByRole("button", { name: "unknown_field" }).click();
      await tab.page.getByRole("button", { name: "Retry all without it" }).click();
      await tab.page.getByText("30 records were accepted and loaded").waitFor();
      await groups.getByRole("button", { name: "range" }).click();
      assert.deepEqual(await tab.axe(), [], "a group");
      tab.page.once("dialog", (dialog) => void dialog.accept());
      await tab.page.getByRole("button", { name: "Drop all 12" }).click();
      await tab.page.getByText("12 letters were dropped").waitFor();
      assert.equal(fresh.sql("SELECT count(*) FROM api_usage_log"), "30");
      assert.deepEqual(tab.problems, []);
      await tab.context.close();
    } finally {
      await fresh.stop();
    }
  });
});
