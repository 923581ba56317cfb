// Measures the page on a year of 20 models and 5,000 users: its size on the wire, the time of the first paint, and the
// time until the overview shows its figures. Prints the median of ROUNDS visits with an empty cache, and of as many
// with a full one.
import { launch, open, signIn } from "./browser.mjs";
import { Daemon } from "./daemon.mjs";

const ROUNDS = 9;
const daemon = await Daemon.start();
const browser = await launch();
const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

/** Fills the rollups alone, because these views read nothing else. */
function fill() {
  daemon.sql(`
    INSERT INTO daily_api_costs (day, provider, model, endpoint, calls, errors, input_tokens, output_tokens, requests, cost_usd)
      SELECT current_date - d, CASE WHEN m < 15 THEN 'claude' ELSE 'openai' END, 'model-' || m, '', 900 + m, 3, 1000000, 200000, 900, 1.25 * (m + 1)
      FROM generate_series(0, 364) AS d, generate_series(0, 19) AS m;
    INSERT INTO tallyd_user_days (day, user_id, provider, calls, errors, input_tokens, output_tokens, requests, cost_usd)
      SELECT current_date - d, 'user-' || u, 'claude', 4, 0, 4000, 800, 4, 0.05 FROM generate_series(0, 364) AS d, generate_series(1, 5000) AS u;
    INSERT INTO tallyd_user_totals (user_id, provider, calls, errors, cost_usd, first_call_at, last_call_at)
      SELECT 'user-' || u, 'claude', 1460, 0, 18.25, now() - interval '365 days', now() FROM generate_series(1, 5000) AS u;`);
  daemon.sql("ANALYZE");
}

async function visit(tab, path, ready) {
  await tab.page.goto("about:blank");
  await tab.page.goto(`${daemon.url}/#/${path}`);
  await tab.page.locator(ready).first().waitFor();
  return tab.page.evaluate(() => {
    const paint = performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? NaN;
    const files = performance.getEntriesByType("resource").filter((one) => !one.name.includes("/api/") && !one.name.endsWith("/session"));
    const page = performance.getEntriesByType("navigation")[0];
    return { paint, shown: performance.now(), bytes: page.transferSize + files.reduce((sum, one) => sum + one.transferSize, 0) };
  });
}

try {
  fill();
  const token = await daemon.token("admin");
  for (const [path, ready] of [["overview", ".tile-value"], ["costs?by=model&days=all", ".tile-value"], ["costs?by=user&days=90", ".tile-value"], ["users", "tbody tr"]]) {
    const empty = [];
    const full = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      const tab = await open(browser, daemon);
      await signIn(tab, daemon, token);
      const session = await tab.context.newCDPSession(tab.page);
      await session.send("Network.clearBrowserCache");
      empty.push(await visit(tab, path, ready));
      full.push(await visit(tab, path, ready));
      await tab.context.close();
    }
    const of = (visits, what) => median(visits.map((one) => one[what])).toFixed(0);
    console.log(`${path.padEnd(26)} first paint ${of(empty, "paint")} ms (cached ${of(full, "paint")} ms), figures after ${of(empty, "shown")} ms (cached ${of(full, "shown")} ms), ${of(empty, "bytes")} bytes`);
  }
} finally {
  await browser.close();
  await daemon.stop();
}
