// The parts of a chart of costs beside the costs: budgets, the forecast, the mean of seven days, unusual days, sums that grow.

import { useMemo } from "preact/hooks";
import { get, url } from "./api";
import type { History } from "./costdata";
import { type Filters, wholeMonth } from "./filter";
import { addDays, longDay, shortDay } from "./format";
import { useLive } from "./live";
import { parse, toFloat, usd } from "./money";
import type { BudgetState, Forecast, GroupRow } from "./types";
import type { ChartProps, Line, Series } from "./ui/chart";

export interface Outlook {
  /** Null where the forecast does not know the filters: it has all spend, or one provider's. */
  forecast: Forecast | null;
  /** Budgets of exactly the calls that the filters leave. */
  budgets: BudgetState[];
}

const isSame = (a: Filters, b: Filters): boolean => JSON.stringify(Object.entries(a).sort()) === JSON.stringify(Object.entries(b).sort());

/** Whether there is a forecast for the filters: there is one of all spend, and one of each provider. */
export const hasForecast = ({ provider, ...others }: Filters): boolean => Object.keys(others).length === 0 && provider !== "";

export function useOutlook(filters: Filters): Outlook {
  const { provider } = filters;
  const known = hasForecast(filters);
  const forecastPath = url("/api/v1/forecast", { provider });
  const forecast = useLive<Forecast | null>(known ? forecastPath : "no forecast", async (signal) => (known ? get<Forecast>(forecastPath, signal) : null), 60_000);
  const budgets = useLive<{ budgets: BudgetState[] }>("budgets", (signal) => get("/api/v1/budgets", signal), 20_000);
  return {
    forecast: known ? forecast.data : null,
    budgets: (budgets.data?.budgets ?? []).filter((budget) => isSame(budget.scope, filters)),
  };
}

export interface Overlays {
  bars: ChartProps["bars"];
  series: Series[];
  lines: Line[];
  /** The bar that is not over. */
  nowAt: number | null;
  expected: number | null;
  /** Bars with a note. */
  notes: number;
}

const MEAN_DAYS = 7;

/** The mean of the seven bars up to each, without the bar that is not over. */
function mean(tops: number[], nowAt: number | null): (number | null)[] {
  return tops.map((_, at) => {
    if (at < MEAN_DAYS - 1 || at === nowAt) return null;
    return tops.slice(at - MEAN_DAYS + 1, at + 1).reduce((sum, value) => sum + value, 0) / MEAN_DAYS;
  });
}

function growing(values: number[], until: number): number[] {
  let sum = 0;
  return values.map((value, at) => (at > until ? 0 : (sum += value)));
}

/** The chart of a history. `outlook` is null for other figures than costs. */
export function useOverlays(data: History, of: (row: GroupRow) => number, outlook: Outlook | null, isCumulative: boolean, now: string): Overlays {
  return useMemo(() => {
    const { range, bucket } = data.question;
    const last = data.bars.length - 1;
    const isRunning = range.to === now && last >= 0;
    const nowAt = isRunning ? last : null;
    const month = isCumulative && bucket === "day" ? wholeMonth(range) : null;
    // A month's sum grows until its end: the bars after today are still empty.
    const bars: ChartProps["bars"] = data.bars.map((bar) => ({ ...bar }));
    for (let day = addDays(now, 1); isRunning && month && day <= month; day = addDays(day, 1)) bars.push({ short: shortDay(day), long: longDay(day) });
    const each = data.groups.map((group) => ({ name: group.name, color: group.color, values: bars.map((_, at) => { const row = group.bars[at]; return row ? of(row) : 0; }) }));
    const series = isCumulative ? each.map((one) => ({ ...one, values: growing(one.values, last) })) : each;
    const tops = bars.map((_, at) => series.reduce((sum, one) => sum + (one.values[at] ?? 0), 0));
    const lines: Line[] = [];
    if (!isCumulative && bucket === "day" && bars.length >= 2 * MEAN_DAYS) lines.push({ name: "7-day mean", color: "--ink-2", values: mean(tops, nowAt) });
    const period = isCumulative ? (month ? "month" : null) : bucket;
    for (const budget of outlook?.budgets.filter((budget) => budget.period === period) ?? []) {
      lines.push({ name: `Budget ${usd(parse(budget.amount_usd), 2)}`, color: "--bad", values: bars.map(() => toFloat(parse(budget.amount_usd))) });
    }
    const forecast = outlook?.forecast;
    let expected: number | null = null;
    if (forecast && nowAt !== null) {
      const estimate = bucket === "day" ? forecast.day : bucket === "month" ? forecast.month : null;
      if (!isCumulative && estimate?.expected_usd) expected = toFloat(parse(estimate.expected_usd));
      const end = bars.length - 1;
      if (month && end > nowAt && forecast.month.expected_usd) {
        const [first, whole] = [tops[nowAt] ?? 0, toFloat(parse(forecast.month.expected_usd))];
        lines.push({ name: `Forecast ${usd(parse(forecast.month.expected_usd), 2)}`, color: "--ink-2", values: bars.map((_, at) => (at < nowAt ? null : first + ((whole - first) * (at - nowAt)) / (end - nowAt))) });
      }
    }
    let notes = 0;
    for (const unusual of bucket === "day" && !isCumulative ? forecast?.unusual_days ?? [] : []) {
      const at = data.bars.findIndex((bar) => bar.key === unusual.day);
      const bar = bars[at];
      if (!bar) continue;
      if (!bar.note) notes += 1;
      bar.note = `${bar.note ? `${bar.note}; ` : "Unusual: "}${unusual.provider} ${usd(parse(unusual.cost_usd), 2)}, of which the forecast counts ${usd(parse(unusual.counted_usd), 2)}`;
    }
    return { bars, series, lines, nowAt, expected, notes };
  }, [data, of, outlook?.forecast, JSON.stringify(outlook?.budgets), isCumulative, now]);
}
