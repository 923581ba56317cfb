// Draws the pictures of README and of the guides into docs/images, each from a daemon with a demonstration's calls.
//
//   node tests/images.mjs          all of them
//   node tests/images.mjs story    those whose name contains a text
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { launch, open, show, signIn } from "./browser.mjs";
import { Daemon, until } from "./daemon.mjs";
import { ZONE, addDays, at, today } from "./noon.mjs";
import { paletted, pixels } from "./palette.mjs";

const FOLDER = join(import.meta.dirname, "../../docs/images");
const day = today();
const yesterday = addDays(day, -1);

/** Four months of an ordinary service. */
async function service(daemon) {
  await daemon.fill();
  const spent = (where) => Number(daemon.sql(`SELECT coalesce(sum(cost_usd), 0) FROM daily_api_costs WHERE ${where}`));
  const budget = (amount, ...words) => daemon.run("budgets", "set", amount.toFixed(2), ...words);
  budget(spent("day = current_date") / 0.6, "--limit", "soft");
  budget(spent("day >= date_trunc('month', current_date)") / 0.84, "--period", "month", "--limit", "soft");
  budget(spent("day >= date_trunc('week', current_date) AND provider = 'claude'") / 0.4, "--period", "week", "--for", "provider=claude");
  await until("budgets are evaluated", () => daemon.sql("SELECT count(*) FROM api_budget_states") === "3");
}

/** The calls of docs/guide/story.md: a loop that ends at the budget of a team. */
async function loop(daemon) {
  const customers = { search: ["acme", "borealis", "cobalt"], support: ["delta", "ember"] };
  const chat = (customer, occurred_at) => ({ provider: "openai", model: "gpt-4o", endpoint: "/v1/chat/completions", input_tokens: 500, cache_read_tokens: 400, output_tokens: 50, cost_usd: "0.00225", occurred_at, tags: { team: "support", customer } });
  const search = (customer, occurred_at, cost_usd) => ({ provider: "claude", model: "claude-sonnet-5", endpoint: "/v1/messages", input_tokens: 1_000, output_tokens: 200, cost_usd, occurred_at, tags: { team: "search", customer } });
  const before = Array.from({ length: 3 }, (_, n) => at(yesterday, `10:0${n}`)).flatMap((time) => [...customers.search.map((one) => search(one, time, "0.004")), ...customers.support.map((one) => chat(one, time))]);
  const now = new Date().toISOString();
  daemon.run("budgets", "set", "1", "--for", "tag:team=support", "--limit", "hard");
  await daemon.record([...before, ...["acme", "borealis", "cobalt", "acme"].map((one) => search(one, now, "0.0259")), chat("delta", now), ...Array(469).fill(chat("ember", now))]);
  await until("the budget is evaluated", () => daemon.sql("SELECT status FROM api_budget_states") === "exceeded");
}

/** A table of two dimensions alone. */
const TABLE = ".card:has(.pivot)";
/** Each picture has a view, from its top, or a part of one. */
const SCENES = [
  { prepare: service, env: {}, pictures: { "page-overview": ["overview"], "page-costs": ["costs?by=model&days=90"], "page-pivot": ["costs?by=app&split=model&days=30", TABLE] } },
  { prepare: loop, env: { TALLYD_ROLLUP_TIME_ZONE: ZONE, TALLYD_DIMENSIONS_NAMES: "team,customer" }, pictures: { "story-budget": ["budgets"], "story-cause": ["costs?days=7&by=tag:team&split=tag:customer", TABLE] } },
];
const SIZE = { width: 1360, height: 880 };

const wanted = process.argv[2] ?? "";
const browser = await launch();
try {
  for (const { prepare, env, pictures } of SCENES) {
    if (!Object.keys(pictures).some((name) => name.includes(wanted))) continue;
    const daemon = await Daemon.start({ env });
    try {
      await prepare(daemon);
      const tab = await open(browser, daemon, SIZE);
      await signIn(tab, daemon, await daemon.token("admin", "ada"));
      for (const [name, [path, part]] of Object.entries(pictures)) {
        if (!name.includes(wanted)) continue;
        await show(tab, daemon, path);
        const height = Math.min(SIZE.height, await tab.page.evaluate(() => Math.ceil(document.querySelector("main").lastElementChild.getBoundingClientRect().bottom + 24)));
        const drawn = part ? await tab.page.locator(part).screenshot() : await tab.page.screenshot({ clip: { x: 0, y: 0, width: SIZE.width, height } });
        const picture = paletted(await pixels(tab.page, drawn));
        writeFileSync(join(FOLDER, `${name}.png`), picture);
        console.log(`docs/images/${name}.png: ${picture.length} bytes`);
      }
      await tab.context.close();
    } finally {
      await daemon.stop();
    }
  }
} finally {
  await browser.close();
}
