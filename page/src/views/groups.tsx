// The groups of a cost history as tables: their sums, their changes, their bars.

import type { History } from "../costdata";
import { calls, deeper } from "../drill";
import { DIMENSIONS, LOG_DAYS_MAX, daysOf, filtersOfRow, wordOf } from "../filter";
import { count, milliseconds, percentage, short } from "../format";
import { latencyKey, useLatency } from "../latency";
import { type Measure, MEASURE, measureName } from "../measures";
import { parse, percent, sum, usd } from "../money";
import { cacheShare, errorShare, perCall, perThousandTokens, tokens } from "../rates";
import { OTHERS } from "../sums";
import type { Dimension, GroupRow } from "../types";
import { CostChange, ShareChange, share } from "../ui/change";
import { Cost, Empty, Money, Name } from "../ui/parts";
import { type Column, Sorted } from "../ui/table";

export const labelOf = (by: Dimension): string => DIMENSIONS.find(([name]) => name === by)?.[1] ?? wordOf(by);

interface Line {
  name: string;
  color: string;
  row: GroupRow;
  before: GroupRow | null;
}

/** Every group, those with a series of their own first. */
function linesOf(data: History): Line[] {
  return [...data.groups.filter((group) => group.name !== OTHERS), ...data.more.map((one) => ({ ...one, color: "--c0" }))];
}

const costNow = ({ row }: Line) => parse(row.cost_usd);
const costBefore = ({ before }: Line) => before && parse(before.cost_usd);
const change = (line: Line) => { const before = costBefore(line); return before === null ? null : costNow(line) - before; };

/** A group's name, which leads to its calls by the next dimension. */
function named(data: History): Column<Line> {
  const { question } = data;
  return {
    key: "name", label: labelOf(question.by), by: ({ name }) => name,
    cell: ({ name, color, row }) => <span class="named"><span class="swatch" style={{ background: `var(${color})` }} aria-hidden="true" /><a href={deeper(question, question.range, row).to}><Name text={name} /></a></span>,
  };
}

export function Totals({ data }: { data: History }) {
  const { question, total, before } = data;
  const few = daysOf(question.range) <= LOG_DAYS_MAX;
  const latency = useLatency(question);
  const percentile = (key: "p50_ms" | "p95_ms") => ({ row }: Line) => latency.of?.get(latencyKey(row))?.[key] ?? null;
  const latencies = latency.of === null ? [] : ([["p50_ms", "p50"], ["p95_ms", "p95"]] as const);
  const columns: Column<Line>[] = [
    named(data),
    { key: "cost", label: "Cost", number: true, by: costNow, cell: (line) => <Cost amount={costNow(line)} unpriced={line.row.unpriced_calls} decimals={4} /> },
    { key: "share", label: "Share", number: true, wide: true, by: costNow, cell: (line) => percentage(percent(costNow(line), data.cost)) },
    ...(question.before ? [
      { key: "change", label: "Change", number: true, by: change, cell: (line: Line) => <CostChange now={costNow(line)} before={costBefore(line)} /> },
      { key: "percent", label: "%", number: true, wide: true, cell: (line: Line) => <ShareChange now={costNow(line)} before={costBefore(line)} /> },
    ] : []),
    { key: "calls", label: "Calls", number: true, by: ({ row }) => row.calls, cell: ({ row }) => (few && row.calls > 0 ? <a href={calls(question.range, { ...question.filters, ...filtersOfRow(question.by, row) })}>{count(row.calls)}</a> : count(row.calls)) },
    { key: "each", label: "Per call", number: true, wide: true, by: ({ row }) => perCall(row), cell: ({ row }) => <Each amount={perCall(row)} /> },
    { key: "tokens", label: "Tokens", number: true, wide: true, by: ({ row }) => tokens(row), cell: ({ row }) => short(tokens(row)) },
    { key: "thousand", label: "Per 1,000", number: true, wide: true, by: ({ row }) => perThousandTokens(row), cell: ({ row }) => <Each amount={perThousandTokens(row)} atLeast={row.unpriced_calls > 0} /> },
    { key: "cache", label: "Cache hits", number: true, wide: true, by: ({ row }) => cacheShare(row), cell: ({ row }) => percentage(cacheShare(row)) },
    { key: "errors", label: "Failed", number: true, wide: true, by: ({ row }) => errorShare(row), cell: ({ row }) => percentage(errorShare(row)) },
    ...latencies.map(([key, label]): Column<Line> => ({ key, label: <span title={`Latency of ${label === "p50" ? "half" : "95 %"} of the calls, at most`}>{label}</span>, number: true, wide: true, by: percentile(key), cell: (line) => { const value = percentile(key)(line); return value === null ? <span class="none">—</span> : milliseconds(value); } })),
  ];
  const foot = (
    <tr>
      <th scope="row">Total</th>
      <td class="number"><Cost amount={data.cost} unpriced={total.unpriced_calls} decimals={4} /></td>
      <td class="number wide">{percentage(100)}</td>
      {question.before && <td class="number"><CostChange now={data.cost} before={before && parse(before.cost_usd)} /></td>}
      {question.before && <td class="number wide"><ShareChange now={data.cost} before={before && parse(before.cost_usd)} /></td>}
      <td class="number">{count(total.calls)}</td>
      <td class="number wide"><Each amount={perCall(total)} /></td>
      <td class="number wide">{short(tokens(total))}</td>
      <td class="number wide"><Each amount={perThousandTokens(total)} atLeast={total.unpriced_calls > 0} /></td>
      <td class="number wide">{percentage(cacheShare(total))}</td>
      <td class="number wide">{percentage(errorShare(total))}</td>
      {latencies.map(([key]) => <td key={key} class="number wide" />)}
    </tr>
  );
  return (
    <div class={latencies.length > 0 ? "dense" : undefined}>
      <Sorted caption={`Totals by ${wordOf(question.by)}`} columns={columns} rows={linesOf(data)} id={({ name }) => name} first="cost" foot={foot} />
      {data.isCut && <p class="footnote">The 1,000 largest are listed; the CSV file has all of them.</p>}
      {latency.why && <p class="footnote">{latency.why}</p>}
    </div>
  );
}

/** A cost of one call or of some tokens. Unpriced calls make it a lower bound where their tokens count. */
export function Each({ amount, atLeast }: { amount: bigint | null; atLeast?: boolean }) {
  if (amount === null) return <span class="none">—</span>;
  return <span title={atLeast ? "At least: the tokens of unpriced calls count" : undefined}>{atLeast ? "≥ " : ""}<Money amount={amount} decimals={4} /></span>;
}

const MOVERS = 12;
const MOVERS_BRIEF = 6;

/** The groups whose cost changed most, in either direction. In brief, a few of them and without the cost before. */
export function Movers({ data, brief }: { data: History; brief?: boolean }) {
  const size = (line: Line) => { const by = change(line) ?? 0n; return by < 0n ? -by : by; };
  const moved = linesOf(data).filter((line) => size(line) > 0n).sort((a, b) => (size(b) > size(a) ? 1 : -1)).slice(0, brief ? MOVERS_BRIEF : MOVERS);
  if (data.question.before === null) return <Empty title="Nothing to compare with">Choose a shorter range than all days.</Empty>;
  if (moved.length === 0) return <Empty title="Nothing changed">Costs are those of the range before.</Empty>;
  const whole = parse(data.before?.cost_usd ?? "0");
  const columns: Column<Line>[] = [
    named(data),
    ...(brief ? [] : [{ key: "before", label: "Before", number: true, wide: true, by: costBefore, cell: (line: Line) => <Cost amount={costBefore(line) ?? 0n} unpriced={line.before?.unpriced_calls ?? 0} decimals={2} /> }]),
    { key: "now", label: "Now", number: true, by: costNow, cell: (line) => <Cost amount={costNow(line)} unpriced={line.row.unpriced_calls} decimals={2} /> },
    { key: "change", label: "Change", number: true, by: size, cell: (line) => <CostChange now={costNow(line)} before={costBefore(line)} /> },
    { key: "percent", label: "%", number: true, cell: (line) => <ShareChange now={costNow(line)} before={costBefore(line)} /> },
  ];
  return (
    <>
      <Sorted caption="Top movers" columns={columns} rows={moved} id={({ name }) => name} first="change" />
      <p class="footnote">All together {usd(data.cost)}, before {usd(whole)}: {share(data.cost - whole, whole)}.{data.isCut ? " Compared are the 1,000 largest." : ""}</p>
    </>
  );
}

export function OverTime({ data, measure }: { data: History; measure: Measure }) {
  const bars = data.bars.map((bar, at) => ({ ...bar, at }));
  type Bar = (typeof bars)[number];
  const none = <span class="none">{measure === "cost" ? usd(0n) : "0"}</span>;
  const value = (rows: (GroupRow | undefined)[]) => {
    const there = rows.filter((row) => row !== undefined);
    if (there.length === 0) return none;
    if (measure !== "cost") return count(there.reduce((total, row) => total + MEASURE[measure].of(row), 0));
    const unpriced = there.reduce((total, row) => total + row.unpriced_calls, 0);
    return <Cost amount={sum(there.map((row) => parse(row.cost_usd)))} unpriced={unpriced} decimals={4} />;
  };
  const order = (rows: (GroupRow | undefined)[]) => rows.reduce((total, row) => total + (row ? MEASURE[measure].of(row) : 0), 0);
  const columns: Column<Bar>[] = [
    { key: "bar", label: "When", by: (bar) => bar.at, cell: (bar) => bar.long },
    { key: "total", label: "Total", number: true, by: (bar) => order(data.groups.map((group) => group.bars[bar.at])), cell: (bar) => <strong>{value(data.groups.map((group) => group.bars[bar.at]))}</strong> },
    ...data.groups.map((group): Column<Bar> => ({ key: group.name, label: <Name text={group.name} />, number: true, by: (bar) => order([group.bars[bar.at]]), cell: (bar) => value([group.bars[bar.at]]) })),
  ];
  return <Sorted caption={`${measureName(measure)} over time`} columns={columns} rows={bars} id={(bar) => bar.key} first="bar" />;
}
