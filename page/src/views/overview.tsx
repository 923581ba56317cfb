// The overview: spend, its forecast, the largest changes, and open problems.

import { useMemo } from "preact/hooks";
import { get, url } from "../api";
import { type History, add, history, namesOf } from "../costdata";
import { addDays, count, hourOf, longDay, noun, percentage, seconds, shortDay, today } from "../format";
import { useLive } from "../live";
import { type Attos, axisUsd, parse, percent, sum, toFloat, usd, usdOf } from "../money";
import { href } from "../route";
import { useSession } from "../session";
import type { BudgetState, Costs, Estimate, Forecast, GroupRow, LetterGroups, Status } from "../types";
import { Chart } from "../ui/chart";
import { Badge, Card, Cost, Empty, Head, Loaded, Money, Tile } from "../ui/parts";
import { type Column, Table } from "../ui/table";
import { Bar, usedShare } from "./budgets";

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
  forecast: Forecast;
  budgets: BudgetState[];
  changes: Change[];
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

interface Change {
  name: string;
  now: Attos;
  before: Attos;
}

const CHANGE_DAYS = 7;

async function load(zone: string, signal: AbortSignal): Promise<Overview> {
  const now = today(zone);
  const monthStart = `${now.slice(0, 7)}-01`;
  const lastMonth = { from: `${addDays(monthStart, -1).slice(0, 7)}-01`, to: addDays(monthStart, -1) };
  const sameDay = [addDays(lastMonth.from, Number(now.slice(8)) - 1), lastMonth.to].sort()[0] ?? lastMonth.to;
  const ask = (more: Record<string, string | number>) => get<Costs>(url("/api/v1/costs", more), signal);
  const spent = async (from: string, to: string): Promise<Spent> => {
    const { rows } = await ask({ from, to, bucket: "total" });
    return { cost: costOf(rows), unpriced: add(rows).unpriced_calls };
  };
  const total = async (from: string, to: string) => (await spent(from, to)).cost;
  const groups = (from: string, to: string) => ask({ from, to, bucket: "total", group_by: "provider,model", sort: "cost", limit: 500 });
  // Whole days on both sides, so that a morning is not compared with a day.
  const end = addDays(now, -1);
  const [recent, spentToday, yesterday, yesterdayByNow, spentMonth, monthBefore, monthBeforeByNow, forecast, budgets, week, weekBefore, unpriced, status, refusals] = await Promise.all([
    history({ by: "provider", range: { from: addDays(now, -29), to: now }, bucket: "day", provider: "" }, zone, signal),
    spent(now, now), total(end, end), untilThisHour(end, zone, signal), spent(monthStart, now), total(lastMonth.from, lastMonth.to), total(lastMonth.from, sameDay),
    get<Forecast>("/api/v1/forecast", signal),
    get<{ budgets: BudgetState[] }>("/api/v1/budgets", signal),
    groups(addDays(end, 1 - CHANGE_DAYS), end), groups(addDays(end, 1 - 2 * CHANGE_DAYS), addDays(end, -CHANGE_DAYS)),
    get<{ models: Overview["unpriced"] }>("/api/v1/unpriced", signal),
    get<Status>("/api/v1/pipeline", signal),
    get<LetterGroups>(url("/api/v1/dead-letters/groups", { days: CHANGE_DAYS, limit: 5 }), signal),
  ]);
  return {
    today: now, history: recent, spentToday, yesterday, yesterdayByNow, spentMonth, monthBefore,
    monthBeforeByNow: { by: shortDay(sameDay), cost: monthBeforeByNow }, forecast, budgets: budgets.budgets.sort((a, b) => usedShare(b) - usedShare(a)),
    changes: changesOf(week.rows, weekBefore.rows), unpriced: unpriced.models, status, refusals,
  };
}

const costOf = (rows: GroupRow[]): Attos => sum(rows.map((row) => parse(row.cost_usd)));

/** How long the overview waits for a figure that it does not need, in milliseconds. */
const HOURS_MS = 3_000;
let known: { day: string; by: string; sums: SoFar | null } | null = null;
/** A past day up to the present hour. Loaded once an hour; null if that takes too long. */
async function untilThisHour(day: string, zone: string, signal: AbortSignal): Promise<SoFar | null> {
  const by = hourOf(new Date(), zone);
  if (known?.day === day && known.by === by) return known.sums;
  let sums: SoFar | null = null;
  try {
    const { rows } = await get<Costs>(url("/api/v1/costs", { from: day, to: day, bucket: "hour" }), AbortSignal.any([signal, AbortSignal.timeout(HOURS_MS)]));
    sums = { by, cost: costOf(rows.filter((row) => row.bucket && hourOf(new Date(row.bucket), zone) < by)) };
  } catch (error) {
    if (signal.aborted) throw error;
  }
  known = { day, by, sums };
  return sums;
}

/** The largest changes between two weeks, in either direction. */
function changesOf(now: GroupRow[], before: GroupRow[]): Change[] {
  const all = new Map<string, { row: GroupRow; now: Attos; before: Attos }>();
  const at = (row: GroupRow) => {
    const key = JSON.stringify([row.provider, row.model]);
    const found = all.get(key) ?? { row, now: 0n, before: 0n };
    all.set(key, found);
    return found;
  };
  for (const row of now) at(row).now += parse(row.cost_usd);
  for (const row of before) at(row).before += parse(row.cost_usd);
  const found = [...all.values()];
  const names = namesOf(found.map(({ row }) => row), "model");
  const changes = found.map(({ now, before }, at) => ({ name: names[at] ?? "", now, before }));
  const size = ({ now, before }: Change) => (now > before ? now - before : before - now);
  return changes.filter((change) => size(change) > 0n).sort((a, b) => (size(b) > size(a) ? 1 : -1)).slice(0, 6);
}

export function Overview() {
  const { zone } = useSession();
  const live = useLive<Overview>("overview", (signal) => load(zone, signal), 15_000);
  return (
    <>
      <Head title="Overview" lead={longDay(today(zone))} live={live} />
      <Loaded live={live} rows={7}>{(data) => <Found data={data} isOld={live.failure !== null || live.late} />}</Loaded>
    </>
  );
}

function Found({ data, isOld }: { data: Overview; isOld: boolean }) {
  const { status } = data;
  const oldest = status.wal.unflushed_records > 0 ? status.wal.oldest_unflushed_seconds : 0;
  const worst = status.health.status;
  if (data.history.total.calls === 0 && data.spentMonth.cost === 0n) {
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
        <Tile label="Today" value={<Cost amount={data.spentToday.cost} unpriced={data.spentToday.unpriced} />} note={compared("yesterday", data.yesterdayByNow, data.yesterday)} />
        <Tile label="Month to date" value={<Cost amount={data.spentMonth.cost} unpriced={data.spentMonth.unpriced} />} note={compared("last month", data.monthBeforeByNow, data.monthBefore)} />
        <Forecasted estimate={data.forecast.month} forecast={data.forecast} />
        {isOld ? <Tile label="Pipeline" value="Unknown" tone="warn" note="the daemon or its database does not answer" /> : <Tile label="Pipeline" value={worst === "ok" ? "Healthy" : worst === "degraded" ? "Degraded" : "Needs attention"} tone={worst === "ok" ? "good" : worst === "degraded" ? "warn" : "bad"}
          note={<a href={href("pipeline")}>{status.wal.unflushed_records > 0 ? `${count(status.wal.unflushed_records)} not loaded, oldest ${seconds(oldest)}` : "everything is loaded"}</a>} />}
      </div>
      <Month data={data} />
      <div class="columns pairs">
        <Card title="Budgets" tools={<a href={href("budgets")}>All budgets</a>}>
          {data.budgets.length === 0 ? <Empty title="No budget is set"><a href={href("budgets")}>Set a budget</a> to get alerts before it is used up.</Empty> : data.budgets.slice(0, 4).map((budget) => <Bar key={budget.id} budget={budget} />)}
        </Card>
        <Card title="Top movers" tools={<span class="fine">last {CHANGE_DAYS} days compared with the {CHANGE_DAYS} before</span>}>
          <Changes changes={data.changes} />
        </Card>
        {(data.refusals.refused > 0 || data.refusals.open > 0) && <Refusals found={data.refusals} title="Refused records" />}
        {data.unpriced.length > 0 && (
          <Card title="Unpriced calls" tools={<a href={href("prices")}>Prices</a>}>
            <Table caption="Unpriced calls by model" rows={data.unpriced.slice(0, 6)} id={(model) => `${model.provider} ${model.model}`} columns={[
              { key: "model", label: "Model", cell: (model) => <span>{model.model || model.provider}</span> },
              { key: "calls", label: "Calls", number: true, cell: (model) => <Badge tone="warn">{count(model.calls)}</Badge> },
            ]} />
            <p class="footnote">Not in any total. Set a price, then run <code>tallyd reprice</code>.</p>
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

/** The spend up to the same time, and the whole. */
const compared = (what: string, soFar: SoFar | null, whole: Attos): string =>
  `${what} ${soFar ? `${usd(soFar.cost)} by ${soFar.by}, ` : ""}${usd(whole)} in all`;

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
      <p class="footnote">{noun(found.refused, "record was", "records were")} refused in {CHANGE_DAYS} days; {noun(found.open, "waits", "wait")} for a decision. They are not in any total.</p>
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

function Month({ data }: { data: Overview }) {
  const { history } = data;
  const series = useMemo(() => history.groups.map((group) => ({ name: group.name, color: group.color, values: group.bars.map((row) => toFloat(parse(row?.cost_usd))) })), [history]);
  return (
    <Card title="The last 30 days" tools={<a href={href("costs")}>Cost history</a>}>
      <Chart label="Cost of the last 30 days by provider" height={250} bars={history.bars} series={series} format={usdOf} axis={axisUsd} unfinished />
    </Card>
  );
}

function Changes({ changes }: { changes: Change[] }) {
  if (changes.length === 0) return <Empty title="Not enough data">The comparison needs a week of calls.</Empty>;
  const columns: Column<Change>[] = [
    { key: "name", label: "Model", cell: (change) => <span class="named">{change.name}</span> },
    { key: "now", label: "Cost", number: true, cell: (change) => <Money amount={change.now} decimals={2} /> },
    { key: "change", label: "Change", number: true, cell: (change) => {
      const delta = change.now - change.before;
      return <span class={delta > 0n ? "up" : "down"}>{delta > 0n ? "+" : ""}{usd(delta)}</span>;
    } },
    { key: "percent", label: <span class="hidden">Change in percent</span>, number: true, wide: true, cell: (change) => <span class="fine">{change.before === 0n ? "new" : percentage(percent(change.now - change.before, change.before), true)}</span> },
  ];
  return <Table caption="Top movers" columns={columns} rows={changes} id={(change) => change.name} />;
}
