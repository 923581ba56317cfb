// A browser that reports unexpected events: errors in its console, requests to other hosts than the daemon.
//
// The page is the one in the daemon. With PAGE_DIST=1 it is the one in page/dist, so that a change of the page can be tried
// after `npm run build`, without building the daemon.
import { existsSync, readFileSync } from "node:fs";
import assert from "node:assert/strict";
import { basename, join } from "node:path";
import { after, before } from "node:test";
import AxeBuilder from "./axe.mjs";
import { chromium } from "playwright-core";
import { Daemon } from "./daemon.mjs";

const DIST = join(import.meta.dirname, "../dist");

/** Answers requests for the page's files from page/dist, with the headers of the daemon's own index. */
async function fromDist(context, daemon) {
  const types = { ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", html: "text/html" };
  await context.route(({ origin, pathname }) => origin === daemon.url && (pathname === "/" || pathname.startsWith("/assets/")), async (route) => {
    const { pathname } = new URL(route.request().url());
    const name = pathname === "/" ? "index.html" : basename(pathname);
    if (!existsSync(join(DIST, name))) return route.continue();
    const contentType = Object.entries(types).find(([end]) => name.endsWith(end))?.[1];
    await route.fulfill({ body: readFileSync(join(DIST, name)), contentType });
  });
}

const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];

export async function launch() {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
}

/** A page of its own, not signed in. `problems` collects unexpected events; `expected` lists those that the test intends. */
export async function open(browser, daemon, { scheme = "light", width = 1280, height = 860, scale = 1 } = {}) {
  const context = await browser.newContext({ colorScheme: scheme, viewport: { width, height }, deviceScaleFactor: scale, reducedMotion: "reduce", acceptDownloads: true });
  if (process.env.PAGE_DIST) await fromDist(context, daemon);
  const page = await context.newPage();
  const problems = [];
  const expected = [];
  const report = (text) => { if (!expected.some((one) => text.includes(one))) problems.push(text); };
  page.on("console", (message) => {
    // The page first checks for a session. Without one the answer is a 401, which browsers report.
    if (message.location().url === `${daemon.url}/session`) return;
    if (["error", "warning"].includes(message.type())) report(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => report(`exception: ${error}`));
  context.on("request", (request) => {
    if (!request.url().startsWith(`${daemon.url}/`) && !/^(data|blob):/.test(request.url())) report(`a request left: ${request.url()}`);
  });
  page.setDefaultTimeout(20_000);
  return { page, context, problems, expected, axe: () => AxeBuilder(page) };
}

export async function signIn({ page }, daemon, token) {
  await page.goto(`${daemon.url}/`);
  // With a Supabase project, its accounts are offered first.
  const instead = page.getByRole("button", { name: "Use a token instead" });
  await page.getByLabel(/^(Token|Password)$/).waitFor();
  if (await instead.count()) await instead.click();
  await page.getByLabel("Token").fill(token);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("navigation", { name: "Views" }).waitFor();
}

/** Waits until no part of the view is being loaded. */
export const settled = (page) => page.waitForFunction(() => !document.querySelector(".skeleton, .changing"));

/** Goes to a view, and waits until its first answer is shown. */
export async function show({ page }, daemon, path) {
  await page.goto(`${daemon.url}/#/${path}`);
  await page.locator(".fresh", { hasText: "Live" }).waitFor();
  await settled(page);
}

/** For the tests of a file: a browser, and a daemon of days in `zone` that has recorded `calls`. `inside` signs an admin in, in a tab of its own. */
export function stage(zone, calls) {
  const it = { inside };
  let browser;
  before(async () => {
    it.daemon = await Daemon.start({ env: { TALLYD_ROLLUP_TIME_ZONE: zone, TALLYD_HTTP_STATEMENT_TIMEOUT_MS: "60000", TALLYD_DIMENSIONS_NAMES: "team" } });
    await it.daemon.record(calls);
    it.token = await it.daemon.token("admin");
    browser = await launch();
  }, { timeout: 90_000 });
  after(async () => {
    await browser?.close();
    await it.daemon?.stop();
  });
  async function inside(run, size = {}) {
    const tab = await open(browser, it.daemon, size);
    try {
      await signIn(tab, it.daemon, it.token);
      await run(tab, tab.page);
      assert.deepEqual(tab.problems, []);
    } finally {
      await tab.context.close();
    }
  }
  return it;
}
