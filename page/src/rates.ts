// Figures that relate a group's sums: cost a call, cost of 1,000 tokens, shares. Null where the divisor is 0.

import { type Attos, parse } from "./money";
import type { GroupRow, PriceRow } from "./types";

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

/** The saving by caching. */
export interface Saved {
  usd: Attos;
  /** Whether each model with cached tokens has a list price. */
  isWhole: boolean;
}

const MILLION = 1_000_000n;

/**
 * At the list prices: tokens that were read from a cache at the input's rate less their own, and tokens that were written to
 * it at the input's rate less theirs, which is below 0. Models without a list price are left out.
 */
export function savedAt(rows: GroupRow[], prices: PriceRow[]): Saved {
  const listed = new Map(prices.filter((price) => price.service_tier === "standard" && !price.rates.plan).map((price) => [`${price.provider} ${price.model}`, price.rates.per_million_tokens]));
  const result: Saved = { usd: 0n, isWhole: true };
  for (const row of rows) {
    const cached = [["cache_read", row.cache_read_tokens], ["cache_write_5m", row.cache_write_5m_tokens], ["cache_write_1h", row.cache_write_1h_tokens]] as const;
    if (cached.every(([, tokens]) => tokens === 0)) continue;
    const model = row.model ?? "";
    // A model's name may end with the day of its release.
    const rates = listed.get(`${row.provider} ${model}`) ?? listed.get(`${row.provider} ${model.replace(/-\d{8}$/, "")}`);
    if (rates?.["input"] === undefined) {
      result.isWhole = false;
      continue;
    }
    const input = parse(rates["input"]);
    for (const [bucket, tokens] of cached) {
      const rate = rates[bucket];
      if (rate === undefined) result.isWhole &&= tokens === 0;
      else result.usd += ((input - parse(rate)) * BigInt(tokens)) / MILLION;
    }
  }
  return result;
}
