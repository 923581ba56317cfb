// One user: lifetime totals, and the cost of each day by provider.

import { useMemo } from "preact/hooks";
import { get, url } from "../api";
import { addDays, ago, count, daysBetween, instant, longDay, percentage, shortDay, today } from "../format";
import { useLive } from "../live";
import { axisUsd, parse, sum, toFloat, usdOf } from "../money";
import { colorsOf } from "../palette";
import { RangePicker, named } from "../range";
import { href, useRoute } from "../route";
import { useSession } from "../session";
import type { UserDetail as Answer } from "../types";
import { Chart } from "../ui/chart";
import { Card, Cost, Empty, Head, Loaded, Tile } from "../ui/parts";
import { type Column, Table } from "../ui/table";

type Day = Answer["days"][number];

export function UserDetail({ id }: { id: string }) {
  const { query } = useRoute();
  const { zone } = useSession();
  const name = named(query);
  const now = today(zone);
  const range = name === "custom"
    ? { from: query.get("from") ?? now, to: query.get("to") ?? now }
    : { from: addDays(now, 1 - (name === "all" ? 365 : Number(name))), to: now };
  const path = url(`/api/v1/users/${encodeURIComponent(id)}`, range as unknown as Record<string, string>);
  const live = useLive<Answer>(path, (signal) => get(path, signal));
  const user = live.data;
  return (
    <>
      <Head title={user?.shown ?? id} lead={<><a href={href("users")}>Users</a> · <span class="mono">{id}</span></>} live={live}>
        <a class="button" href={href("records", { user_id: id, days: "31" })}>Calls</a>
      </Head>
      <Loaded live={live}>
        {(data) => (
          <>
            <div class="tiles">
              <Tile label="Lifetime cost" value={<Cost amount={parse(data.cost_usd)} unpriced={data.unpriced_calls} />} note={`since ${instant(data.first_call_at, zone).slice(0, 10)}`} />
              <Tile label="Claude calls" value={count(data.total_claude_calls)} />
              <Tile label="RentCast calls" value={count(data.total_rentcast_calls)} />
              <Tile label="Failed" value={count(data.errors)} note={percentage(data.total_calls ? (100 * data.errors) / data.total_calls : null)} />
              <Tile label="Last call" value={ago(data.last_call_at)} note={instant(data.last_call_at, zone)} />
            </div>
            <div class="filters"><RangePicker query={query} range={range} today={now} without={["all"]} /></div>
            <Days days={data.days} from={range.from} to={range.to} />
          </>
        )}
      </Loaded>
    </>
  );
}

function Days({ days, from, to }: { days: Day[]; from: string; to: string }) {
  const bars = useMemo(() => Array.from({ length: daysBetween(from, to) + 1 }, (_, at) => addDays(from, at)), [from, to]);
  const series = useMemo(() => {
    const providers = [...new Set(days.map((day) => day.provider))].sort();
    const colors = colorsOf(providers);
    const cost = new Map(days.map((day) => [`${day.day} ${day.provider}`, toFloat(parse(day.cost_usd))]));
    return providers.map((name, at) => ({ name, color: colors[at] ?? "--c0", values: bars.map((day) => cost.get(`${day} ${name}`) ?? 0) }));
  }, [days, bars]);
  if (days.length === 0) return <Empty title="No calls in this range">Choose a longer range.</Empty>;
  const columns: Column<Day>[] = [
    { key: "day", label: "Day", cell: (day) => longDay(day.day) },
    { key: "provider", label: "Provider", cell: (day) => day.provider },
    { key: "calls", label: "Calls", number: true, cell: (day) => count(day.calls) },
    { key: "input", label: "Input", number: true, wide: true, cell: (day) => count(day.input_tokens) },
    { key: "output", label: "Output", number: true, wide: true, cell: (day) => count(day.output_tokens) },
    { key: "cost", label: "Cost", number: true, cell: (day) => <Cost amount={parse(day.cost_usd)} unpriced={day.unpriced_calls} decimals={4} /> },
  ];
  const foot = (
    <tr>
      <th scope="row" colSpan={2}>Total</th>
      <td class="number">{count(days.reduce((total, day) => total + day.calls, 0))}</td>
      <td class="number wide">{count(days.reduce((total, day) => total + day.input_tokens, 0))}</td>
      <td class="number wide">{count(days.reduce((total, day) => total + day.output_tokens, 0))}</td>
      <td class="number"><Cost amount={sum(days.map((day) => parse(day.cost_usd)))} unpriced={days.reduce((total, day) => total + day.unpriced_calls, 0)} decimals={4} /></td>
    </tr>
  );
  return (
    <>
      <Card title="Cost by day">
        <Chart label="Cost by day and provider" height={240} series={series} format={usdOf} axis={axisUsd} unfinished bars={bars.map((day) => ({ short: shortDay(day), long: longDay(day) }))} />
      </Card>
      <Card title="Days"><Table caption="Days" columns={columns} rows={days} id={(day) => `${day.day} ${day.provider}`} foot={foot} /></Card>
    </>
  );
}
