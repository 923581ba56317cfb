// Costs of any range, compared with the range before: stacked by provider, model, endpoint, user, application or tag, and
// split by a second one of these.

import { type Bucket, type History, HOUR_DAYS_MAX, type Question, fittingBucket, firstDay, history } from "../costdata";
import { Deploys, useDeploys, useMarked } from "../deploys";
import { byOf, openBar, opensWhat, splitOf } from "../drill";
import { DIMENSIONS, type Range, asCosts, canAsk, daysOf, filtersOf, path, rangeBefore, rangeName, rangeOf, wordOf } from "../filter";
import { Filters, RangePicker } from "../filterbar";
import { count, instant, longDay, noun, percentage, short, shortDay, today } from "../format";
import { useLive } from "../live";
import { MEASURE, MEASURES, type Measure, measureName, pick } from "../measures";
import { parse, usd } from "../money";
import { useOutlook, useOverlays } from "../outlook";
import { type Saved, cacheShare, errorShare, perCall, perThousandTokens, tokens } from "../rates";
import { amend, href, useRoute } from "../route";
import { saved } from "../saved";
import { useSession } from "../session";
import { dimensionsOf } from "../sums";
import type { Dimension, GroupRow } from "../types";
import { CostChange, countChange } from "../ui/change";
import { Chart } from "../ui/chart";
import { Card, Choice, Cost, DownloadCsv, Empty, Head, Loaded, Money, PrintButton, Tile, lacking } from "../ui/parts";
import { Bounds } from "./bounds";
import { Causes } from "./causes";
import { Each, Movers, OverTime, Totals } from "./groups";
import { Pivot } from "./pivot";
import { Units } from "./units";

const BUCKETS: readonly (readonly [Bucket, string])[] = [["hour", "Hour"], ["day", "Day"], ["week", "Week"], ["month", "Month"]];
/** The table of two dimensions, where there are two. */
const PIVOT = ["pivot", "Two dimensions"] as const;
const TABLES = [["totals", "Totals"], ["movers", "Top movers"], ["causes", "Causes"], ["units", "Units"], ["time", "Over time"]] as const;
const DRAWN = [["each", "Each"], ["sum", "Cumulative"]] as const;

/** "Nov 1 to Nov 30, 2026". */
export function inWords({ from, to }: Range): string {
  if (from === to) return longDay(from);
  const [first, last] = [from.slice(0, 4), to.slice(0, 4)];
  return `${shortDay(from)}${first === last ? "" : `, ${first}`} to ${shortDay(to)}, ${last}`;
}

export function Costs() {
  const { query } = useRoute();
  const { zone } = useSession();
  const by = byOf(query);
  const split = splitOf(query);
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
  const options: (readonly [Dimension, string])[] = [...DIMENSIONS, ...tags.map((tag) => [`tag:${tag}`, tag] as const)];
  // The dimension that splits changes places with the one that stacks.
  const stack = (value: Dimension) => amend({ by: value === "provider" ? null : value, split: value === split ? by : undefined });
  return (
    <>
      <Head title="Costs" lead={live.data ? inWords(range) : "Spend over time"} live={live}>
        <PrintButton />
        <DownloadCsv path={csv(live.data?.question ?? { by, range, before: null, bucket: "day", filters }, split)} />
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
        <label class="inline">Split by <select value={split ?? ""} onChange={(event) => amend({ split: event.currentTarget.value || null, table: null })}>
          <option value="">Nothing</option>
          {options.filter(([value]) => value !== by).map(([value, label]) => <option key={value} value={value}>{label}</option>)}
        </select></label>
        {split && <button type="button" onClick={() => stack(split)}>Swap</button>}
        <label class="inline">Interval <select value={asked === "hour" && !byHour ? "" : asked ?? ""} onChange={(event) => amend({ bucket: event.currentTarget.value || null })}>
          <option value="">Auto</option>
          {BUCKETS.map(([value, label]) => <option key={value} value={value} disabled={value === "hour" && !byHour}>{label}</option>)}
        </select></label>
        <Filters query={query} range={range} tags={tags} />
      </div>
      <Loaded live={live} rows={9}>{(data) => <Found data={data} split={split === data.question.by ? by : split} measure={measure} now={now} />}</Loaded>
    </>
  );
}

function bucketOf(asked: string | null, range: Range): Bucket {
  const bucket = BUCKETS.find(([name]) => name === asked)?.[0] ?? fittingBucket(range);
  return bucket === "hour" && daysOf(range) > HOUR_DAYS_MAX ? "day" : bucket;
}

/** The file has the groups of the chart, split where the table is. */
function csv({ by, range, bucket, filters }: Question, split: Dimension | null): string {
  const both = split === null ? [] : dimensionsOf(by, split);
  const group_by = both.length > 0 && canAsk(both, filters, range) ? both : dimensionsOf(by);
  return path("/api/v1/costs", { ...range, bucket, group_by: group_by.join(), format: "csv" }, asCosts(filters));
}

function Found({ data, split, measure, now }: { data: History; split: Dimension | null; measure: Measure; now: string }) {
  const { question, total, before } = data;
  const { query } = useRoute();
  const { zone } = useSession();
  const tables = split ? [PIVOT, ...TABLES] : TABLES;
  const table = pick(tables, query.get("table"), split ? "pivot" : "totals");
  const drawn = pick(DRAWN, query.get("drawn"), "each");
  const outlook = useOutlook(question.filters);
  const { bars, series, lines, nowAt, expected, notes } = useOverlays(data, MEASURE[measure].of, measure === "cost" ? outlook : null, drawn === "sum", now);
  const marks = useDeploys(question);
  const marked = useMarked(bars, data, marks);
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
      {total.calls > 0 && <Bounds range={question.range} filters={question.filters} />}
      <Card title={`${measureName(measure)} by ${wordOf(question.by)}`} tools={tools}>
        <Chart label={`${measure} by ${wordOf(question.by)}`} bars={marked} series={series} lines={lines} format={MEASURE[measure].format} axis={MEASURE[measure].axis}
          now={nowAt} expected={expected} opens={opensWhat(data)} onOpen={(at, name) => openBar(data, at, name)} />
        {notes > 0 && <p class="footnote">{noun(notes, "unusual day is", "unusual days are")} marked. The forecast counts only a part of the cost of such a day.</p>}
        <Deploys marks={marks} />
        {data.as_of && <p class="footnote">Many calls are being loaded. These users have the calls that were loaded until {instant(data.as_of, zone)}.</p>}
        {data.whole_from && <p class="footnote">The days before {data.whole_from} are not whole: their calls were dropped before sums {question.bucket === "hour" ? "by hour" : `by ${wordOf(question.by)}`} were kept, or are still being counted.</p>}
      </Card>
      <Card title={table === "pivot" && split ? `${measureName(measure)} by ${wordOf(question.by)} and ${wordOf(split)}` : tables.find(([name]) => name === table)?.[1]}
        tools={<Choice label="Table" value={table} options={tables} onPick={(value) => amend({ table: value === tables[0]?.[0] ? null : value })} />}>
        {table === "pivot" && split ? <Pivot data={data} split={split} measure={measure} now={now} /> : table === "movers" ? <Movers data={data} /> : table === "causes" ? <Causes data={data} />
          : table === "units" ? <Units data={data} /> : table === "time" ? <OverTime data={data} measure={measure} /> : <Totals data={data} />}
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
