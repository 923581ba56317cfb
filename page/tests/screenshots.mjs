// Draws every view, light and dark, on a desktop and on a phone, into target/screenshots: to be looked at by a person.
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
  "costs-tokens": { path: "costs?by=model&days=90&show=tokens" },
  users: { path: "users" },
  user: { path: "users/user-00001" },
  sessions: { path: "sessions" },
  budgets: { path: "budgets" },
  "budget-edit": { path: "budgets", then: (page) => page.getByRole("button", { name: "Set a budget" }).click() },
  alerts: { path: "alerts" },
  "alerts-all": { path: "alerts?show=all" },
  prices: { path: "prices?provider=claude" },
  "price-edit": { path: "prices?provider=claude&search=sonnet-4-5", then: price },
  records: { path: "records?days=7", then: (page) => page.locator("tbody .sort").first().click() },
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

async function price(page) {
  await page.getByRole("button", { name: /Edit the price of claude-sonnet-4-5, standard/ }).click();
  await page.getByLabel("Input").fill("2.50");
  await page.getByRole("button", { name: "Show the effect" }).click();
  await page.locator(".effect").waitFor();
}

const wanted = process.argv[2] ?? "";
const gotrue = await startGotrue();
const daemon = await Daemon.start({ env: gotrue.env });
const browser = await launch();
try {
  await daemon.fill();
  for (const [amount, ...words] of [["160"], ["3200", "--period", "month"], ["700", "--period", "week", "--scope", "provider", "--value", "claude"], ["150", "--period", "month", "--scope", "model", "--value", "claude-opus-4-1"]]) {
    daemon.run("budgets", "set", amount, ...words);
  }
  const token = await daemon.token("admin", "ada");
  // Budgets are evaluated every few seconds.
  await until("budgets are evaluated", () => daemon.sql("SELECT count(*) FROM api_budget_states") === "4");
  await until("alerts are raised", () => Number(daemon.sql("SELECT count(*) FROM api_alerts")) >= 4);
  const seen = daemon.sql("SELECT max(id) FROM api_alerts WHERE id < (SELECT max(id) - 1 FROM api_alerts)");
  daemon.run("alerts", "acknowledge", seen);
  mkdirSync(FOLDER, { recursive: true });
  for (const [device, size] of [["desktop", { width: 1360, height: 880 }], ["phone", { width: 390, height: 844, scale: 2 }]]) {
    for (const scheme of ["light", "dark"]) {
      const tab = await open(browser, daemon, { scheme, ...size });
      for (const [name, { path, then }] of Object.entries(VIEWS)) {
        const file = `${name}-${device}-${scheme}.png`;
        if (!file.includes(wanted)) continue;
        if (!path) {
          await tab.context.clearCookies();
          await tab.page.goto(`${daemon.url}/`);
          await tab.page.getByLabel("Password").waitFor();
          if (name === "signin") await tab.page.getByRole("button", { name: "Use a token instead" }).click();
        } else {
          if ((await tab.context.cookies()).length === 0) await signIn(tab, daemon, token);
          await show(tab, daemon, path);
          await then?.(tab.page);
        }
        await tab.page.screenshot({ path: join(FOLDER, file) });
        if (then && path) await tab.page.goto("about:blank");
      }
      await tab.context.close();
    }
  }
  console.log(`target/screenshots: ${wanted || "all"}`);
} finally {
  await browser.close();
  await daemon.stop();
  gotrue.stop();
}
