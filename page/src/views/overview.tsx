// The overview: spend, its forecast, the largest changes, and open problems.

import { useMemo } from "preact/hooks";
import { get, url } from "../api";
import { type History, firstDay, fittingBucket, history } from "../costdata";
import { Deploys, useDeploys, useMarked } from "../deploys";
import { byOf, openBar, opensWhat } from "../drill";
import { DIMENSIONS, type Filters as Chosen, type RangeName, asCosts, filtersOf, path, rangeBefore, rangeName, rangeOf, wordOf } from "../filter";
import { Filters, RangePicker } from "../filterbar";
import { addDays, count, hourOf, longDay, noun, seconds, shortDay, today } from "../format";
import { useLive } from "../live";
import { type Attos, axisUsd, parse, sum, toFloat, usd, usdOf } from "../money";
import { hasForecast, useOutlook, useOverlays } from "../outlook";
import { amend, href, useRoute } from "../route";
import { useSession } from "../session";
import { add } from "../sums";
import type { BudgetState, Costs, Dimension, Estimate, Forecast, GroupRow, LetterGroups, Status } from "../types";
import { CostChange } from "../ui/change";
import { Chart } from "../ui/chart";
import { Badge, Card, Cost, Empty, Head, Loaded, Money, PrintButton, Tile, lacking } from "../ui/parts";
import { Table } from "../ui/table";
import { Bounds } from "./bounds";
import { Bar, usedShare } from "./budgets";
import { inWords } from "./costs";
import { Movers } from "./groups";

interface Overview {
  today: string;
  history: History;
  spentToday: Spent;
  spentMonth: Spent;
  /** Yesterday, in all and up to the present hour. */
  yesterday: Attos;
  yesterdayByNow: SoFar | null;
  /** The month before, in all and up to the present day. */
  monthBefore: Attos;
  monthBeforeByNow: SoFar;
  /** Null if the filters leave something that has no forecast. */
  forecast: Forecast | null;
  budgets: BudgetState[];
  unpriced: { provider: string; model: string; calls: number }[];
  status: Status;
  /** Recent refusals, with their reasons. */
  refusals: LetterGroups;
}

interface Spent {
  cost: Attos;
  unpriced: number;
}

/** The spend up to a time of day or a day of the month. */
interface SoFar {
  by: string;
  cost: Attos;
}

/** Recent refusals are those of a week. */
const REFUSAL_DAYS = 7;

interface Question {
  by: Dimension;
  filters: Chosen;
  name: RangeName;
  query: URLSearchParams;
}

async function load({ by, filters, name, query }: Question, zone: string, signal: AbortSignal): Promise<Overview> {
  const now = today(zone);
  const monthStart = `${now.slice(0, 7)}-01`;
  const lastMonth = { from: `${addDays(monthStart, -1).slice(0, 7)}-01`, to: addDays(monthStart, -1) };
  const sameDay = [addDays(lastMonth.from, Number(now.slice(8)) - 1), lastMonth.to].sort()[0] ?? lastMonth.to;
  const spent = async (from: string, to: string): Promise<Spent> => {
    const total = add((await get<Costs>(path("/api/v1/costs", { from, to, bucket: "total" }, asCosts(filters)), signal)).rows);
    return { cost: parse(total.cost_usd), unpriced: total.unpriced_calls };
  };
  const total = async (from: string, to: string) => (await spent(from, to)).cost;
  const end = addDays(now, -1);
  const range = rangeOf(name, query, now, name === "all" ? await firstDay(zone, signal) : "");
  const before = rangeBefore(range, name, now);
  const [recent, spentToday, yesterday, yesterdayByNow, spentMonth, monthBefore, monthBeforeByNow, forecast, budgets, unpriced, status, refusals] = await Promise.all([
    history({ by, range, before, bucket: fittingBucket(range), filters }, zone, signal),
    spent(now, now), total(end, end), untilThisHour(end, filters, zone, signal), spent(monthStart, now), total(lastMonth.from, lastMonth.to), total(lastMonth.from, sameDay),
    hasForecast(filters) ? get<Forecast>(url("/api/v1/forecast", { provider: filters.provider }), signal) : null,
    get<{ budgets: BudgetState[] }>("/api/v1/budgets", signal),
    get<{ models: Overview["unpriced"] }>("/api/v1/unpriced", signal),
    get<Status>("/api/v1/pipeline", signal),
    get<LetterGroups>(url("/api/v1/dead-letters/groups", { days: REFUSAL_DAYS, limit: 5 }), signal),
  ]);
  return {
    today: now, history: recent, spentToday, yesterday, yesterdayByNow, spentMonth, monthBefore,
    monthBeforeByNow: { by: shortDay(sameDay), cost: monthBeforeByNow }, forecast, budgets: budgets.budgets.sort((a, b) => usedShare(b) - usedShare(a)),
    unpriced: unpriced.models, status, refusals,
  };
}

const costOf = (rows: GroupRow[]): Attos => sum(rows.map((row) => parse(row.cost_usd)));

/** How long the overview waits for a figure that it does not need, in milliseconds. */
const HOURS_MS = 3_000;
let known: { key: string; sums: SoFar } | null = null;
/** A past day up to the present hour. Loaded once an hour; null if that takes too long. */
async function untilThisHour(day: string, filters: Chosen, zone: string, signal: AbortSignal): Promise<SoFar | null> {
  const by = hourOf(new Date(), zone);
  const key = JSON.stringify([day, by, filters]);
  if (known?.key === key) return known.sums;
  try {
    const { rows } = await get<Costs>(path("/api/v1/costs", { from: day, to: day, bucket: "hour" }, asCosts(filters)), AbortSignal.any([signal, AbortSignal.timeout(HOURS_MS)]));
    const sums = { by, cost: costOf(rows.filter((row) => row.bucket && hourOf(new Date(row.bucket), zone) < by)) };
    known = { key, sums };
    return sums;
  } catch (error) {
    if (signal.aborted) throw error;
    return null;
  }
}

export function Overview() {
  const { query } = useRoute();
  const { zone } = useSession();
  const now = today(zone);
  const filters = filtersOf(query);
  const question = { by: byOf(query), filters, name: rangeName(query), query };
  const key = `overview ${question.by} ${JSON.stringify(filters)} ${question.name} ${query.get("from")} ${query.get("to")} ${now}`;
  const live = useLive<Overview>(key, (signal) => load(question, zone, signal), 15_000);
  const range = live.data?.history.question.range ?? rangeOf(question.name === "all" ? "30" : question.name, query, now, "");
  return (
    <>
      <Head title="Overview" lead={longDay(now)} live={live}><PrintButton /></Head>
      <div class="filters">
        <RangePicker query={query} range={range} today={now} />
        <Filters query={query} range={range} tags={live.data?.history.tags ?? []} />
      </div>
      <Loaded live={live} rows={7}>{(data) => <Found data={data} isOld={live.failure !== null || live.late} />}</Loaded>
    </>
  );
}

function Found({ data, isOld }: { data: Overview; isOld: boolean }) {
  const { status } = data;
  const oldest = status.wal.unflushed_records > 0 ? status.wal.oldest_unflushed_seconds : 0;
  const worst = status.health.status;
  if (data.history.total.calls === 0 && data.spentMonth.cost === 0n && Object.keys(data.history.question.filters).length === 0) {
    if (data.refusals.refused > 0) return <Refusals found={data.refusals} title="All records were refused" />;
    return (
      <Empty title="No calls recorded yet">
        Try it: <code>tallyd record --provider claude --model claude-sonnet-4-5 --input-tokens 1200 --output-tokens 300</code>, or fill a demonstration with <code>tallyd demo --backfill 90 --rate 0 --seconds 10</code>. This page shows it within seconds.
      </Empty>
    );
  }
  return (
    <>
      <div class="tiles">
        <Tile label="Today" value={<Cost amount={data.spentToday.cost} unpriced={data.spentToday.unpriced} short />} note={compared("yesterday", data.spentToday, data.yesterdayByNow, data.yesterday)} />
        <Tile label="Month to date" value={<Cost amount={data.spentMonth.cost} unpriced={data.spentMonth.unpriced} short />} note={compared("last month", data.spentMonth, data.monthBeforeByNow, data.monthBefore)} />
        {data.forecast && <Forecasted estimate={data.forecast.month} forecast={data.forecast} />}
        {isOld ? <Tile label="Pipeline" value="Unknown" tone="warn" note="the daemon or its database does not answer" /> : <Tile label="Pipeline" value={worst === "ok" ? "Healthy" : worst === "degraded" ? "Degraded" : "Needs attention"} tone={worst === "ok" ? "good" : worst === "degraded" ? "warn" : "bad"}
          note={<a href={href("pipeline")}>{status.wal.unflushed_records > 0 ? `${count(status.wal.unflushed_records)} not loaded, oldest ${seconds(oldest)}` : "everything is loaded"}</a>} />}
      </div>
      <Spend data={data} />
      <div class="columns pairs">
        <Card title="Budgets" tools={<a href={href("budgets")}>All budgets</a>}>
          {data.budgets.length === 0 ? <Empty title="No budget is set"><a href={href("budgets")}>Set a budget</a> to get alerts before it is used up.</Empty> : data.budgets.slice(0, 4).map((budget) => <Bar key={budget.id} budget={budget} />)}
        </Card>
        <Card title="Top movers" tools={<label class="inline">By <select value={data.history.question.by} onChange={(event) => amend({ by: event.currentTarget.value === "provider" ? null : event.currentTarget.value })}>
          {[...DIMENSIONS, ...data.history.tags.map((tag) => [`tag:${tag}`, tag] as const)].map(([value, label]) => <option key={value} value={value}>{label}</option>)}
        </select></label>}>
          <Movers data={data.history} brief />
        </Card>
        {(data.refusals.refused > 0 || data.refusals.open > 0) && <Refusals found={data.refusals} title="Refused records" />}
        {data.unpriced.length > 0 && (
          <Card title="Unpriced calls" tools={<a href={href("prices")}>Prices</a>}>
            <Table caption="Unpriced calls by model" rows={data.unpriced.slice(0, 6)} id={(model) => `${model.provider} ${model.model}`} columns={[
              { key: "model", label: "Model", cell: (model) => <span>{model.model || model.provider}</span> },
              { key: "calls", label: "Calls", number: true, cell: (model) => <Badge tone="warn">{count(model.calls)}</Badge> },
            ]} />
            <p class="footnote">Not in any total. Set a price, then reprice them.</p>
          </Card>
        )}
        <Card title="Pipeline" tools={<a href={href("pipeline")}>Details</a>}>
          <dl class="facts">
            <dt>Acknowledged and on disk</dt><dd>up to key {count(status.wal.durable_key)}</dd>
            <dt>In PostgreSQL</dt><dd>{status.database.committed_records === null ? "no answer" : noun(status.database.committed_records, "call", "calls")}</dd>
            <dt>Not loaded yet</dt><dd>{noun(status.wal.unflushed_records, "record", "records")}</dd>
            <dt>Oldest unloaded record</dt><dd>{oldest > 0 ? `${seconds(oldest)} old` : "—"}</dd>
          </dl>
        </Card>
      </div>
    </>
  );
}

/** The difference from the same time before, that time's spend, and the whole. */
const compared = (what: string, now: Spent, soFar: SoFar | null, whole: Attos) => (
  <>
    {soFar && <><CostChange now={now.cost} before={soFar.cost} long /><br /></>}
    {now.unpriced > 0 && <>{lacking(now.unpriced)}<br /></>}
    {what} {soFar ? `${usd(soFar.cost)} by ${soFar.by}, ` : ""}{usd(whole)} in all
  </>
);

/** The number of refused records, with their reasons. */
function Refusals({ found, title }: { found: LetterGroups; title: string }) {
  const reason = (group: LetterGroups["groups"][number]) => (
    <span><Badge tone={group.kind === "poison" ? "bad" : "warn"}>{group.code}</Badge> {group.field && <code>{group.field}</code>} {group.message || "counted only: beyond what is kept of a day"}</span>
  );
  return (
    <Card title={title} tools={<a href={href("dead-letters")}>Dead letters</a>}>
      <Table caption={title} rows={found.groups} id={(group) => [group.kind, group.code, group.field, group.producer].join(" ")} columns={[
        { key: "reason", label: "Reason", cell: reason },
        { key: "producer", label: "Sender", wide: true, cell: (group) => group.producer || "—" },
        { key: "refused", label: "Refused", number: true, cell: (group) => count(Math.max(group.refused, group.open)) },
      ]} />
      <p class="footnote">{noun(found.refused, "record was", "records were")} refused in {REFUSAL_DAYS} days; {noun(found.open, "waits", "wait")} for a decision. They are not in any total.</p>
    </Card>
  );
}

function Forecasted({ estimate, forecast }: { estimate: Estimate; forecast: Forecast }) {
  const label = `Forecast to ${shortDay(estimate.until)}`;
  if (estimate.expected_usd === null) return <Tile label={label} value="—" note="needs three whole days of calls" />;
  // In a small interval, whole dollars would not tell the ends apart.
  const amount = (text: string) => usd(parse(text), toFloat(parse(estimate.high_usd)) < 100 ? 2 : 0);
  const band = estimate.low_usd !== null && estimate.high_usd !== null
    ? `${forecast.interval_percent} % interval ${amount(estimate.low_usd)} – ${amount(estimate.high_usd)}`
    : `mean of ${noun(forecast.history_days, "day", "days")}`;
  return <Tile label={label} value={<Money amount={parse(estimate.expected_usd)} />} note={band + setAside(forecast)} />;
}

function setAside(forecast: Forecast): string {
  const days = [...new Set(forecast.unusual_days.map((unusual) => unusual.day))];
  if (days.length === 0) return "";
  const named = days.slice(-3).map(shortDay).join(", ");
  return ` · set aside as unusual: ${days.length > 3 ? `${noun(days.length, "day", "days")}, the last ` : ""}${named}`;
}

const cost = (row: GroupRow) => toFloat(parse(row.cost_usd));

function Spend({ data }: { data: Overview }) {
  const { history, forecast } = data;
  const { question, total, before } = history;
  const budgets = useOutlook(question.filters).budgets;
  const outlook = useMemo(() => ({ forecast, budgets }), [forecast, JSON.stringify(budgets)]);
  const { bars, series, lines, nowAt, expected } = useOverlays(history, cost, outlook, false, data.today);
  const marks = useDeploys(question);
  const marked = useMarked(bars, history, marks);
  const costs = href("costs");
  return (
    <Card title={inWords(question.range)} tools={<a href={costs}>Costs in detail</a>}>
      <p class="compared">
        <strong><Cost amount={history.cost} unpriced={total.unpriced_calls} /></strong>
        {before && question.before && <> <CostChange now={history.cost} before={parse(before.cost_usd)} long /> on {inWords(question.before)}. <a href={href("costs", { table: "causes" })}>Why?</a></>}
      </p>
      {total.unpriced_calls > 0 && <Bounds range={question.range} filters={question.filters} isBrief />}
      <Chart label={`Cost by ${wordOf(question.by)}`} height={250} bars={marked} series={series} lines={lines} format={usdOf} axis={axisUsd} now={nowAt} expected={expected}
        opens={opensWhat(history)} onOpen={(at, name) => openBar(history, at, name)} />
      <Deploys marks={marks} />
    </Card>
  );
}
