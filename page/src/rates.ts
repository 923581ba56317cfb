// Figures that relate a group's sums: cost a call, cost of 1,000 tokens, shares. Null where the divisor is 0.

import { type Attos, parse } from "./money";
import type { GroupRow } from "./types";

export const promptTokens = (row: GroupRow): number => row.input_tokens + row.cache_read_tokens + row.cache_write_5m_tokens + row.cache_write_1h_tokens;
export const tokens = (row: GroupRow): number => promptTokens(row) + row.output_tokens;

/** The cost divided by the priced calls. */
export function perCall(row: GroupRow): Attos | null {
  const priced = row.calls - row.unpriced_calls;
  return priced > 0 ? parse(row.cost_usd) / BigInt(priced) : null;
}

/** The cost of 1,000 tokens of any kind; a lower bound if some calls are unpriced, because their tokens count. */
export function perThousandTokens(row: GroupRow): Attos | null {
  const all = tokens(row);
  return all > 0 && row.calls > row.unpriced_calls ? (parse(row.cost_usd) * 1000n) / BigInt(all) : null;
}

const share = (part: number, whole: number): number | null => (whole > 0 ? (part / whole) * 100 : null);

/** Prompt tokens that came from a cache, in percent. */
export const cacheShare = (row: GroupRow): number | null => share(row.cache_read_tokens, promptTokens(row));
export const errorShare = (row: GroupRow): number | null => share(row.errors, row.calls);
