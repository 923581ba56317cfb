// One user: lifetime totals, the cost of a range compared with the range before, and of each day by provider.

import { useMemo } from "preact/hooks";
import { get, url } from "../api";
import { type Range, rangeBefore, rangeName, rangeOf } from "../filter";
import { RangePicker } from "../filterbar";
import { addDays, ago, count, daysBetween, instant, longDay, percentage, shortDay, today } from "../format";
import { useLive } from "../live";
import { type Attos, axisUsd, parse, sum, toFloat, usdOf } from "../money";
import { colorsOf } from "../palette";
import { go, href, useRoute } from "../route";
import { useSession } from "../session";
import type { UserDetail as Answer } from "../types";
import { CostChange } from "../ui/change";
import { Chart } from "../ui/chart";
import { Card, Cost, Empty, Head, Loaded, Tile } from "../ui/parts";
import { type Column, Sorted } from "../ui/table";

type Day = Answer["days"][number];

export function UserDetail({ id }: { id: string }) {
  const { query } = useRoute();
  const { zone } = useSession();
  const now = today(zone);
  const name = rangeName(query);
  const range = rangeOf(name, query, now, addDays(now, -365));
  const before = rangeBefore(range, name, now);
  const of = (range: Range) => url(`/api/v1/users/${encodeURIComponent(id)}`, { ...range });
  const live = useLive<Both>(`${of(range)} ${before?.from}`, async (signal) => {
    const [now, past] = await Promise.all([get<Answer>(of(range), signal), before && get<Answer>(of(before), signal)]);
    return { now, before: past && spentIn(past) };
  });
  const user = live.data?.now;
  return (
    <>
      <Head title={user?.shown ?? id} lead={<><a href={href("users")}>Users</a> · <span class="mono">{id}</span></>} live={live}>
        <a class="button" href={href("costs", { user: id, by: "model" })}>Costs by model</a>
        <a class="button" href={href("records", { user: id })}>Calls</a>
      </Head>
      <Loaded live={live}>
        {({ now: data, before: past }) => (
          <>
            <div class="filters"><RangePicker query={query} range={range} today={now} without={["all"]} /></div>
            <div class="tiles">
              <Tile label="Cost in this range" value={<Cost amount={spentIn(data)} unpriced={unpricedIn(data)} />} note={past === null ? "" : <><CostChange now={spentIn(data)} before={past} long /> on the range before</>} />
              <Tile label="Lifetime cost" value={<Cost amount={parse(data.cost_usd)} unpriced={data.unpriced_calls} />} note={`since ${instant(data.first_call_at, zone).slice(0, 10)}`} />
              <Tile label="Claude calls" value={count(data.total_claude_calls)} />
              <Tile label="RentCast calls" value={count(data.total_rentcast_calls)} />
              <Tile label="Failed" value={count(data.errors)} note={percentage(data.total_calls ? (100 * data.errors) / data.total_calls : null)} />
              <Tile label="Last call" value={ago(data.last_call_at)} note={instant(data.last_call_at, zone)} />
            </div>
            <Days id={id} days={data.days} from={range.from} to={range.to} now={now} />
          </>
        )}
      </Loaded>
    </>
  );
}

interface Both {
  now: Answer;
  /** The cost of the range before. */
  before: Attos | null;
}

const spentIn = ({ days }: Answer): Attos => sum(days.map((day) => parse(day.cost_usd)));
const unpricedIn = ({ days }: Answer): number => days.reduce((total, day) => total + day.unpriced_calls, 0);

function Days({ id, days, from, to, now }: { id: string; days: Day[]; from: string; to: string; now: string }) {
  const bars = useMemo(() => Array.from({ length: daysBetween(from, to) + 1 }, (_, at) => addDays(from, at)), [from, to]);
  const series = useMemo(() => {
    const providers = [...new Set(days.map((day) => day.provider))].sort();
    const colors = colorsOf(providers);
    const cost = new Map(days.map((day) => [`${day.day} ${day.provider}`, toFloat(parse(day.cost_usd))]));
    return providers.map((name, at) => ({ name, color: colors[at] ?? "--c0", values: bars.map((day) => cost.get(`${day} ${name}`) ?? 0) }));
  }, [days, bars]);
  if (days.length === 0) return <Empty title="No calls in this range">Choose a longer range.</Empty>;
  const columns: Column<Day>[] = [
    { key: "day", label: "Day", by: ({ day }) => day, cell: (day) => longDay(day.day) },
    { key: "provider", label: "Provider", by: ({ provider }) => provider, cell: (day) => day.provider },
    { key: "calls", label: "Calls", number: true, by: ({ calls }) => calls, cell: (day) => count(day.calls) },
    { key: "input", label: "Input", number: true, wide: true, cell: (day) => count(day.input_tokens) },
    { key: "output", label: "Output", number: true, wide: true, cell: (day) => count(day.output_tokens) },
    { key: "cost", label: "Cost", number: true, by: (day) => parse(day.cost_usd), cell: (day) => <Cost amount={parse(day.cost_usd)} unpriced={day.unpriced_calls} decimals={4} /> },
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
        <Chart label="Cost by day and provider" height={240} series={series} format={usdOf} axis={axisUsd} now={to === now ? bars.length - 1 : null} opens="its calls of that day"
          onOpen={(at, provider) => go(href("records", { user: id, days: null, from: bars[at] ?? from, to: bars[at] ?? to, ...(provider === null ? {} : { provider }) }))} bars={bars.map((day) => ({ short: shortDay(day), long: longDay(day) }))} />
      </Card>
      <Card title="Days"><Sorted caption="Days" columns={columns} rows={days} id={(day) => `${day.day} ${day.provider}`} first="day" foot={foot} /></Card>
    </>
  );
}
