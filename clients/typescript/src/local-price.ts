// A call's cost by the last known prices, for times when the daemon does not answer. The stored cost is always the daemon's.

import type { PricingInfo } from "./answers.js";
import type { UsageRecord } from "./record.js";

/** The fields that this file can price, with their rates. */
const RATES = {
  input_tokens: "inputPerMToken",
  output_tokens: "outputPerMToken",
  cache_read_tokens: "cacheReadPerMToken",
  cache_write_5m_tokens: "cacheWrite5mPerMToken",
  cache_write_1h_tokens: "cacheWrite1hPerMToken",
} as const;

/** The fields whose sum is the prompt's size. */
const PROMPT = ["input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens"] as const;

/** The cost in USD; undefined if a price or a unit is not known here. */
export function localPrice(prices: PricingInfo, record: UsageRecord): number | undefined {
  if (record.extra_units || (record.service_tier && record.service_tier !== "standard")) return undefined;
  if (record.provider === "rentcast") return prices.rentcast.costPerRequest * Number(record.requests ?? 1);
  const name = (record.model ?? "").trim().toLowerCase();
  // A date at the end of a model's name does not change the price.
  const model = prices.claude[name] ?? prices.claude[name.replace(/-\d{8}$/, "")];
  if (record.provider !== "claude" || !model) return undefined;
  const prompt = PROMPT.reduce((sum, field) => sum + Number(record[field] ?? 0), 0);
  const rates = model.above.findLast(({ promptTokens }) => prompt > promptTokens) ?? model;
  let cost = 0;
  for (const [field, rate] of Object.entries(RATES) as [keyof typeof RATES, (typeof RATES)[keyof typeof RATES]][]) {
    const tokens = Number(record[field] ?? 0);
    const perMillion = rates[rate];
    if (tokens > 0 && perMillion === null) return undefined;
    cost += (tokens * (perMillion ?? 0)) / 1_000_000;
  }
  return cost;
}
