// Draws every view, light and dark, on a desktop and on a phone, into target/screenshots, for a person to look at.
//
//   node tests/screenshots.mjs            all of them
//   node tests/screenshots.mjs overview   those whose name contains a text
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { launch, open, show, signIn } from "./browser.mjs";
import { Daemon, until } from "./daemon.mjs";
import { startGotrue } from "./gotrue.mjs";

const FOLDER = join(import.meta.dirname, "../../target/screenshots");
const VIEWS = {
  overview: { path: "overview" },
  costs: { path: "costs?by=model&days=90", then: hover },
  "costs-users": { path: "costs?by=user&days=30" },
  "costs-apps": { path: "costs?by=app&days=90" },
  "costs-month": { path: "costs?by=model&days=month&drawn=sum" },
  "costs-movers": { path: "costs?by=user&days=month&table=movers" },
  "costs-causes": { path: "costs?days=month&table=causes" },
  "costs-tokens": { path: "costs?by=model&days=90&show=tokens" },
  "costs-pivot": { path: "costs?by=provider&split=model&days=30" },
  "costs-pivot-users": { path: "costs?by=user&split=model&days=30" },
  "saved-views": { path: "costs?by=model&days=month", then: savedViews },
  users: { path: "users" },
  user: { path: "users/user-00001" },
  sessions: { path: "sessions" },
  budgets: { path: "budgets" },
  "budget-edit": { path: "budgets", then: (page) => page.getByRole("button", { name: "Set a budget" }).click() },
  alerts: { path: "alerts" },
  "alerts-all": { path: "alerts?show=all" },
  rules: { path: "rules" },
  "rule-edit": { path: "rules", then: wrongRule },
  reports: { path: "reports" },
  "reports-month": { path: "reports?period=month" },
  prices: { path: "prices?provider=claude" },
  "price-edit": { path: "prices?provider=claude&search=sonnet-4-5", then: price },
  records: { path: "records?days=7", then: (page) => page.locator("tbody .sort").first().click() },
  reprice: { path: "prices?provider=claude&search=sonnet-4-5", then: reprice },
  tokens: { path: "tokens" },
  "token-create": { path: "tokens", then: (page) => page.getByRole("button", { name: "Create a token" }).click() },
  "dead-letters-many": { path: "dead-letters", then: (page) => page.getByLabel("Select all on this page").check() },
  "dead-letters": { path: "dead-letters", then: (page) => page.locator("tbody .sort").first().click() },
  pipeline: { path: "pipeline" },
  changes: { path: "changes" },
  signin: {},
  "signin-password": {},
};

async function hover(page) {
  const plot = page.locator(".plot");
  const { width } = await plot.boundingBox();
  await plot.hover({ position: { x: width * 0.62, y: 120 } });
  await page.locator(".tooltip").waitFor();
}

/** The plan of a repricing. */
async function reprice(page) {
  await page.getByRole("button", { name: "Reprice…" }).first().click();
  await page.getByRole("button", { name: "Show what would change" }).click();
  await page.locator(".effect").waitFor();
}

/** A list of views, one of which is the present one. */
async function savedViews(page) {
  const here = "#/costs?by=model&days=month";
  const views = [["Models this month", here], ["Search team, 90 days", "#/costs?tag:team=search&days=90&by=model"], ["Users by model", "#/costs?by=user&split=model"]];
  await page.evaluate((views) => localStorage.setItem("tallyd.views", JSON.stringify(views.map(([name, to]) => ({ name, to })))), views);
  await page.reload();
  await page.getByRole("button", { name: "View: Models this month" }).click();
  await page.locator(".fresh", { hasText: "Live" }).waitFor();
}

/** A form with a value that is wrong. */
async function wrongRule(page) {
  await page.getByRole("button", { name: "Set a rule" }).click();
  await page.getByLabel("Name", { exact: true }).fill("search");
  await page.getByLabel("Window").fill("5x");
  await page.getByLabel("Alert from").fill("40");
  await page.getByRole("button", { name: "Save" }).click();
}

async function price(page) {
  await page.getByRole("button", { name: /Edit the price of claude-sonnet-4-5, standard/ }).click();
  await page.getByLabel("Input").fill("2.50");
  await page.getByRole("button", { name: "Preview impact" }).click();
  await page.locator(".effect").waitFor();
}

/** Days on which a person opens the page, each with a daemon of its own. */
const SCENES = {
  // Budgets used up, unusual spend, unpriced models, more refusals than are kept; at last PostgreSQL hangs.
  fire: {
    env: { TALLYD_DEAD_LETTERS_ROWS_PER_DAY: "30" },
    views: {
      overview: { path: "overview" },
      alerts: { path: "alerts" },
      "dead-letters": { path: "dead-letters" },
      hanging: { path: "overview", hangs: true },
    },
    async prepare(daemon) {
      await daemon.fill({ days: 70, seconds: 2, users: 60 });
      for (const [amount, ...words] of [["20"], ["300", "--period", "month"], ["30", "--period", "week", "--for", "provider=claude"], ["5", "--for", "user=user-00001"], ["1", "--for", "app=nightly-batch"]]) {
        daemon.run("budgets", "set", amount, ...words);
      }
      const call = { provider: "claude", model: "claude-opus-4-1", user_id: "user-00001", app: "nightly-batch", input_tokens: 900_000, output_tokens: 40_000 };
      const unpriced = [["acme", "frontier-9"], ["openai", "gpt-7-preview"], ["azure", "arn:aws:bedrock:eu-central-1:123456789012:application-inference-profile/abcdefghij"]];
      await daemon.record([...Array(300).fill(call), ...unpriced.flatMap(([provider, model], at) => Array(40 * (at + 1)).fill({ provider, model, input_tokens: 1_000, output_tokens: 50 }))]);
      daemon.refuse(...Array.from({ length: 900 }, (_, n) => ({ provider: "claude", model: "claude-sonnet-4-5", [n % 3 ? "colour" : "status"]: 1_000 + n })));
      await until("budgets are evaluated", () => daemon.sql("SELECT count(*) FROM api_budget_states") === "5");
      await until("alerts are raised", () => Number(daemon.sql("SELECT count(*) FROM api_alerts")) >= 6);
    },
  },
  refused: {
    views: { overview: { path: "overview" }, alerts: { path: "alerts" }, costs: { path: "costs" }, "dead-letters": { path: "dead-letters" } },
    async prepare(daemon) {
      daemon.refuse(...Array.from({ length: 60 }, (_, n) => (n % 2 ? { provider: "claude", model: "claude-sonnet-4-5", inputTokens: 12 + n } : { model: "gpt-4o", input_tokens: 7 })));
      await until("they are kept", () => daemon.sql("SELECT count(*) FROM dead_letters") === "60");
    },
  },
  // A small service in good order, with nothing to decide.
  quiet: {
    views: { overview: { path: "overview" }, alerts: { path: "alerts" }, "dead-letters": { path: "dead-letters" } },
    async prepare(daemon) {
      const start = Date.now() - 40 * 86_400_000;
      const calls = Array.from({ length: 960 }, (_, n) => ({
        provider: "claude", model: n % 3 ? "claude-sonnet-4-5" : "claude-haiku-4-5", user_id: `user-${n % 7}`, app: "web",
        input_tokens: 1_500 + (n * 37) % 900, output_tokens: 300 + (n * 53) % 200, occurred_at: new Date(start + n * 3_600_000).toISOString(),
      }));
      await daemon.record(calls);
      daemon.run("budgets", "set", "25", "--period", "month");
      daemon.run("budgets", "set", "2");
      await until("budgets are evaluated", () => daemon.sql("SELECT count(*) FROM api_budget_states") === "2");
    },
  },
};

const wanted = process.argv[2] ?? "";
mkdirSync(FOLDER, { recursive: true });
const gotrue = await startGotrue();
const browser = await launch();
try {
  await everyView();
  for (const [name, scene] of Object.entries(SCENES)) {
    const views = Object.fromEntries(Object.entries(scene.views).map(([view, what]) => [`${name}-${view}`, what]));
    if (!Object.keys(views).some((view) => view.includes(wanted) || wanted.startsWith(view))) continue;
    const daemon = await Daemon.start({ env: scene.env });
    try {
      await scene.prepare(daemon);
      await draw(daemon, views);
    } finally {
      await daemon.stop();
    }
  }
  console.log(`target/screenshots: ${wanted || "all"}`);
} finally {
  await browser.close();
  gotrue.stop();
}

/** An ordinary service with a history of four months, in all views. */
async function everyView() {
  if (!Object.keys(VIEWS).some((view) => view.includes(wanted) || wanted.startsWith(view))) return;
  const daemon = await Daemon.start({ env: gotrue.env });
  try {
    await daemon.fill();
    // `demo` records a number of calls that depends on the machine, so budgets are shares of the spend.
    const spent = (where) => Number(daemon.sql(`SELECT coalesce(sum(cost_usd), 0) FROM daily_api_costs WHERE ${where}`));
    const budget = (amount, ...words) => daemon.run("budgets", "set", amount.toFixed(2), ...words);
    budget(spent("day = current_date") / 1.02);
    budget(spent("day >= date_trunc('month', current_date)") / 0.84, "--period", "month");
    budget(spent("day >= date_trunc('week', current_date) AND provider = 'claude'") / 0.4, "--period", "week", "--for", "provider=claude");
    budget(spent("day >= date_trunc('month', current_date) AND model = 'claude-opus-4-5'") / 1.3, "--period", "month", "--for", "model=claude-opus-4-5");
    // Budgets are evaluated every few seconds.
    await until("budgets are evaluated", () => daemon.sql("SELECT count(*) FROM api_budget_states") === "4");
    for (const words of [
      ["spend", "--metric", "cost", "--window", "24h", "--warning", "4", "--alert", "9", "--owner", "platform"],
      ["errors", "--metric", "error_percent", "--window", "1h", "--alert", "40", "--where", "provider=claude", "--quiet", "22:00-07:00"],
      ["month", "--metric", "forecast_percent", "--budget", daemon.sql("SELECT min(id) FROM api_budgets WHERE period = 'month'"), "--warning", "90", "--alert", "400", "--owner", "finance"],
      ["silent", "--metric", "calls", "--window", "2h", "--no-data"],
    ]) daemon.run("rules", "set", ...words);
    await until("rules are evaluated", () => daemon.sql("SELECT count(*) FROM tallyd_alert_rule_states") === "4");
    await until("alerts are raised", () => Number(daemon.sql("SELECT count(*) FROM api_alerts")) >= 3);
    const seen = daemon.sql("SELECT max(id) FROM api_alerts WHERE id < (SELECT max(id) - 1 FROM api_alerts)");
    daemon.run("alerts", "acknowledge", seen);
    daemon.sql(`
      INSERT INTO tallyd_session_samples SELECT date_trunc('hour', now(), 'UTC') - n * interval '1 hour', 900 + (220 * sin(n / 3.8))::int + n / 4, 700 + (170 * sin(n / 3.8))::int,
        300 + (150 * sin(n / 3.8))::int, 210 + (90 * sin(n / 3.8))::int FROM generate_series(0, 400) AS n WHERE n NOT BETWEEN 50 AND 61 AND n <> 90 ON CONFLICT (hour) DO NOTHING;
      INSERT INTO tallyd_deploys (app, version, at, deployed_by, actor) SELECT 'web', '1.' || n || '.0', now() - n * interval '9 days', 'ada', 'token:2 ci' FROM generate_series(0, 9) AS n;`);
    for (const [name, role] of [["grafana", "read"], ["ci", "ingest"], ["checkout", "ingest"]]) daemon.run("token", "create", "--name", name, "--role", role, "--expires-days", "90");
    await draw(daemon, VIEWS);
  } finally {
    await daemon.stop();
  }
}

/** Views of a daemon on each device, in each colour scheme. */
async function draw(daemon, views) {
  const token = await daemon.token("admin", "ada");
  for (const [device, size] of [["desktop", { width: 1360, height: 880 }], ["phone", { width: 390, height: 844, scale: 2 }]]) {
    for (const scheme of ["light", "dark"]) {
      const tab = await open(browser, daemon, { scheme, ...size });
      for (const [name, view] of Object.entries(views)) {
        const file = `${name}-${device}-${scheme}.png`;
        if (!file.includes(wanted)) continue;
        await go(tab, daemon, name, view, token);
        const height = await tab.page.evaluate(() => document.documentElement.scrollHeight);
        await tab.page.screenshot({ path: join(FOLDER, file), fullPage: true, clip: { x: 0, y: 0, width: size.width, height } });
        if (view.hangs) daemon.postgres("SIGCONT");
        if (view.then || view.hangs) await tab.page.goto("about:blank");
      }
      await tab.context.close();
    }
  }
}

async function go(tab, daemon, name, { path, then, hangs }, token) {
  if (!path) {
    await tab.context.clearCookies();
    await tab.page.goto(`${daemon.url}/`);
    await tab.page.getByLabel("Password").waitFor();
    if (name === "signin") await tab.page.getByRole("button", { name: "Use a token instead" }).click();
    return;
  }
  if ((await tab.context.cookies()).length === 0) await signIn(tab, daemon, token);
  await show(tab, daemon, path);
  await then?.(tab.page);
  if (hangs) {
    daemon.postgres("SIGSTOP");
    await tab.page.locator(".fresh.stale").waitFor();
  }
}
