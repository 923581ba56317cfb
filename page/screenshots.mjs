// Takes pictures of each view into a folder, on a daemon with three months of calls: node screenshots.mjs FOLDER

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { fill, startDaemon } from "../tests/node/daemon.mjs";

const folder = process.argv[2];
if (!folder) {
  console.error("usage: node screenshots.mjs FOLDER");
  process.exit(2);
}
const VIEWS = ["overview", "costs?by=model&range=90", "users", "users/user-00001", "sessions", "budgets", "prices", "records", "dead-letters"];
const SIZES = [["wide", 1360, 900], ["phone", 390, 844]];
mkdirSync(folder, { recursive: true });
const daemon = await startDaemon();
await fill(daemon);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu"] });
for (const colorScheme of ["light", "dark"]) {
  for (const [name, width, height] of SIZES) {
    const context = await browser.newContext({ colorScheme, viewport: { width, height } });
    const page = await context.newPage();
    await page.goto(daemon.link());
    await page.waitForSelector("nav");
    for (const view of VIEWS) {
      await page.goto(`${daemon.url}/#/${view}`);
      await page.waitForSelector("main .panel, main .stats");
      await page.waitForFunction(() => !document.querySelector(".loading"));
      const file = `${view.split("?")[0].replace("/", "-")}-${colorScheme}-${name}.png`;
      await page.screenshot({ path: join(folder, file) });
      console.log(file);
    }
    await context.close();
  }
}
await browser.close();
await daemon.stop();
