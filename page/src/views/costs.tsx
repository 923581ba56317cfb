// Cost history: any range, stacked by what one likes.

import { get, url } from "../api";
import { COLOURS, Stack, type Series } from "../chart";
import { count, day, dayShort, month, provider, today } from "../format";
import { useAnswer } from "../live";
import type { ViewProps } from "../main";
import { exact, money, sum, usd, type Usd } from "../money";
import { change } from "../route";
import type { CostRow, Costs, Dimension } from "../types";
import { Answer, Badge, Choice, Empty, Field, Panel, Table } from "../ui";

const BY: [Dimension, string][] = [["provider", "Provider"], ["model", "Model"], ["endpoint", "Endpoint"], ["user", "User"], ["app", "App"]];
const RANGES: [string, string][] = [["7", "7 days"], ["30", "30 days"], ["90", "90 days"], ["all", "All"], ["range", "Range"]];
const ALL_DAYS = 3660;
/** Applications are told apart by the log alone, which is asked for a month at most. */
const APP_DAYS = 31;
const GROUPS_MAX = 200;
const OTHER = "other";

type Bucket = "day" | "week" | "month";

interface Query { by: Dimension; parameters: { days?: number; from?: string; to?: string } }

interface History { buckets: string[]; bucket: Bucket; series: Series[]; other: boolean; groups: CostRow[]; more: boolean; total: Usd; calls: number; unpriced: number; from: string; to: string }

function name(by: Dimension, row: CostRow): string {
  const value = row[by] ?? "";
  if (by === "provider") return provider(value);
  return value || (by === "model" ? provider(row.provider ?? "") || "(no model)" : by === "user" ? "(nobody)" : `(no ${by})`);
}

/** Every bucket of the range, also those without a call. */
function calendar(from: string, to: string, bucket: Bucket): string[] {
  const at = new Date(`${from}T00:00:00Z`);
  if (bucket === "week") at.setUTCDate(at.getUTCDate() - ((at.getUTCDay() + 6) % 7));
  if (bucket === "month") at.setUTCDate(1);
  const found: string[] = [];
  for (const end = new Date(`${to}T00:00:00Z`); at <= end;) {
    found.push(at.toISOString().slice(0, 10));
    if (bucket === "month") at.setUTCMonth(at.getUTCMonth() + 1);
    else at.setUTCDate(at.getUTCDate() + (bucket === "week" ? 7 : 1));
  }
  return found;
}

function bucketOf(days: number): Bucket {
  return days <= 100 ? "day" : days <= 740 ? "week" : "month";
}

async function ask(query: Query, signal: AbortSignal): Promise<History> {
  const { by, parameters } = query;
  const path = (more: Record<string, string | number>) => url("/api/v1/costs", { ...parameters, ...more });
  const groupBy = by === "model" ? "model,provider" : by;
  const totals = await get<Costs>(path({ bucket: "total", group_by: groupBy, sort: "cost", limit: GROUPS_MAX }), signal);
  // All of it: from the first day that has anything.
  const first = await get<Costs>(path({ bucket: "month", limit: 1 }), signal);
  const begins = first.rows[0]?.bucket ?? totals.to;
  const from = totals.from < begins ? begins : totals.from;
  const days = (Date.parse(totals.to) - Date.parse(from)) / 86_400_000 + 1;
  const bucket = bucketOf(days);
  const range = { from, to: totals.to, bucket, limit: 10_000 };
  const each = await get<Costs>(url("/api/v1/costs", range), signal);
  const buckets = calendar(from, totals.to, bucket);
  const place = new Map(buckets.map((bucket, at) => [bucket, at]));
  const spread = (rows: CostRow[]): Usd[] => {
    const values = buckets.map(() => 0n);
    for (const row of rows) {
      const at = place.get(row.bucket);
      if (at !== undefined) values[at] = values[at]! + usd(row.cost_usd);
    }
    return values;
  };
  const top = totals.rows.filter((row) => usd(row.cost_usd) !== 0n).slice(0, totals.rows.length > COLOURS ? COLOURS - 1 : COLOURS);
  const asked = top.filter((row) => (row[by] ?? "") !== "");
  const answers = await Promise.all(asked.map((row) => get<Costs>(url("/api/v1/costs", { ...range, [by]: row[by], ...(by === "model" ? { provider: row.provider } : {}) }), signal)));
  const series = asked.map((row, at) => ({ name: name(by, row), values: spread(answers[at]!.rows) }));
  const whole = spread(each.rows);
  const rest = whole.map((value, at) => series.reduce((left, one) => left - one.values[at]!, value));
  const other = rest.some((value) => value > 0n);
  const remaining = totals.rows.filter((row) => usd(row.cost_usd) !== 0n && !asked.includes(row));
  if (other) series.push({ name: remaining.length === 1 ? name(by, remaining[0]!) : OTHER, values: rest });
  const count = (read: (row: CostRow) => number) => each.rows.reduce((sum, row) => sum + read(row), 0);
  return {
    buckets, bucket, series, other, groups: totals.rows, more: totals.next_offset !== null, from, to: totals.to,
    total: sum(each.rows.map((row) => row.cost_usd)), calls: count((row) => row.calls), unpriced: count((row) => row.unpriced_calls),
  };
}

export function CostsView(props: ViewProps) {
  const { route } = props;
  const by = (BY.find(([value]) => value === route.query.get("by"))?.[0] ?? "provider");
  const range = RANGES.find(([value]) => value === route.query.get("range"))?.[0] ?? "30";
  const now = today(props.session.time_zone);
  const [from, to] = [route.query.get("from") || now.slice(0, 8) + "01", route.query.get("to") || now];
  const whole = range === "range" ? { from, to } : { days: range === "all" ? ALL_DAYS : Number(range) };
  const bounded = by === "app" && (range === "90" || range === "all");
  const parameters = bounded ? { days: APP_DAYS } : whole;
  const key = JSON.stringify({ by, parameters });
  const answer = useAnswer<History>(key, (signal) => ask({ by, parameters }, signal), 30);
  const csv = url("/api/v1/costs", { ...parameters, group_by: by === "model" ? "provider,model" : by, bucket: "day", format: "csv" });
  return (
    <>
      <div class="controls">
        <Choice label="Stacked by" value={by} options={BY} set={(by) => change(route, { by })} />
        <Choice label="Days" value={range} options={RANGES} set={(range) => change(route, { range })} />
        {range === "range" && (
          <div class="range">
            <Field label="From">{(id) => <input id={id} type="date" value={from} max={to} onChange={(event) => change(route, { from: event.currentTarget.value })} />}</Field>
            <Field label="To">{(id) => <input id={id} type="date" value={to} min={from} max={now} onChange={(event) => change(route, { to: event.currentTarget.value })} />}</Field>
          </div>
        )}
        <a class="button" href={csv} download>CSV</a>
      </div>
      {bounded && <p class="note">Applications are told apart by the log, and so for {APP_DAYS} days at most.</p>}
      <Answer of={answer} lines={8}>
        {(data) => (
          <Panel wide title={`${money(data.total)} from ${day(data.from)} to ${day(data.to)}`} note={`${count(data.calls)} calls${data.unpriced > 0 ? `, ${count(data.unpriced)} of them without a price` : ""}. Days are those of ${props.session.time_zone}.`}>
            {data.calls === 0 ? <Empty>Nothing was recorded in this range.</Empty> : <Found data={data} by={by} />}
          </Panel>
        )}
      </Answer>
    </>
  );
}

function Found(props: { data: History; by: Dimension }) {
  const { data, by } = props;
  const names = data.bucket === "month" ? month : dayShort;
  const share = (row: CostRow) => (data.total === 0n ? "" : `${(Number((usd(row.cost_usd) * 1000n) / data.total) / 10).toFixed(1)} %`);
  const title = BY.find(([value]) => value === by)![1];
  const tokens = (row: CostRow) => row.input_tokens + row.cache_read_tokens + row.cache_write_5m_tokens + row.cache_write_1h_tokens;
  return (
    <>
      {data.series.length > 0 && <Stack label={`Cost by ${by}, one bar a ${data.bucket}`} buckets={data.buckets} names={names} series={data.series} other={data.other && data.series.length > COLOURS - 1} />}
      <Table label={`Cost by ${by}`} rows={data.groups} row={(row) => `${row.provider ?? ""}/${row[by] ?? ""}`} columns={[
        { title, cell: (row) => name(by, row) },
        { title: "Calls", number: true, cell: (row) => count(row.calls) },
        { title: "Failed", number: true, cell: (row) => count(row.errors), minor: true },
        { title: "Input tokens", number: true, cell: (row) => count(tokens(row)), minor: true },
        { title: "Output tokens", number: true, cell: (row) => count(row.output_tokens), minor: true },
        { title: "Unpriced", number: true, cell: (row) => count(row.unpriced_calls), minor: true },
        { title: "Cost", number: true, cell: (row) => row.unpriced_calls === row.calls ? <Badge kind="warn">no price</Badge> : <span title={`${row.cost_usd} USD`}>{money(row.cost_usd)}</span> },
        { title: "Share", number: true, cell: share, minor: true },
      ]} foot={
        <tr><th scope="row">All</th><td class="number">{count(data.calls)}</td><td class="minor" colSpan={4} /><td class="number"><span title={`${exact(data.total)} USD`}>{money(data.total)}</span></td><td class="minor" /></tr>
      } />
      {data.more && <p class="note">The {GROUPS_MAX} most expensive are listed; the CSV file has all.</p>}
    </>
  );
}
