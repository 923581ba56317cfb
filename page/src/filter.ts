// The filter that all views share: a range of days, and values of dimensions. Views read it from the address.

import { addDays, daysBetween } from "./format";
import type { Changes } from "./route";
import type { Dimension, GroupRow } from "./types";

export interface Range {
  from: string;
  to: string;
}

/** Dimensions and their values. An empty value stands for the calls without a name. */
export type Filters = Partial<Record<Dimension, string>>;

export const DIMENSIONS = [["provider", "Provider"], ["model", "Model"], ["endpoint", "Endpoint"], ["user", "User"], ["app", "App"]] as const;

export const RANGES = [
  ["7", "7 days"], ["30", "30 days"], ["90", "90 days"], ["month", "This month"], ["last-month", "Last month"], ["all", "All"], ["custom", "Custom"],
] as const;
export type RangeName = (typeof RANGES)[number][0];
const STANDARD = "30";

/** A dimension in a sentence: of a tag, its name. */
export const wordOf = (by: Dimension): string => by.replace(/^tag:/, "");

/** A value in a sentence. */
export const nameOf = (by: Dimension, value: string): string => value || `(no ${wordOf(by)})`;

export function filtersOf(query: URLSearchParams): Filters {
  const named = [...query].filter(([name]) => name.startsWith("tag:") || DIMENSIONS.some(([known]) => known === name));
  return Object.fromEntries(named);
}

export function rangeName(query: URLSearchParams): RangeName {
  if (query.get("from")) return "custom";
  return RANGES.find(([name]) => name === query.get("days"))?.[0] ?? STANDARD;
}

/** The address's parameters for a range's name. */
export function rangeChanges(name: RangeName, range: Range): Changes {
  if (name === "custom") return { days: null, from: range.from, to: range.to };
  return { days: name === STANDARD ? null : name, from: null, to: null };
}

const DAY = /^\d{4}-\d{2}-\d{2}$/;
const monthStart = (day: string): string => `${day.slice(0, 7)}-01`;
const monthEnd = (day: string): string => addDays(monthStart(addDays(monthStart(day), 32)), -1);
const monthBefore = (day: string): string => monthStart(addDays(monthStart(day), -1));

/** The range of a name. `all` begins with the first call, which the caller looks up. */
export function rangeOf(name: RangeName, query: URLSearchParams, today: string, first: string): Range {
  if (name === "custom") {
    const day = (key: string, other: string) => (DAY.test(query.get(key) ?? "") ? query.get(key) ?? other : other);
    const [from, to] = [day("from", today), day("to", today)].sort() as [string, string];
    return { from, to };
  }
  if (name === "month") return { from: monthStart(today), to: today };
  if (name === "last-month") return { from: monthBefore(today), to: monthEnd(monthBefore(today)) };
  return { from: name === "all" ? first : addDays(today, 1 - Number(name)), to: today };
}

export const daysOf = (range: Range): number => daysBetween(range.from, range.to) + 1;

/**
 * The range to compare with. A number of days is compared with as many days before it. Before a month comes the month before;
 * before the beginning of this month, the same days of the month before. Null if there is no range before all days.
 */
export function rangeBefore(range: Range, name: RangeName, today: string): Range | null {
  if (name === "all") return null;
  const isMonth = range.from === monthStart(range.from) && range.to.slice(0, 7) === range.from.slice(0, 7);
  if (isMonth && !/^\d+$/.test(name)) {
    const from = monthBefore(range.from);
    if (range.to === monthEnd(range.from)) return { from, to: monthEnd(from) };
    const sameDay = addDays(from, daysBetween(range.from, range.to));
    if (range.to === today) return { from, to: sameDay < monthEnd(from) ? sameDay : monthEnd(from) };
  }
  return { from: addDays(range.from, -daysOf(range)), to: addDays(range.from, -1) };
}

/** The last day of a month that a range begins and is a part of, such as this month; null for other ranges. */
export function wholeMonth(range: Range): string | null {
  return range.from === monthStart(range.from) && range.to <= monthEnd(range.from) ? monthEnd(range.from) : null;
}

/** The longest range, days, of sums that are not in a rollup: the daemon adds up single calls for them. */
export const LOG_DAYS_MAX = 31;

/** Whether sums by these dimensions can be had for a range: a rollup has them, or it is short. */
export function canAsk(by: Dimension[], filters: Filters, range: Range): boolean {
  if (daysOf(range) <= LOG_DAYS_MAX) return true;
  const asked = [...new Set([...by, ...(Object.keys(filters) as Dimension[])])];
  const others = (known: Dimension[]) => asked.filter((one) => !known.includes(one));
  const beside = others(["provider", "model"]);
  return others(["provider", "model", "endpoint"]).length === 0 || others(["provider", "user"]).length === 0
    || (beside.length === 1 && beside.every((one) => one === "app" || one.startsWith("tag:")));
}

/** The dimension to look at next: of a provider or an application its models, of a model its users. Null if calls come next. */
export function nextDimension(by: Dimension, filters: Filters, range: Range): Dimension | null {
  const order: Dimension[] = daysOf(range) <= LOG_DAYS_MAX ? ["model", "user"] : ["model", "user", "app", "endpoint", "provider"];
  return order.find((one) => one !== by && filters[one] === undefined && canAsk([one], filters, range)) ?? null;
}

/** The filters that a group's row stands for. */
export function filtersOfRow(by: Dimension, row: GroupRow): Filters {
  const of: Filters = { [by]: row[by] ?? "" };
  if (row.provider !== undefined) of.provider = row.provider;
  return of;
}

/** Parameters of `/api/v1/costs` for filters. */
export const asCosts = (filters: Filters): [string, string][] => Object.entries(filters) as [string, string][];
/** Parameters of `/api/v1/records`. */
export const asRecords = (filters: Filters): [string, string][] => asCosts(filters).map(([name, value]) => [name === "user" ? "user_id" : name, value]);

/** A path with parameters and filters. */
export function path(base: string, parameters: Record<string, string | number | null>, filters: [string, string][]): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) if (value !== null && value !== "") query.set(name, String(value));
  for (const [name, value] of filters) query.set(name, value);
  return `${base}?${query}`;
}
