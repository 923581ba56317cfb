// Cost history: stacked by provider, model, endpoint, user, application or tag; over any range; as a chart, a table and a file.

import { useMemo, useState } from "preact/hooks";
import { url } from "../api";
import { type Bucket, type Group, type History, HOUR_DAYS_MAX, type Question, dimensionsOf, fittingBucket, firstDay, history, wordOf } from "../costdata";
import { addDays, count, daysBetween, instant, noun, percentage, short, today } from "../format";
import { useLive } from "../live";
import { axisUsd, parse, percent, sum, toFloat, usd, usdOf } from "../money";
import { type Range, RangePicker, named } from "../range";
import { amend, href, useRoute } from "../route";
import { useSession } from "../session";
import type { Dimension, GroupRow } from "../types";
import { Chart } from "../ui/chart";
import { Card, Choice, Cost, DownloadCsv, Empty, Head, Loaded, Money, Tile } from "../ui/parts";
import { type Column, Table } from "../ui/table";

const BY = [["provider", "Provider"], ["model", "Model"], ["endpoint", "Endpoint"], ["user", "User"], ["app", "App"]] as const;
const MEASURES = [["cost", "Cost"], ["calls", "Calls"], ["tokens", "Tokens"]] as const;
type Measure = (typeof MEASURES)[number][0];
const BUCKETS: readonly (readonly [Bucket, string])[] = [["hour", "Hour"], ["day", "Day"], ["week", "Week"], ["month", "Month"]];

const tokens = (row: GroupRow) => row.input_tokens + row.output_tokens + row.cache_read_tokens + row.cache_write_5m_tokens + row.cache_write_1h_tokens;
const MEASURE: Record<Measure, { of: (row: GroupRow) => number; format: (value: number) => string; axis: (value: number) => string }> = {
  cost: { of: (row) => toFloat(parse(row.cost_usd)), format: usdOf, axis: axisUsd },
  calls: { of: (row) => row.calls, format: count, axis: short },
  tokens: { of: tokens, format: count, axis: short },
};

const pick = <T extends string>(options: readonly (readonly [T, string])[], value: string | null, standard: T): T =>
  options.find(([name]) => name === value)?.[0] ?? standard;

export function Costs() {
  const { query } = useRoute();
  const { zone } = useSession();
  const asTag = query.get("by")?.startsWith("tag:") ? (query.get("by") as Dimension) : null;
  const by = asTag ?? pick(BY, query.get("by"), "provider");
  const measure = pick(MEASURES, query.get("show"), "cost");
  const provider = query.get("provider") ?? "";
  const name = named(query);
  const asked = query.get("bucket");
  const key = `costs ${by} ${provider} ${name} ${query.get("from")} ${query.get("to")} ${asked}`;
  const live = useLive<History>(key, async (signal) => {
    const range = await rangeOf(name, query, zone, signal);
    return history({ by, range, bucket: bucketOf(asked, range), provider }, zone, signal);
  }, 20_000);
  const range = live.data?.question.range ?? { from: addDays(today(zone), -29), to: today(zone) };
  const byHour = daysBetween(range.from, range.to) < HOUR_DAYS_MAX;
  const tags = live.data?.tags ?? (asTag ? [wordOf(asTag)] : []);
  const stack = (value: Dimension) => amend({ by: value === "provider" ? null : value });
  return (
    <>
      <Head title="Costs" lead="Spend over time by provider, model, endpoint, user, application or tag." live={live}>
        <DownloadCsv path={csv(live.data?.question ?? { by, range, bucket: "day", provider })} />
      </Head>
      <div class="filters">
        <Choice<Dimension> label="Stack by" value={by} options={BY} onPick={stack} />
        {tags.length > 0 && (
          <label class="inline">Tag <select value={asTag ?? ""} onChange={(event) => stack((event.currentTarget.value || "provider") as Dimension)}>
            <option value="">None</option>
            {tags.map((tag) => <option key={tag} value={`tag:${tag}`}>{tag}</option>)}
          </select></label>
        )}
        <RangePicker query={query} range={range} today={today(zone)} />
        <label class="inline">Interval <select value={asked === "hour" && !byHour ? "" : asked ?? ""} onChange={(event) => amend({ bucket: event.currentTarget.value || null })}>
          <option value="">Auto</option>
          {BUCKETS.map(([value, label]) => <option key={value} value={value} disabled={value === "hour" && !byHour}>{label}</option>)}
        </select></label>
        <label class="inline">Provider <input class="short" type="search" placeholder="All" value={provider}
          onChange={(event) => amend({ provider: event.currentTarget.value.trim().toLowerCase() || null })} /></label>
      </div>
      <Loaded live={live} rows={9}>{(data) => <Found data={data} measure={measure} />}</Loaded>
    </>
  );
}

async function rangeOf(name: string, query: URLSearchParams, zone: string, signal: AbortSignal): Promise<Range> {
  const now = today(zone);
  if (name === "custom") return { from: query.get("from") ?? now, to: query.get("to") ?? now };
  if (name === "all") return { from: await firstDay(zone, signal), to: now };
  return { from: addDays(now, 1 - Number(name)), to: now };
}

function bucketOf(asked: string | null, range: Range): Bucket {
  const bucket = BUCKETS.find(([name]) => name === asked)?.[0] ?? fittingBucket(range);
  return bucket === "hour" && daysBetween(range.from, range.to) >= HOUR_DAYS_MAX ? "day" : bucket;
}

const csv = ({ by, range, bucket, provider }: Question) => url("/api/v1/costs", { from: range.from, to: range.to, bucket, group_by: dimensionsOf(by), provider, format: "csv" });

function Found({ data, measure }: { data: History; measure: Measure }) {
  const { question, total, cost } = data;
  const { zone } = useSession();
  const [view, setView] = useState<"totals" | "time">("totals");
  const series = useMemo(
    () => data.groups.map((group) => ({ name: group.name, color: group.color, values: group.bars.map((row) => (row ? MEASURE[measure].of(row) : 0)) })),
    [data, measure],
  );
  if (total.calls === 0) {
    return <Empty title="No calls in this range">Choose a longer range, or record a call: <code>tallyd record --provider claude --model claude-sonnet-4-5 --input-tokens 1200 --output-tokens 300</code></Empty>;
  }
  const days = daysBetween(question.range.from, question.range.to) + 1;
  const unfinished = question.range.to === data.bars[data.bars.length - 1]?.key || question.bucket !== "day";
  return (
    <>
      <div class="tiles">
        <Tile label="Cost" value={<Cost amount={cost} unpriced={total.unpriced_calls} />} note={`${question.range.from} to ${question.range.to}`} />
        <Tile label="Average per day" value={<Money amount={cost / BigInt(days)} />} note={`over ${noun(days, "day", "days")}`} />
        <Tile label="Calls" value={count(total.calls)} note={`${percentage(total.calls ? (total.errors / total.calls) * 100 : null)} failed`} />
        <Tile label="Tokens" value={short(tokens(total))} note={`${short(total.output_tokens)} of them output`} />
        {total.unpriced_calls > 0 && <Tile label="Unpriced calls" value={count(total.unpriced_calls)} note={<a href={href("prices")}>not in any total</a>} tone="warn" />}
      </div>
      <Card title={`${MEASURES.find(([name]) => name === measure)?.[1]} by ${wordOf(question.by)}`} tools={<Choice label="Show" value={measure} options={MEASURES} onPick={(value) => amend({ show: value === "cost" ? null : value })} />}>
        <Chart label={`${measure} by ${wordOf(question.by)}`} bars={data.bars} series={series} format={MEASURE[measure].format} axis={MEASURE[measure].axis} unfinished={unfinished} />
        {data.as_of && <p class="footnote">Many calls are being loaded. These users have the calls that were loaded until {instant(data.as_of, zone)}.</p>}
        {data.whole_from && <p class="footnote">The days before {data.whole_from} are not whole: their calls were dropped before sums {question.bucket === "hour" ? "by hour" : `by ${wordOf(question.by)}`} were kept, or are still being counted.</p>}
      </Card>
      <Card tools={<Choice label="Table" value={view} options={[["totals", "Totals"], ["time", "Over time"]] as const} onPick={setView} />} title={view === "totals" ? "Totals" : "Over time"}>
        {view === "totals" ? <Totals data={data} /> : <OverTime data={data} measure={measure} />}
      </Card>
    </>
  );
}

function Totals({ data }: { data: History }) {
  const { by } = data.question;
  const rows: Group[] = [
    ...data.groups.filter((group) => group.name !== "All others" || data.more.length === 0),
    ...data.more.map(({ name, row }) => ({ name, color: "--c0", row, cost: parse(row.cost_usd), bars: [] })),
  ];
  const link = (group: Group) => (by === "user" && group.row.user ? <a href={href("users", {}, group.row.user)}>{group.name}</a> : group.name);
  const columns: Column<Group>[] = [
    { key: "name", label: BY.find(([name]) => name === by)?.[1] ?? wordOf(by), cell: (group) => <span class="named"><span class="swatch" style={{ background: `var(${group.color})` }} aria-hidden="true" />{link(group)}</span> },
    { key: "cost", label: "Cost", number: true, cell: (group) => <Cost amount={group.cost} unpriced={group.row.unpriced_calls} decimals={4} /> },
    { key: "share", label: "Share", number: true, wide: true, cell: (group) => percentage(percent(group.cost, data.cost)) },
    { key: "calls", label: "Calls", number: true, cell: ({ row }) => count(row.calls) },
    { key: "errors", label: "Failed", number: true, wide: true, cell: ({ row }) => count(row.errors) },
    { key: "input", label: "Input", number: true, wide: true, cell: ({ row }) => count(row.input_tokens) },
    { key: "output", label: "Output", number: true, wide: true, cell: ({ row }) => count(row.output_tokens) },
    { key: "cache", label: "Cache read", number: true, wide: true, cell: ({ row }) => count(row.cache_read_tokens) },
    { key: "unpriced", label: "Unpriced", number: true, wide: true, cell: ({ row }) => (row.unpriced_calls ? count(row.unpriced_calls) : "—") },
  ];
  const foot = (
    <tr>
      <th scope="row">Total</th>
      <td class="number"><Cost amount={data.cost} unpriced={data.total.unpriced_calls} decimals={4} /></td>
      <td class="number">{percentage(100)}</td>
      <td class="number">{count(data.total.calls)}</td>
      <td class="number wide">{count(data.total.errors)}</td>
      <td class="number wide">{count(data.total.input_tokens)}</td>
      <td class="number wide">{count(data.total.output_tokens)}</td>
      <td class="number wide">{count(data.total.cache_read_tokens)}</td>
      <td class="number wide">{data.total.unpriced_calls ? count(data.total.unpriced_calls) : "—"}</td>
    </tr>
  );
  return (
    <>
      <Table caption={`Totals by ${wordOf(by)}`} columns={columns} rows={rows} id={(group) => group.name} foot={foot} />
      {data.groupCount >= 200 && <p class="footnote">The 200 largest are listed; the CSV has all of them.</p>}
    </>
  );
}

function OverTime({ data, measure }: { data: History; measure: Measure }) {
  const bars = data.bars.map((bar, at) => ({ ...bar, at })).reverse();
  type Bar = (typeof bars)[number];
  const none = <span class="none">{measure === "cost" ? usd(0n) : "0"}</span>;
  const value = (rows: (GroupRow | undefined)[]) => {
    const there = rows.filter((row) => row !== undefined);
    if (there.length === 0) return none;
    if (measure !== "cost") return count(there.reduce((total, row) => total + MEASURE[measure].of(row), 0));
    const unpriced = there.reduce((total, row) => total + row.unpriced_calls, 0);
    return <Cost amount={sum(there.map((row) => parse(row.cost_usd)))} unpriced={unpriced} decimals={4} />;
  };
  const columns: Column<Bar>[] = [
    { key: "bar", label: "When", cell: (bar) => bar.long },
    { key: "total", label: "Total", number: true, cell: (bar) => <strong>{value(data.groups.map((group) => group.bars[bar.at]))}</strong> },
    ...data.groups.map((group): Column<Bar> => ({ key: group.name, label: group.name, number: true, cell: (bar) => value([group.bars[bar.at]]) })),
  ];
  return <Table caption={`${MEASURES.find(([name]) => name === measure)?.[1]} over time`} columns={columns} rows={bars} id={(bar) => bar.key} />;
}
