// Sums of groups of calls: added, subtracted, named.

import { wordOf } from "./filter";
import { parse, sum, text } from "./money";
import type { Dimension, GroupRow } from "./types";

const COUNTS = [
  "calls", "errors", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens",
  "requests", "unpriced_calls",
] as const;

export const ZERO = {
  calls: 0, errors: 0, input_tokens: 0, output_tokens: 0, cache_read_tokens: 0, cache_write_5m_tokens: 0,
  cache_write_1h_tokens: 0, requests: 0, cost_usd: "0", unpriced_calls: 0,
};
/** The series of all groups without one of their own. */
export const OTHERS = "All others";

/** Adds up all fields. */
export function add(rows: GroupRow[]): GroupRow {
  const total: GroupRow = { ...ZERO };
  for (const row of rows) {
    for (const key of COUNTS) total[key] += row[key];
  }
  total.cost_usd = text(sum(rows.map((row) => parse(row.cost_usd))));
  return total;
}

/** A sum without a part of it. */
export function minus(all: GroupRow, part: GroupRow): GroupRow {
  const left: GroupRow = { ...ZERO };
  for (const key of COUNTS) left[key] = all[key] - part[key];
  left.cost_usd = text(parse(all.cost_usd) - parse(part.cost_usd));
  return left;
}

/** The names of groups. A name that two providers have is followed by its provider. */
export function namesOf(rows: GroupRow[], by: Dimension): string[] {
  const names = rows.map((row) => row[by] || row.provider || `(no ${wordOf(by)})`);
  const times = new Map<string, number>();
  for (const name of names) times.set(name, (times.get(name) ?? 0) + 1);
  return names.map((name, at) => ((times.get(name) ?? 0) > 1 && rows[at]?.provider ? `${name} (${rows[at].provider})` : name));
}

/** Models and endpoints are named by their provider. */
const isOfProvider = (by: Dimension): boolean => by === "model" || by === "endpoint";

/** The dimensions to group by. Calls without a name go under the provider's own. */
export const dimensionsOf = (...by: Dimension[]): Dimension[] => [...new Set(by.flatMap((one): Dimension[] => (isOfProvider(one) ? ["provider", one] : [one])))];

/** A group's key: its value, and for models and endpoints its provider. */
export const keyOf = (row: GroupRow, by: Dimension): string => JSON.stringify([isOfProvider(by) ? row.provider ?? null : null, row[by] ?? ""]);
