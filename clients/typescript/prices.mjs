// Writes src/known-prices.ts from a daemon's own catalog: the prices that a tracker goes by until the daemon has told it the ones in force.
// `node prices.mjs`, after `cargo build`; a test holds the file to the daemon.
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { startDaemon } from "./tests/daemon.mjs";

export async function knownPrices(daemon) {
  const token = await daemon.token("read", "prices");
  const answer = await fetch(`${daemon.url}/api/admin/pricing`, { headers: { authorization: `Bearer ${token}` } });
  const prices = await answer.json();
  return `// The prices that were in force when this was released, as the daemon's catalog has them. Written by prices.mjs.

import type { PricingInfo } from "./answers.js";

export const KNOWN_PRICES: PricingInfo = ${JSON.stringify(prices, null, 2)};
`;
}

if (process.argv[1] === import.meta.filename) {
  const daemon = await startDaemon();
  writeFileSync(new URL("src/known-prices.ts", import.meta.url), await knownPrices(daemon));
  await daemon.stop();
  execFileSync("git", ["diff", "--stat", "--", "src/known-prices.ts"], { cwd: import.meta.dirname, stdio: "inherit" });
}
