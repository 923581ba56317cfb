// The replaced system's front end on the routes that were kept for it: its admin tab, as React code, in a real browser
// on an origin of its own.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { build } from "esbuild";
import { launch, open } from "./browser.mjs";
import { Daemon, until } from "./daemon.mjs";

const SECTIONS = ["costs", "history", "users", "stats", "metrics", "pricing"];
const COLUMNS = "email,tier,is_admin,analyses_today,claude_calls_this_hour,last_analysis,last_claude_call,created_at";
const ANN = "5e0e2c5f-3b5e-4c7b-9a55-6a0a3f0f7d11";
const BOB = "0b1f9a52-6a0c-4a53-9d6e-2f1f6f1f0c12";

let server;
let origin;
let daemon;
let browser;
let settings;

before(async () => {
  const built = await build({
    entryPoints: [`${import.meta.dirname}/replaced/tab.jsx`], bundle: true, write: false, format: "esm", jsx: "automatic", jsxImportSource: "react",
    // The page's own library replaces React, which makes no difference to the tab.
    alias: { react: "preact/compat", "react-dom/client": "preact/compat/client", "react/jsx-runtime": "preact/jsx-runtime" },
  });
  server = createServer((request, response) => {
    if (request.url !== "/") return response.writeHead(204).end();
    const html = `<!doctype html><title>Admin</title><div id="root"></div><script>SETTINGS = ${JSON.stringify(settings)}</script><script type="module">${built.outputFiles[0].text}</script>`;
    response.writeHead(200, { "content-type": "text/html; charset=utf-8" }).end(html);
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  origin = `http://127.0.0.1:${server.address().port}`;
  daemon = await Daemon.start({ env: { TALLYD_HTTP_CORS_ORIGINS: origin, TALLYD_USERS_TABLE: "public.user_profiles", TALLYD_USERS_COLUMNS: COLUMNS } });
  daemon.sql(`CREATE TABLE public.user_profiles (id uuid PRIMARY KEY, email text, tier text, is_admin boolean, analyses_today integer, claude_calls_this_hour bigint,
    last_analysis timestamptz, last_claude_call timestamptz, created_at timestamptz DEFAULT now())`);
  settings = { api: daemon.url, token: await daemon.token("admin") };
  browser = await launch();
}, { timeout: 90_000 });

after(async () => {
  await browser?.close();
  await daemon?.stop();
  server?.close();
});

/** Opens the tab, and waits until every part shows its answer. Fails on unexpected events, and on texts of a wrong shape. */
async function tab(check) {
  const tab = await open(browser, daemon);
  tab.expected.push(`a request left: ${origin}/`);
  const shown = async () => {
    assert.deepEqual(tab.problems, []);
    const text = await tab.page.locator("main").innerText();
    assert.doesNotMatch(text, /NaN|undefined|null|Infinity|\?!|\[object|Invalid/, text);
  };
  try {
    await tab.page.goto(`${origin}/`);
    // A part whose answer has another shape never appears; then the browser's error says more than the timeout.
    for (const name of SECTIONS) await tab.page.locator(`#${name}`).waitFor().catch((error) => { throw new Error(`${name}: ${tab.problems.join("; ") || error}`); });
    await shown();
    const section = (name) => tab.page.locator(`#${name}`);
    await check(section, tab.page);
    await shown();
  } finally {
    await tab.context.close();
  }
}

test("without a call, a user, a budget or a session, the tab shows zeros", async () => {
  await tab(async (section) => {
    await section("costs").getByText("Budget $0.0000, 0.0 % used, $0.0000 left").waitFor();
    await section("history").getByText("0 days, $0.0000, newest first").waitFor();
    await section("users").getByText("0 of 0 users").waitFor();
    await section("stats").getByText("0 users").waitFor();
    await section("metrics").getByText("0 active of 0 sessions").waitFor();
    await section("pricing").getByText("claude-sonnet-4-5: $3.00 in, $15.00 out").waitFor();
    await section("pricing").getByText("growth: $199.00 a month, 5,000 included, $0.030 each beyond").waitFor();
  });
});

test("a cost without a budget, of a user whom the table does not know", async () => {
  daemon.run("record", "--provider", "rentcast", "--endpoint", "/avm/value", "--user-id", "visitor-7");
  await daemon.loaded();
  await tab(async (section) => {
    await section("costs").getByText("Total $0.2000 in 1 calls").waitFor();
    await section("costs").getByText("NORMAL").waitFor();
    await section("history").getByText("/avm/value: 1 calls, $0.2000").waitFor();
    await section("users").getByText("1 of 1 users").waitFor();
    await section("users").getByRole("row", { name: "0 today 0 this hour 0 Claude 1 RentCast 1 calls $0.2000 last analysis Never" }).waitFor();
    await section("stats").getByText("visitor-7: 1 calls, 0 Claude, 1 RentCast, 0 analyses").waitFor();
  });
});

test("several users, tiers and sessions; columns without a value; a budget and a price that the tab sets", async () => {
  daemon.sql(`INSERT INTO public.user_profiles VALUES
      ('${ANN}', 'ann@example.com', 'pro', true, 3, 2, '2026-01-02T03:04:05Z', '2026-01-02T03:04:06Z', '2025-12-31T23:00:00Z'),
      ('${BOB}', 'bob@example.com', 'free', false, 0, 0, NULL, NULL, '2025-12-31T23:00:00Z');
    INSERT INTO public.user_profiles (id, email) VALUES (md5('new')::uuid, 'new@example.com'), (md5('nameless')::uuid, NULL);
    CREATE SCHEMA auth;
    CREATE TABLE auth.users (id uuid PRIMARY KEY, email text, created_at timestamptz, last_sign_in_at timestamptz, banned_until timestamptz, deleted_at timestamptz);
    CREATE TABLE auth.sessions (id uuid PRIMARY KEY, user_id uuid, created_at timestamptz, updated_at timestamptz, refreshed_at timestamp, not_after timestamptz);
    INSERT INTO auth.users SELECT id, email, created_at, now(), NULL, NULL FROM public.user_profiles;
    INSERT INTO auth.sessions SELECT gen_random_uuid(), id, now(), now(), now() AT TIME ZONE 'UTC', NULL FROM auth.users;`);
  for (const words of [
    ["--model", "claude-sonnet-4-5", "--endpoint", "/api/claude/analysis", "--user-id", ANN, "--input-tokens", "1000", "--output-tokens", "100"],
    ["--model", "a-model-without-a-price", "--user-id", BOB, "--input-tokens", "1000"],
    ["--model", "claude-haiku-4-5", "--input-tokens", "5"],
  ]) daemon.run("record", "--provider", "claude", ...words);
  // Prices of one kind of token only, and per request: the replaced system had both kinds of tokens for every model.
  daemon.run("prices", "set", "claude", "claude-by-request", "--from", "now", "--unit", "request=0.01");
  daemon.run("prices", "set", "claude", "claude-embedding", "--from", "now", "--rate", "input=0.1");
  await daemon.loaded();
  await tab(async (section, page) => {
    await section("history").getByText("claude-sonnet-4-5: 1 calls, $0.0045, 1,000 in, 100 out").waitFor();
    await section("users").getByText("2 of 5 users").waitFor();
    await section("users").getByRole("row", { name: /^ann@example.com PRO Admin 3 today 2 this hour 1 Claude 0 RentCast 1 calls \$0.0045 last analysis 2026-01-02T03:04:05.000Z/ }).waitFor();
    await section("users").getByLabel("Search").fill("BOB");
    await section("users").getByRole("row").nth(1).waitFor({ state: "detached" });
    await section("users").getByRole("row", { name: /^bob@example.com FREE Member 0 today/ }).waitFor();
    await section("users").getByLabel("Search").fill("");
    await section("users").getByRole("row").nth(4).waitFor();
    await section("stats").getByText("1 calls, 1 Claude, 0 RentCast, 1 analyses").waitFor();
    await section("metrics").getByText("4 active of 4 sessions").waitFor();
    await section("metrics").getByText("pro: 1 active").waitFor();
    await section("costs").getByLabel("Budget").fill("0.25");
    await section("costs").getByRole("button").click();
    await section("costs").getByText(/^Budget \$0.2500, 8\d.\d % used/).waitFor();
    await section("costs").getByText("WARNING, hold back").waitFor();
    await section("pricing").getByLabel("Cost of a request").fill("0.15");
    await section("pricing").getByRole("button").click();
    await section("pricing").getByText("RentCast $0.150 a request").waitFor();
    assert.equal(daemon.sql("SELECT amount_usd FROM api_budgets"), "0.25");
    // A tab that is open all day loads again.
    await page.reload();
    await section("pricing").getByText("RentCast $0.150 a request").waitFor();
  });
});

const ROUTES = ["/api/admin/costs", "/api/admin/cost-history", "/api/user/all", "/api/admin/user-stats", "/api/admin/metrics", "/api/admin/pricing"];
for (const path of ROUTES) {
  test(`the tab fails where ${path} answers in another shape`, async () => {
    const tab = await open(browser, daemon);
    try {
      await tab.page.route(({ pathname }) => pathname === path, async (route) => {
        const answer = await route.fetch();
        await route.fulfill({ response: answer, json: { data: await answer.json() } });
      });
      await tab.page.goto(`${origin}/`);
      await until("an exception", () => tab.problems.some((one) => one.includes("TypeError")));
    } finally {
      await tab.context.close();
    }
  });
}
