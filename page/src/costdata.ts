// Cost history for the chart and the table: a value per bar and series, without gaps.

import { get, url } from "./api";
import { type Filters, type Range, asCosts, filtersOfRow, path } from "./filter";
import { addDays, daysBetween, longDay, month, shortDay, today } from "./format";
import { type Attos, parse } from "./money";
import { COLORS, OTHER, colorsOf } from "./palette";
import { OTHERS, ZERO, add, dimensionsOf, keyOf, minus, namesOf } from "./sums";
import type { Costs, Dimension, Dimensions, GroupRow } from "./types";

export type Bucket = "hour" | "day" | "week" | "month";
/** Series with a colour of their own; all further groups become one series. */
export const SERIES_MAX = COLORS.length;
/** Maximum days of a chart by hours, because more bars are unreadable. By application, hours are read from the call log. */
export const HOUR_DAYS_MAX = 31;

export interface Question {
  by: Dimension;
  range: Range;
  /** The range to compare with; null if there is none before. */
  before: Range | null;
  bucket: Bucket;
  filters: Filters;
}

export interface Group {
  name: string;
  color: string;
  /** The sums over the whole range. */
  row: GroupRow;
  /** The sums over the range before; null if there is no such range. */
  before: GroupRow | null;
  cost: Attos;
  /** A row per bar; undefined where there was no call. */
  bars: (GroupRow | undefined)[];
}

export interface History {
  question: Question;
  bars: { key: string; short: string; long: string }[];
  /** The dearest first. The last may combine all others. */
  groups: Group[];
  /** Groups that are in the table only, and those that had calls in the range before only. */
  more: { name: string; row: GroupRow; before: GroupRow | null }[];
  /** Its cost is filled in. */
  total: GroupRow;
  /** The same of the range before. */
  before: GroupRow | null;
  cost: Attos;
  /** Whether more groups exist than were loaded. */
  isCut: boolean;
  /** The tags that are dimensions. */
  tags: string[];
  /** The first day whose sums are whole, if the range begins before it. */
  whole_from: string | null;
  /** Until when the groups have every call, while many calls are being loaded. */
  as_of: string | null;
}

/** The intervals with a readable number of bars for a range. */
export function fittingBucket(range: Range): Bucket {
  const days = daysBetween(range.from, range.to) + 1;
  if (days <= 2) return "hour";
  if (days <= 120) return "day";
  return days <= 1100 ? "week" : "month";
}

/** The first day of the week or month that a day lies in. Weeks begin on Monday, as in the API. */
function start(day: string, bucket: Bucket): string {
  if (bucket === "month") return `${day.slice(0, 7)}-01`;
  if (bucket !== "week") return day;
  const weekday = (new Date(`${day}T00:00:00Z`).getUTCDay() + 6) % 7;
  return addDays(day, -weekday);
}

function next(key: string, bucket: Bucket): string {
  if (bucket === "day") return addDays(key, 1);
  if (bucket === "week") return addDays(key, 7);
  return start(addDays(key, 32), "month");
}

function barsOf(range: Range, bucket: Bucket, zone: string): History["bars"] {
  if (bucket === "hour") return hours(range, zone);
  const bars: History["bars"] = [];
  const manyYears = range.from.slice(0, 4) !== range.to.slice(0, 4);
  for (let key = start(range.from, bucket); key <= range.to; key = next(key, bucket)) {
    const long = bucket === "day" ? longDay(key) : bucket === "week" ? `Week of ${longDay(key)}` : month(key);
    bars.push({ key, short: bucket === "month" ? month(key) : manyYears ? `${shortDay(key)}\n${key.slice(0, 4)}` : shortDay(key), long });
  }
  return bars;
}

/** The days of a bar that lie in the range. */
export function barRange({ range, bucket }: Question, key: string): Range {
  const last = bucket === "day" ? key : addDays(next(key, bucket), -1);
  return { from: key < range.from ? range.from : key, to: last > range.to ? range.to : last };
}

/** The hours that have begun and whose day in the reporting time zone is in the range. They are instants. */
export function hours(range: Range, zone: string): (History["bars"][number] & { day: string })[] {
  const bars: ReturnType<typeof hours> = [];
  const format = new Intl.DateTimeFormat("en-GB", { timeZone: zone, hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const dayOf = new Intl.DateTimeFormat("en-CA", { timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit" });
  const first = new Date(`${addDays(range.from, -1)}T00:00:00Z`).getTime();
  const end = Math.min(new Date(`${addDays(range.to, 2)}T00:00:00Z`).getTime(), Date.now());
  for (let at = first; at < end; at += 3_600_000) {
    const date = new Date(at);
    const day = dayOf.format(date);
    if (day < range.from || day > range.to) continue;
    bars.push({ key: `${date.toISOString().slice(0, 19)}Z`, day, short: format.format(date), long: `${longDay(day)}, ${format.format(date)}` });
  }
  return bars;
}

/** The first day with a call. */
export async function firstDay(zone: string, signal: AbortSignal): Promise<string> {
  const now = today(zone);
  const { rows } = await get<Costs>(url("/api/v1/costs", { days: 3650, bucket: "month", limit: 1 }), signal);
  const first = rows[0]?.bucket;
  if (!first) return addDays(now, -29);
  const month = await get<Costs>(url("/api/v1/costs", { from: first, to: now, bucket: "day", limit: 1 }), signal);
  return month.rows[0]?.bucket ?? first;
}

/** The groups that are asked for. The table has pages, and the file has all of them. */
const GROUPS = 1_000;

/**
 * Loads a history: the sums of every group in the range and in the range before, then the largest groups' bars, each by a
 * request of its own. So a day with 5,000 users costs no more than one with five.
 */
export async function history(question: Question, zone: string, signal: AbortSignal): Promise<History> {
  const { by, range, before, bucket, filters } = question;
  const ask = (days: Range, more: Record<string, string | number>) => get<Costs>(path("/api/v1/costs", { ...days, ...more }, asCosts(filters)), signal);
  const grouped = { bucket: "total", group_by: dimensionsOf(by).join(), sort: "cost", limit: GROUPS };
  const [ranked, whole, known, rankedBefore, wholeBefore] = await Promise.all([
    ask(range, grouped),
    ask(range, { bucket, limit: 10_000 }),
    get<Dimensions>("/api/v1/dimensions", signal),
    before && ask(before, grouped),
    before && ask(before, { bucket: "total" }),
  ]);
  const bars = barsOf(range, bucket, zone);
  const top = ranked.rows.slice(0, ranked.rows.length > SERIES_MAX ? SERIES_MAX - 1 : SERIES_MAX);
  const series = await Promise.all(top.map((row) => barsOfGroup(row, question, signal)));
  const listed = new Set(ranked.rows.map((row) => keyOf(row, by)));
  const past = new Map(rankedBefore?.rows.map((row) => [keyOf(row, by), row]));
  // A group without calls now is listed, too, unless it may be among those that were not loaded.
  const gone = ranked.next_offset === null ? [...past.values()].filter((row) => !listed.has(keyOf(row, by))) : [];
  const rows = [...ranked.rows, ...gone.map((row): GroupRow => ({ ...row, ...ZERO }))];
  const names = namesOf(rows, by);
  const colors = colorsOf(names.slice(0, top.length));
  const lineUp = (some: GroupRow[]) => {
    const byKey = new Map(some.map((row) => [row.bucket, row]));
    return bars.map((bar) => byKey.get(bar.key));
  };
  const beforeOf = (row: GroupRow) => before && (past.get(keyOf(row, by)) ?? (rankedBefore?.next_offset === null ? { ...row, ...ZERO } : null));
  const groups: Group[] = top.map((row, at) => ({
    name: names[at] ?? "", color: colors[at] ?? OTHER, row, before: beforeOf(row), cost: parse(row.cost_usd), bars: lineUp(series[at] ?? []),
  }));
  const total = add(whole.rows);
  const more = rows.slice(top.length).map((row, at) => ({ name: names[top.length + at] ?? "", row, before: beforeOf(row) }));
  if (ranked.rows.length > top.length) groups.push(others(groups, whole.rows, total, lineUp));
  const tags = known.dimensions.filter(({ group_by }) => group_by.startsWith("tag:")).map(({ name }) => name);
  return {
    question, tags, bars, groups, more, total, before: wholeBefore && add(wholeBefore.rows), cost: parse(total.cost_usd),
    isCut: ranked.next_offset !== null || (rankedBefore?.next_offset ?? null) !== null, whole_from: ranked.whole_from ?? whole.whole_from, as_of: ranked.as_of,
  };
}

/** One group's bars. An empty name is a group, too: the calls without a name. */
async function barsOfGroup(row: GroupRow, { by, bucket, range, filters }: Question, signal: AbortSignal): Promise<GroupRow[]> {
  const of = asCosts({ ...filters, ...filtersOfRow(by, row) });
  return (await get<Costs>(path("/api/v1/costs", { ...range, bucket, limit: 10_000 }, of), signal)).rows;
}

/** The remainder beside the shown groups. */
function others(groups: Group[], whole: GroupRow[], total: GroupRow, lineUp: (rows: GroupRow[]) => (GroupRow | undefined)[]): Group {
  const bars = lineUp(whole).map((all, at) => all && minus(all, add(groups.flatMap((group) => group.bars[at] ?? []))));
  const row = minus(total, add(groups.map((group) => group.row)));
  return { name: OTHERS, color: OTHER, row, before: null, cost: parse(row.cost_usd), bars };
}
