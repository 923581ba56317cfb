// From sums to their causes: a bar or a group leads to the same calls by the next dimension, and at last to the calls
// themselves.

import { type History, type Question, barRange } from "./costdata";
import { DIMENSIONS, type Filters, type Range, canAsk, filtersOfRow, nextDimension, wordOf } from "./filter";
import { go, href, read } from "./route";
import { OTHERS } from "./sums";
import type { Dimension, GroupRow } from "./types";

const known = (asked: string | null): Dimension | null =>
  asked?.startsWith("tag:") ? (asked as Dimension) : DIMENSIONS.find(([name]) => name === asked)?.[0] ?? null;

/** The dimension to group by, of the address. */
export const byOf = (query: URLSearchParams): Dimension => known(query.get("by")) ?? "provider";

/** The second dimension, by which the groups are split; null without one. */
export function splitOf(query: URLSearchParams): Dimension | null {
  const split = known(query.get("split"));
  return split === byOf(query) ? null : split;
}

/** The calls that filters leave in a range, as the view of records. */
export const calls = (range: Range, filters: Filters): string => href("records", { ...filters, days: null, ...range });

/** The same calls by the next dimension, or one by one. The dimension that the groups are split by comes first. */
export function deeper({ by, filters }: Pick<Question, "by" | "filters">, range: Range, row: GroupRow | null): { to: string; what: string } {
  const chosen = row ? { ...filters, ...filtersOfRow(by, row) } : filters;
  const split = splitOf(read().query);
  const isNext = split !== null && chosen[split] === undefined && canAsk([split], chosen, range);
  const next = isNext ? split : nextDimension(by, chosen, range);
  if (next === null) return { to: calls(range, chosen), what: "calls" };
  return { to: href("costs", { ...chosen, days: null, ...range, by: next, split: null }), what: wordOf(next) };
}

/** Opens a bar: from weeks and months their days, from days a day, from hours their calls. */
export function openBar(data: History, at: number, series: string | null): void {
  const { question } = data;
  const bar = data.bars[at];
  if (!bar) return;
  const row = data.groups.find((group) => group.name === series && group.name !== OTHERS)?.row ?? null;
  if (question.bucket === "hour") {
    const chosen = row ? { ...question.filters, ...filtersOfRow(question.by, row) } : question.filters;
    return go(href("records", { ...chosen, days: null, ...question.range, hour: bar.key }));
  }
  const range = barRange(question, bar.key);
  if (question.bucket === "day") return go(deeper(question, range, row).to);
  go(href("costs", { ...(row ? filtersOfRow(question.by, row) : {}), days: null, ...range }));
}

/** The same in words. */
export function opensWhat({ question }: History): string {
  if (question.bucket === "hour") return "its calls";
  return question.bucket === "day" ? `this day by ${deeper(question, { from: question.range.to, to: question.range.to }, null).what}` : "its days";
}
