// Costs by two dimensions at once: the groups as rows, split into columns by the second one.

import { get } from "../api";
import type { History } from "../costdata";
import { deeper } from "../drill";
import { type Filters, LOG_DAYS_MAX, asCosts, canAsk, filtersOfRow, path, rangeChanges, wordOf } from "../filter";
import { count, short } from "../format";
import { useLive } from "../live";
import { type Measure, MEASURE, measureName } from "../measures";
import { parse, toFloat } from "../money";
import { type Head, type Pivot as Data, type PivotRow, pivotOf, sumsBy } from "../pivot";
import { tokens } from "../rates";
import { amend } from "../route";
import { add, dimensionsOf } from "../sums";
import type { Costs, Dimension, GroupRow } from "../types";
import { Cost, Empty, Loaded, Name } from "../ui/parts";
import { type Column, Sorted } from "../ui/table";
import { labelOf } from "./groups";

/** The pairs that are told apart. Of more, those beyond are in "All others". */
const PAIRS = 10_000;

interface Found extends Data {
  /** Whether there are more pairs. */
  isCut: boolean;
}

async function load({ question }: History, split: Dimension, signal: AbortSignal): Promise<Found> {
  const { by, range, filters } = question;
  const ask = (group_by: Dimension[], limit: number) =>
    get<Costs>(path("/api/v1/costs", { ...range, bucket: "total", group_by: group_by.join(), sort: "cost", limit }, asCosts(filters)), signal);
  const pairs = await ask(dimensionsOf(by, split), PAIRS);
  if (pairs.next_offset === null) {
    // One answer has everything: its sums are of one moment.
    return { ...pivotOf(pairs.rows, sumsBy(pairs.rows, by), sumsBy(pairs.rows, split), add(pairs.rows), by, split), isCut: false };
  }
  const [rows, columns, whole] = await Promise.all([ask(dimensionsOf(by), 1_000), ask(dimensionsOf(split), 1_000), ask([], 1)]);
  return { ...pivotOf(pairs.rows, rows.rows, columns.rows, add(whole.rows), by, split), isCut: true };
}

export function Pivot({ data, split, measure, now }: { data: History; split: Dimension; measure: Measure; now: string }) {
  const { by, range, filters } = data.question;
  const isThere = canAsk(dimensionsOf(by, split), filters, range);
  if (isThere) return <Loading data={data} split={split} measure={measure} />;
  return (
    <Empty title="This range is too long for both">
      Sums by {wordOf(by)} and {wordOf(split)} together are read from single calls, for at most {LOG_DAYS_MAX} days. <button type="button" onClick={() => amend(rangeChanges("30", { from: now, to: now }))}>Show 30 days</button>
    </Empty>
  );
}

function Loading({ data, split, measure }: { data: History; split: Dimension; measure: Measure }) {
  const live = useLive<Found>(`pivot ${split} ${JSON.stringify(data.question)}`, (signal) => load(data, split, signal), 20_000);
  return <Loaded live={live} rows={8}>{(found) => <Grid found={found} data={data} split={split} measure={measure} />}</Loaded>;
}

function Grid({ found, data, split, measure }: { found: Found; data: History; split: Dimension; measure: Measure }) {
  const { question } = data;
  const { by } = question;
  const decimals = toFloat(parse(found.total.cost_usd)) >= 100 ? 2 : 4;
  const of = (row: GroupRow) => (measure === "cost" ? parse(row.cost_usd) : MEASURE[measure].of(row));
  const largest = Math.max(...found.rows.flatMap((row) => (row.of ? row.cells.slice(0, found.columns.filter((column) => column.of).length) : [])).map(MEASURE[measure].of), 0);
  const shade = (row: GroupRow) => ({ "--share": `${largest > 0 ? Math.round((MEASURE[measure].of(row) / largest) * 100) : 0}%` });
  const value = (row: GroupRow, isWhole: boolean) => {
    if (row.calls === 0 && row.cost_usd === "0") return <span class="none">—</span>;
    if (measure === "cost") return <Cost amount={parse(row.cost_usd)} unpriced={row.unpriced_calls} decimals={decimals} short={!isWhole} />;
    return measure === "calls" ? count(row.calls) : <span title={count(tokens(row))}>{short(tokens(row))}</span>;
  };
  const target = (of: Filters, row: GroupRow | null) => deeper({ by, filters: { ...question.filters, ...of } }, question.range, row).to;
  const cell = (row: PivotRow, column: Head, at: number) => {
    const sums = row.cells[at]!;
    const shownValue = value(sums, false);
    if (!row.of || !column.of) return shownValue;
    return <span class="shade" style={shade(sums)}>{sums.calls > 0 ? <a href={target(filtersOfRow(split, column.of), row.of)}>{shownValue}</a> : shownValue}</span>;
  };
  // All others come last in each order.
  const columns: Column<PivotRow>[] = [
    { key: "name", label: labelOf(by), by: ({ of, name }) => (of ? name : null), cell: ({ of, name }) => (of ? <a href={target({}, of)}><Name text={name} /></a> : name) },
    ...found.columns.map((column, at): Column<PivotRow> => ({ key: `${at} ${column.name}`, label: <Name text={column.name} />, number: true, by: (row) => (row.of ? of(row.cells[at]!) : null), cell: (row) => cell(row, column, at) })),
    { key: "total", label: "Total", number: true, by: (row) => (row.of ? of(row.sums) : null), cell: (row) => <strong>{value(row.sums, true)}</strong> },
  ];
  const foot = (
    <tr>
      <th scope="row">Total</th>
      {found.columns.map((column) => <td key={column.name} class="number">{value(column.sums, true)}</td>)}
      <td class="number">{value(found.total, true)}</td>
    </tr>
  );
  return (
    <div class="pivot">
      <Sorted caption={`${measureName(measure)} by ${wordOf(by)} and ${wordOf(split)}`} columns={columns} rows={found.rows} id={({ of, name }) => `${of ? "" : "all "}${name}`} first="total" foot={foot} />
      {found.isCut && <p class="footnote">The 10,000 dearest pairs are told apart. Further pairs are in “All others” of their row and column.</p>}
    </div>
  );
}
