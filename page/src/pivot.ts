// Two dimensions at once: the sums of each pair of values, with totals. The dearest values have a row or a column of their
// own, the others share one. Every row and column adds up to its total exactly.

import { OTHERS, add, keyOf, minus, namesOf } from "./sums";
import { parse } from "./money";
import type { Dimension, GroupRow } from "./types";

export const ROWS_MAX = 20;
export const COLUMNS_MAX = 6;

/** A value of one dimension, and its sums. */
export interface Head {
  name: string;
  /** Null for all others. */
  of: GroupRow | null;
  sums: GroupRow;
}

export interface PivotRow extends Head {
  /** The sums with each column's value. */
  cells: GroupRow[];
}

export interface Pivot {
  columns: Head[];
  rows: PivotRow[];
  total: GroupRow;
}

/** The sums by one dimension of pairs that are sums by two, the dearest first. */
export function sumsBy(pairs: GroupRow[], by: Dimension): GroupRow[] {
  const groups = new Map<string, GroupRow[]>();
  for (const pair of pairs) {
    const key = keyOf(pair, by);
    const group = groups.get(key);
    if (group) group.push(pair);
    else groups.set(key, [pair]);
  }
  const named = [...groups.values()].map((group): GroupRow => {
    const [provider] = JSON.parse(keyOf(group[0]!, by)) as [string | null];
    return { ...add(group), ...(provider === null ? {} : { provider }), [by]: group[0]![by] ?? "" };
  });
  const cost = new Map(named.map((row) => [row, parse(row.cost_usd)]));
  return named.sort((a, b) => { const more = cost.get(b)! - cost.get(a)!; return more > 0n ? 1 : more < 0n ? -1 : b.calls - a.calls; });
}

/** The dearest, with their names. A single further one takes the place of all others. */
function shown(sums: GroupRow[], by: Dimension, max: number): Head[] {
  const names = namesOf(sums, by);
  return sums.slice(0, sums.length === max + 1 ? max + 1 : max).map((row, at) => ({ name: names[at] ?? "", of: row, sums: row }));
}

const hasCalls = (sums: GroupRow): boolean => sums.calls !== 0 || sums.cost_usd !== "0";

/**
 * Places pairs in rows and columns. `byRow` and `byColumn` are the sums by one dimension, with the calls of pairs that are
 * missing: these are in "All others" of their row and of their column.
 */
export function pivotOf(pairs: GroupRow[], byRow: GroupRow[], byColumn: GroupRow[], total: GroupRow, by: Dimension, split: Dimension): Pivot {
  const known = new Map(pairs.map((pair) => [`${keyOf(pair, by)} ${keyOf(pair, split)}`, pair]));
  const columns = shown(byColumn, split, COLUMNS_MAX);
  const rows = shown(byRow, by, ROWS_MAX).map((row): PivotRow => ({
    ...row, cells: columns.map((column) => known.get(`${keyOf(row.sums, by)} ${keyOf(column.sums, split)}`) ?? add([])),
  }));
  const otherRows = columns.map((column, at) => minus(column.sums, add(rows.map(({ cells }) => cells[at]!))));
  const otherRow = minus(total, add(rows.map(({ sums }) => sums)));
  if ([otherRow, ...otherRows].some(hasCalls)) rows.push({ name: OTHERS, of: null, sums: otherRow, cells: otherRows });
  const otherColumns = rows.map((row) => minus(row.sums, add(row.cells)));
  if (otherColumns.some(hasCalls)) {
    for (const [at, row] of rows.entries()) row.cells.push(otherColumns[at]!);
    columns.push({ name: OTHERS, of: null, sums: minus(total, add(columns.map(({ sums }) => sums))) });
  }
  return { columns, rows, total };
}
