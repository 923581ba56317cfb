// The figures that costs are shown by: money, calls or tokens.

import { count, short } from "./format";
import { axisUsd, parse, toFloat, usdOf } from "./money";
import { tokens } from "./rates";
import type { GroupRow } from "./types";

export const MEASURES = [["cost", "Cost"], ["calls", "Calls"], ["tokens", "Tokens"]] as const;
export type Measure = (typeof MEASURES)[number][0];

export const MEASURE: Record<Measure, { of: (row: GroupRow) => number; format: (value: number) => string; axis: (value: number) => string }> = {
  cost: { of: (row) => toFloat(parse(row.cost_usd)), format: usdOf, axis: axisUsd },
  calls: { of: (row) => row.calls, format: count, axis: short },
  tokens: { of: tokens, format: count, axis: short },
};

export const measureName = (measure: Measure): string => MEASURES.find(([name]) => name === measure)?.[1] ?? "";

/** The option of this name, or the standard. */
export const pick = <T extends string>(options: readonly (readonly [T, string])[], value: string | null, standard: T): T =>
  options.find(([name]) => name === value)?.[0] ?? standard;
