// Cost history for the chart and the table: a value per bar and series, without gaps.

import { get, url } from "./api";
import { addDays, daysBetween, longDay, month, shortDay, today } from "./format";
import { type Attos, parse, sum, text } from "./money";
import { COLORS, OTHER, colorsOf } from "./palette";
import type { Range } from "./range";
import type { Costs, Dimension, Dimensions, GroupRow } from "./types";

export type Bucket = "hour" | "day" | "week" | "month";
/** Series with a colour of their own; all further groups become one series. */
export const SERIES_MAX = COLORS.length;
/** Maximum days of a chart by hours, because more bars are unreadable. By application, hours are read from the call log. */
export const HOUR_DAYS_MAX = 31;

export interface Question {
  by: Dimension;
  range: Range;
  bucket: Bucket;
  provider: string;
}

export interface Group {
  name: string;
  color: string;
  /** The sums over the whole range. */
  row: GroupRow;
  cost: Attos;
  /** A row per bar; undefined where there was no call. */
  bars: (GroupRow | undefined)[];
}

export interface History {
  question: Question;
  bars: { key: string; short: string; long: string }[];
  /** The dearest first. The last may combine all others. */
  groups: Group[];
  /** Groups that are in the table only. */
  more: { name: string; row: GroupRow }[];
  total: GroupRow;
  cost: Attos;
  /** The number of groups; a lower bound if there are more than a page. */
  groupCount: number;
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
  for (let key = start(range.from, bucket); key <= range.to; key = next(key, bucket)) {
    const long = bucket === "day" ? longDay(key) : bucket === "week" ? `Week of ${longDay(key)}` : month(key);
    bars.push({ key, short: bucket === "month" ? month(key) : shortDay(key), long });
  }
  return bars;
}

/** The hours that have begun and whose day in the reporting time zone is in the range. They are instants. */
function hours(range: Range, zone: string): History["bars"] {
  const bars: History["bars"] = [];
  const format = new Intl.DateTimeFormat("en-GB", { timeZone: zone, hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const dayOf = new Intl.DateTimeFormat("en-CA", { timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit" });
  const first = new Date(`${addDays(range.from, -1)}T00:00:00Z`).getTime();
  const end = Math.min(new Date(`${addDays(range.to, 2)}T00:00:00Z`).getTime(), Date.now());
  for (let at = first; at < end; at += 3_600_000) {
    const date = new Date(at);
    const day = dayOf.format(date);
    if (day < range.from || day > range.to) continue;
    bars.push({ key: `${date.toISOString().slice(0, 19)}Z`, short: format.format(date), long: `${longDay(day)}, ${format.format(date)}` });
  }
  return bars;
}

const COUNTS = [
  "calls", "errors", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens",
  "requests", "unpriced_calls",
] as const;

/** Adds up all fields except the cost, which is not a binary number. */
export function add(rows: GroupRow[]): GroupRow {
  const total: GroupRow = {
    calls: 0, errors: 0, input_tokens: 0, output_tokens: 0, cache_read_tokens: 0, cache_write_5m_tokens: 0,
    cache_write_1h_tokens: 0, requests: 0, cost_usd: "0", unpriced_calls: 0,
  };
  for (const row of rows) {
    for (const key of COUNTS) total[key] += row[key];
  }
  return total;
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

/** A dimension in a sentence: of a tag, its name. */
export const wordOf = (by: Dimension): string => by.replace(/^tag:/, "");

/** The names of groups. A name that two providers have is followed by its provider. */
export function namesOf(rows: GroupRow[], by: Dimension): string[] {
  const names = rows.map((row) => row[by] || row.provider || `(no ${wordOf(by)})`);
  const times = new Map<string, number>();
  for (const name of names) times.set(name, (times.get(name) ?? 0) + 1);
  return names.map((name, at) => ((times.get(name) ?? 0) > 1 && rows[at]?.provider ? `${name} (${rows[at].provider})` : name));
}

/** The dimensions to group by: models and endpoints are named by their provider. Calls without a name go under the provider's own. */
export const dimensionsOf = (by: Dimension): string => (by === "model" || by === "endpoint" ? `provider,${by}` : by);

/**
 * Loads a history: the sums of every group, then the largest groups' bars, each by a request of its own. So a day with
 * 5,000 users costs no more than one with five.
 */
export async function history(question: Question, zone: string, signal: AbortSignal): Promise<History> {
  const { by, range, bucket, provider } = question;
  const common = { from: range.from, to: range.to, provider };
  const ask = (more: Record<string, string | number>) => get<Costs>(url("/api/v1/costs", { ...common, ...more }), signal);
  const [ranked, whole, known] = await Promise.all([
    ask({ bucket: "total", group_by: dimensionsOf(by), sort: "cost", limit: 200 }),
    ask({ bucket, limit: 10_000 }),
    get<Dimensions>("/api/v1/dimensions", signal),
  ]);
  const bars = barsOf(range, bucket, zone);
  const top = ranked.rows.slice(0, ranked.rows.length > SERIES_MAX ? SERIES_MAX - 1 : SERIES_MAX);
  const series = await Promise.all(top.map((row) => barsOfGroup(row, question, signal)));
  const names = namesOf(ranked.rows, by);
  const colors = colorsOf(names.slice(0, top.length));
  const lineUp = (rows: GroupRow[]) => {
    const byKey = new Map(rows.map((row) => [row.bucket, row]));
    return bars.map((bar) => byKey.get(bar.key));
  };
  const groups: Group[] = top.map((row, at) => ({
    name: names[at] ?? "", color: colors[at] ?? OTHER, row, cost: parse(row.cost_usd), bars: lineUp(series[at] ?? []),
  }));
  const total = add(whole.rows);
  const cost = sum(whole.rows.map((row) => parse(row.cost_usd)));
  const more = ranked.rows.slice(top.length).map((row, at) => ({ name: names[top.length + at] ?? "", row }));
  if (more.length > 0) groups.push(others(groups, whole.rows, total, cost, lineUp));
  const tags = known.dimensions.filter(({ group_by }) => group_by.startsWith("tag:")).map(({ name }) => name);
  return { question, tags, bars, groups, more, total, cost, groupCount: ranked.rows.length, whole_from: ranked.whole_from ?? whole.whole_from, as_of: ranked.as_of };
}

/** One group's bars. An empty name is a group, too: the calls without a name. */
async function barsOfGroup(row: GroupRow, { by, bucket, range, provider }: Question, signal: AbortSignal): Promise<GroupRow[]> {
  const query = new URLSearchParams({ from: range.from, to: range.to, bucket, limit: "10000", [by]: row[by] ?? "" });
  const of = row.provider ?? provider;
  if (of) query.set("provider", of);
  return (await get<Costs>(`/api/v1/costs?${query}`, signal)).rows;
}

/** The remainder beside the shown groups. */
function others(groups: Group[], whole: GroupRow[], total: GroupRow, cost: Attos, lineUp: (rows: GroupRow[]) => (GroupRow | undefined)[]): Group {
  const minus = (all: GroupRow, parts: GroupRow[]): GroupRow => {
    const left = add(parts);
    for (const key of COUNTS) left[key] = all[key] - left[key];
    left.cost_usd = text(parse(all.cost_usd) - sum(parts.map((part) => parse(part.cost_usd))));
    return left;
  };
  const bars = lineUp(whole).map((all, at) => all && minus(all, groups.flatMap((group) => group.bars[at] ?? [])));
  const row = minus({ ...total, cost_usd: text(cost) }, groups.map((group) => group.row));
  return { name: "All others", color: OTHER, row, cost: parse(row.cost_usd), bars };
}
