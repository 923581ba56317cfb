// Costs of any range, compared with the range before: stacked by provider, model, endpoint, user, application or tag. A bar
// or a row leads to the same calls by the next dimension, and at last to the calls themselves.

import { type Bucket, type History, HOUR_DAYS_MAX, OTHERS, type Question, barRange, dimensionsOf, fittingBucket, firstDay, history } from "../costdata";
import { DIMENSIONS, type Filters as Chosen, type Range, asCosts, canAsk, daysOf, filtersOf, filtersOfRow, nextDimension, path, rangeBefore, rangeName, rangeOf, wordOf } from "../filter";
import { Filters, RangePicker } from "../filterbar";
import { count, instant, longDay, noun, percentage, short, shortDay, today } from "../format";
import { useLive } from "../live";
import { axisUsd, parse, percent, sum, toFloat, usd, usdOf } from "../money";
import { useOutlook, useOverlays } from "../outlook";
import { type Saved, cacheShare, errorShare, perCall, perThousandTokens, tokens } from "../rates";
import { amend, go, href, useRoute } from "../route";
import { saved } from "../saved";
import { useSession } from "../session";
import type { Dimension, GroupRow } from "../types";
import { CostChange, ShareChange, countChange, share } from "../ui/change";
import { Chart } from "../ui/chart";
import { Card, Choice, Cost, DownloadCsv, Empty, Head, Loaded, Money, Name, PrintButton, Tile, lacking } from "../ui/parts";
import { type Column, Sorted } from "../ui/table";
import { Causes } from "./causes";
import { Units } from "./units";

const MEASURES = [["cost", "Cost"], ["calls", "Calls"], ["tokens", "Tokens"]] as const;
type Measure = (typeof MEASURES)[number][0];
const BUCKETS: readonly (readonly [Bucket, string])[] = [["hour", "Hour"], ["day", "Day"], ["week", "Week"], ["month", "Month"]];
const TABLES = [["totals", "Totals"], ["movers", "Top movers"], ["causes", "Causes"], ["units", "Units"], ["time", "Over time"]] as const;
const DRAWN = [["each", "Each"], ["sum", "Cumulative"]] as const;

const MEASURE: Record<Measure, { of: (row: GroupRow) => number; format: (value: number) => string; axis: (value: number) => string }> = {
  cost: { of: (row) => toFloat(parse(row.cost_usd)), format: usdOf, axis: axisUsd },
  calls: { of: (row) => row.calls, format: count, axis: short },
  tokens: { of: tokens, format: count, axis: short },
};

const pick = <T extends string>(options: readonly (readonly [T, string])[], value: string | null, standard: T): T =>
  options.find(([name]) => name === value)?.[0] ?? standard;
const labelOf = (by: Dimension): string => DIMENSIONS.find(([name]) => name === by)?.[1] ?? wordOf(by);

/** "Nov 1 to Nov 30, 2026". */
export function inWords({ from, to }: Range): string {
  if (from === to) return longDay(from);
  const [first, last] = [from.slice(0, 4), to.slice(0, 4)];
  return `${shortDay(from)}${first === last ? "" : `, ${first}`} to ${shortDay(to)}, ${last}`;
}

/** The dimension to group by, of the address. */
export function byOf(query: URLSearchParams): Dimension {
  const asked = query.get("by");
  return asked?.startsWith("tag:") ? (asked as Dimension) : pick(DIMENSIONS, asked, "provider");
}

export function Costs() {
  const { query } = useRoute();
  const { zone } = useSession();
  const by = byOf(query);
  const measure = pick(MEASURES, query.get("show"), "cost");
  const filters = filtersOf(query);
  const name = rangeName(query);
  const asked = query.get("bucket");
  const now = today(zone);
  const key = `costs ${by} ${JSON.stringify(filters)} ${name} ${query.get("from")} ${query.get("to")} ${asked} ${now}`;
  const live = useLive<History>(key, async (signal) => {
    const range = rangeOf(name, query, now, name === "all" ? await firstDay(zone, signal) : "");
    const before = rangeBefore(range, name, now);
    return history({ by, range, before, bucket: bucketOf(asked, range), filters }, zone, signal);
  }, 20_000);
  const range = live.data?.question.range ?? rangeOf(name === "all" ? "30" : name, query, now, "");
  const byHour = daysOf(range) <= HOUR_DAYS_MAX;
  const tags = live.data?.tags ?? (by.startsWith("tag:") ? [wordOf(by)] : []);
  const stack = (value: Dimension) => amend({ by: value === "provider" ? null : value });
  return (
    <>
      <Head title="Costs" lead={live.data ? inWords(range) : "Spend over time"} live={live}>
        <PrintButton />
        <DownloadCsv path={csv(live.data?.question ?? { by, range, before: null, bucket: "day", filters })} />
      </Head>
      <div class="filters">
        <RangePicker query={query} range={range} today={now} />
        <Choice<Dimension> label="Stack by" value={by} options={DIMENSIONS} onPick={stack} />
        {tags.length > 0 && (
          <label class="inline">Tag <select value={by.startsWith("tag:") ? by : ""} onChange={(event) => stack((event.currentTarget.value || "provider") as Dimension)}>
            <option value="">None</option>
            {tags.map((tag) => <option key={tag} value={`tag:${tag}`}>{tag}</option>)}
          </select></label>
        )}
        <label class="inline">Interval <select value={asked === "hour" && !byHour ? "" : asked ?? ""} onChange={(event) => amend({ bucket: event.currentTarget.value || null })}>
          <option value="">Auto</option>
          {BUCKETS.map(([value, label]) => <option key={value} value={value} disabled={value === "hour" && !byHour}>{label}</option>)}
        </select></label>
        <Filters query={query} range={range} tags={tags} />
      </div>
      <Loaded live={live} rows={9}>{(data) => <Found data={data} measure={measure} now={now} />}</Loaded>
    </>
  );
}

function bucketOf(asked: string | null, range: Range): Bucket {
  const bucket = BUCKETS.find(([name]) => name === asked)?.[0] ?? fittingBucket(range);
  return bucket === "hour" && daysOf(range) > HOUR_DAYS_MAX ? "day" : bucket;
}

const csv = ({ by, range, bucket, filters }: Question) => path("/api/v1/costs", { ...range, bucket, group_by: dimensionsOf(by), format: "csv" }, asCosts(filters));

/** The calls that filters leave in a range, as the view of records. */
const calls = (range: Range, filters: Chosen) => href("records", { ...filters, days: null, ...range });

/** The same calls by the next dimension, or one by one. */
function deeper({ by, filters }: Question, range: Range, row: GroupRow | null): { to: string; what: string } {
  const chosen = row ? { ...filters, ...filtersOfRow(by, row) } : filters;
  const next = nextDimension(by, chosen, range);
  if (next === null) return { to: calls(range, chosen), what: "calls" };
  return { to: href("costs", { ...chosen, days: null, ...range, by: next }), what: wordOf(next) };
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

function Found({ data, measure, now }: { data: History; measure: Measure; now: string }) {
  const { question, total, before } = data;
  const { query } = useRoute();
  const { zone } = useSession();
  const table = pick(TABLES, query.get("table"), "totals");
  const drawn = pick(DRAWN, query.get("drawn"), "each");
  const outlook = useOutlook(question.filters);
  const { bars, series, lines, nowAt, expected, notes } = useOverlays(data, MEASURE[measure].of, measure === "cost" ? outlook : null, drawn === "sum", now);
  if (total.calls === 0 && (before?.calls ?? 0) === 0) {
    return <Empty title="No calls in this range">Choose a longer range, remove a filter, or record a call: <code>tallyd record --provider claude --model claude-sonnet-4-5 --input-tokens 1200 --output-tokens 300</code></Empty>;
  }
  const tools = (
    <>
      <Choice label="Bars" value={drawn} options={DRAWN} onPick={(value) => amend({ drawn: value === "each" ? null : value })} />
      <Choice label="Show" value={measure} options={MEASURES} onPick={(value) => amend({ show: value === "cost" ? null : value })} />
    </>
  );
  return (
    <>
      {question.before && (
        <p class="compared">
          Compared with {inWords(question.before)}{before && `: ${usd(parse(before.cost_usd))}`}{before && before.unpriced_calls > 0 && `, ${lacking(before.unpriced_calls)}`}.
          {question.range.to === now && " Today is not over yet; its counterpart is a whole day."}
        </p>
      )}
      <Sums data={data} />
      <Card title={`${MEASURES.find(([name]) => name === measure)?.[1]} by ${wordOf(question.by)}`} tools={tools}>
        <Chart label={`${measure} by ${wordOf(question.by)}`} bars={bars} series={series} lines={lines} format={MEASURE[measure].format} axis={MEASURE[measure].axis}
          now={nowAt} expected={expected} opens={opensWhat(data)} onOpen={(at, name) => openBar(data, at, name)} />
        {notes > 0 && <p class="footnote">{noun(notes, "unusual day is", "unusual days are")} marked. The forecast counts only a part of the cost of such a day.</p>}
        {data.as_of && <p class="footnote">Many calls are being loaded. These users have the calls that were loaded until {instant(data.as_of, zone)}.</p>}
        {data.whole_from && <p class="footnote">The days before {data.whole_from} are not whole: their calls were dropped before sums {question.bucket === "hour" ? "by hour" : `by ${wordOf(question.by)}`} were kept, or are still being counted.</p>}
      </Card>
      <Card tools={<Choice label="Table" value={table} options={TABLES} onPick={(value) => amend({ table: value === "totals" ? null : value })} />} title={TABLES.find(([name]) => name === table)?.[1]}>
        {table === "totals" ? <Totals data={data} /> : table === "movers" ? <Movers data={data} /> : table === "causes" ? <Causes data={data} /> : table === "units" ? <Units data={data} /> : <OverTime data={data} measure={measure} />}
      </Card>
    </>
  );
}

/** The saving by caching; loaded after the rest, and only if a cache was used. */
function CachingSaved({ data }: { data: History }) {
  const { range, filters } = data.question;
  const live = useLive<Saved>(`saved ${JSON.stringify([range, filters])}`, (signal) => saved(range, filters, signal), 300_000);
  if (!live.data) return <Tile label="Caching saved" value="—" note={live.failure?.message ?? ""} />;
  const { usd: amount, isWhole } = live.data;
  return <Tile label="Caching saved" value={<Money amount={amount} />} note={`${isWhole ? "" : "at least; "}at the list prices in force`} />;
}

function Sums({ data }: { data: History }) {
  const { total, cost, before, question } = data;
  const days = BigInt(daysOf(question.range));
  const costBefore = before && parse(before.cost_usd);
  const was = (value: (row: GroupRow) => string) => (before && before.calls > 0 ? `before: ${value(before)}` : "");
  const each = (row: GroupRow, of: (row: GroupRow) => bigint | null) => { const amount = of(row); return amount === null ? "—" : usd(amount, 4); };
  return (
    <div class="tiles">
      <Tile label="Cost" value={<Cost amount={cost} unpriced={total.unpriced_calls} short />}
        note={<>{costBefore !== null && <CostChange now={cost} before={costBefore} long />} {lacking(total.unpriced_calls)}</>} />
      <Tile label="Daily average" value={<Money amount={cost / days} />}
        note={costBefore !== null && question.before ? `before: ${usd(costBefore / BigInt(daysOf(question.before)))}` : `over ${noun(Number(days), "day", "days")}`} />
      <Tile label="Calls" value={count(total.calls)} note={before ? countChange(total.calls, before.calls) : ""} />
      <Tile label="Failed calls" value={percentage(errorShare(total))} note={was((row) => percentage(errorShare(row)))} />
      <Tile label="Cost per call" value={<Each amount={perCall(total)} />} note={was((row) => each(row, perCall))} />
      <Tile label="Cost per 1,000 tokens" value={<Each amount={perThousandTokens(total)} atLeast={total.unpriced_calls > 0} />} note={was((row) => each(row, perThousandTokens))} />
      <Tile label="Tokens" value={short(tokens(total))} note={before ? countChange(tokens(total), tokens(before)) : ""} />
      <Tile label="Cache hits" value={percentage(cacheShare(total))} note={was((row) => `${percentage(cacheShare(row))} of prompt tokens`) || "of prompt tokens"} />
      {total.cache_read_tokens > 0 && canAsk(["provider", "model"], question.filters, question.range) && <CachingSaved data={data} />}
      {total.unpriced_calls > 0 && <Tile label="Unpriced calls" value={count(total.unpriced_calls)} note={<a href={href("prices", { provider: null })}>not in any sum</a>} tone="warn" />}
    </div>
  );
}

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

function Totals({ data }: { data: History }) {
  const { question, total, before } = data;
  const few = daysOf(question.range) <= 31;
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
    </tr>
  );
  return (
    <>
      <Sorted caption={`Totals by ${wordOf(question.by)}`} columns={columns} rows={linesOf(data)} id={({ name }) => name} first="cost" foot={foot} />
      {data.isCut && <p class="footnote">The 1,000 largest are listed; the CSV file has all of them.</p>}
    </>
  );
}

/** A cost of one call or of some tokens. Unpriced calls make it a lower bound where their tokens count. */
function Each({ amount, atLeast }: { amount: bigint | null; atLeast?: boolean }) {
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

function OverTime({ data, measure }: { data: History; measure: Measure }) {
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
  return <Sorted caption={`${MEASURES.find(([name]) => name === measure)?.[1]} over time`} columns={columns} rows={bars} id={(bar) => bar.key} first="bar" />;
}
