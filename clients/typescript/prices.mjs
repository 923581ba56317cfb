// Writes the prices that the trackers of the Node and Python clients use until the daemon has sent the ones in force. The source is a daemon's
// catalog: run `node prices.mjs` after `cargo build`. One test compares src/known-prices.ts with the daemon, another one
// ../python/tallyd/_known_prices.py with src/known-prices.ts.
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { startDaemon } from "./tests/daemon.mjs";

const FILES = { "src/known-prices.ts": typescript, "../python/tallyd/_known_prices.py": python };
/** Numbers that are counts, not USD. */
const COUNTS = new Set(["promptTokens", "included"]);

async function pricesOf(daemon) {
  const token = await daemon.token("read", "prices");
  const answer = await fetch(`${daemon.url}/api/admin/pricing`, { headers: { authorization: `Bearer ${token}` } });
  return answer.json();
}

function typescript(prices) {
  return `// The prices that were in force when this was released, as the daemon's catalog has them. Written by prices.mjs.

import type { PricingInfo } from "./answers.js";

export const KNOWN_PRICES: PricingInfo = ${JSON.stringify(prices, null, 2)};
`;
}

function python(prices) {
  return `"""The prices that were in force when this was released, as the daemon's catalog has them.

Written by clients/typescript/prices.mjs.
"""

from decimal import Decimal

from ._answers import PricingInfo

KNOWN_PRICES: PricingInfo = ${literal(prices)}
`;
}

/** A Python literal in ruff's format. */
function literal(value, name = "", indent = "") {
  if (value === null) return "None";
  if (typeof value === "number") return COUNTS.has(name) ? `${value}` : `Decimal("${value}")`;
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  const inner = `${indent}    `;
  const lines = Object.entries(value).map(([key, one]) => `${inner}${Array.isArray(value) ? "" : `"${key}": `}${literal(one, key, inner)},\n`);
  return lines.length === 0 ? open + close : `${open}\n${lines.join("")}${indent}${close}`;
}

const daemon = await startDaemon();
const prices = await pricesOf(daemon);
await daemon.stop();
for (const [file, written] of Object.entries(FILES)) writeFileSync(new URL(file, import.meta.url), written(prices));
execFileSync("git", ["diff", "--stat", "--", ...Object.keys(FILES)], { cwd: import.meta.dirname, stdio: "inherit" });
