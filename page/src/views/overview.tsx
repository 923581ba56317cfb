// What one looks at first in the morning.

import type { ComponentChildren } from "preact";
import { Outlook } from "../chart";
import { count, day, dayShort, duration, provider } from "../format";
import { useLive } from "../live";
import type { ViewProps } from "../main";
import { money, toNumber, usd } from "../money";
import { link } from "../route";
import type { Estimate, ForecastAnswer, Mover, Overview } from "../types";
import { Answer, Badge, Empty, Panel, Table } from "../ui";
import { BudgetList } from "./budgets";

function Stat(props: { name: string; value: ComponentChildren; children?: ComponentChildren }) {
  return (
    <div class="stat">
      <h2>{props.name}</h2>
      <p class="value">{props.value}</p>
      <p class="note">{props.children}</p>
    </div>
  );
}

/** `+12 %` against what was. */
export function change(now: string, before: string): string | undefined {
  const [a, b] = [toNumber(usd(now)), toNumber(usd(before))];
  if (b === 0) return undefined;
  const percent = ((a - b) / b) * 100;
  return `${percent >= 0 ? "+" : "−"}${Math.abs(percent).toFixed(Math.abs(percent) < 10 ? 1 : 0)} %`;
}

function band(estimate: Estimate): string {
  return estimate.low_usd && estimate.high_usd ? `likely ${money(estimate.low_usd)} – ${money(estimate.high_usd)}` : "too little history for a band";
}

function name(row: { provider: string; model: string }): string {
  return row.model || provider(row.provider);
}

export function OverviewView(props: ViewProps) {
  const overview = useLive<Overview>("/api/v1/overview", 5);
  const forecast = useLive<ForecastAnswer>("/api/v1/forecast", 60);
  return (
    <Answer of={overview} lines={6}>
      {(data) => (
        <div class="grid">
          <div class="stats wide">
            <Stat name="Today" value={money(data.today.cost_usd)}>
              {count(data.today.calls)} calls{data.today.errors > 0 && `, ${count(data.today.errors)} failed`}
            </Stat>
            <Stat name="Month to date" value={money(data.month_to_date.cost_usd)}>
              {change(data.month_to_date.cost_usd, data.previous_month_to_date.cost_usd) ?? "nothing"} against {money(data.previous_month_to_date.cost_usd)} by {dayShort(data.previous_month_to_date.to)}
            </Stat>
            <Stat name={`Month, to ${dayShort(data.forecast.month.until)}`} value={data.forecast.month.expected_usd ? money(data.forecast.month.expected_usd) : "–"}>
              {data.forecast.month.expected_usd ? band(data.forecast.month) : "three whole days of history are needed"}
            </Stat>
            <Stat name="Pipeline" value={<Pipeline status={data.pipeline.status} />}>
              {count(data.pipeline.unflushed_records)} durable and not in PostgreSQL yet
              {data.pipeline.unflushed_records > 0 && `, the oldest for ${duration(data.pipeline.oldest_unflushed_seconds)}`}; {count(data.pipeline.committed_since_start)} committed since the start
            </Stat>
          </div>
          {data.pipeline.message && <div class="problem wide" role="alert"><strong>{data.pipeline.status === "failing" ? "Somebody must act." : "It mends itself."}</strong><span>{data.pipeline.message}</span></div>}
          <Panel title="Days, and the 30 to come" wide note={`Forecast from ${data.forecast.history_days} days; the band is to hold ${data.forecast.interval_percent} times of 100.`}>
            <Answer of={forecast}>{(data) => <Days data={data} />}</Answer>
          </Panel>
          <Panel title="Budgets" action={<a href={link("budgets")}>All budgets</a>}>
            {data.budgets.length === 0
              ? <Empty>No budget is set. <a href={link("budgets")}>Set one</a>, and applications are told to hold back when it is used up.</Empty>
              : <BudgetList budgets={data.budgets} />}
          </Panel>
          <Panel title="What changed most" note="Seven days before today, against the seven before.">
            {data.movers.length === 0 ? <Empty>Nothing changed.</Empty> : <Movers rows={data.movers} />}
          </Panel>
          {data.unpriced.length > 0 && (
            <Panel title="Calls without a price" wide note="They are recorded, and in no sum. A price makes them count: tallyd reprice.">
              <Table label="Models without a price" rows={data.unpriced} row={(row) => `${row.provider}/${row.model}`} columns={[
                { title: "Model", cell: (row) => name(row) },
                { title: "Provider", cell: (row) => provider(row.provider), minor: true },
                { title: "Calls", number: true, cell: (row) => count(row.calls) },
                { title: "From", cell: (row) => day(row.first_day), minor: true },
                { title: "To", cell: (row) => day(row.last_day), minor: true },
                { title: "To do", cell: (row) => row.priceable ? <Badge kind="good">has a price now: reprice</Badge> : props.session.role === "admin" && <a href={link("prices", { add: 1, provider: row.provider, model: row.model })}>Add a price</a> },
              ]} />
            </Panel>
          )}
        </div>
      )}
    </Answer>
  );
}

function Pipeline(props: { status: "ok" | "degraded" | "failing" }) {
  const kind = { ok: "good", degraded: "warn", failing: "bad" } as const;
  const text = { ok: "Well", degraded: "Degraded", failing: "Failing" };
  return <Badge kind={kind[props.status]}>{text[props.status]}</Badge>;
}

function Days(props: { data: ForecastAnswer }) {
  const { past, ahead } = props.data;
  if (past.length === 0) return <Empty>Nothing has been recorded yet.</Empty>;
  const read = (text: string | null) => (text === null ? undefined : toNumber(usd(text)));
  const shown = past.slice(-45, -1).map((one) => ({ day: one.day, spent: toNumber(usd(one.cost_usd)) }));
  const coming = ahead.filter((one) => one.expected_usd !== null).map((one) => ({
    day: one.until,
    ...Object.fromEntries(Object.entries({ expected: read(one.expected_usd), low: read(one.low_usd), high: read(one.high_usd) }).filter(([, value]) => value !== undefined)),
  }));
  return <Outlook label="Cost a day, and the forecast of the next 30 days" points={[...shown, ...coming]} names={dayShort} />;
}

function Movers(props: { rows: Mover[] }) {
  return (
    <Table label="What changed most" rows={props.rows} row={(row) => `${row.provider}/${row.model}`} columns={[
      { title: "Model", cell: (row) => name(row) },
      { title: "Before", number: true, cell: (row) => money(row.previous_usd), minor: true },
      { title: "Now", number: true, cell: (row) => money(row.cost_usd) },
      { title: "Change", number: true, cell: (row) => change(row.cost_usd, row.previous_usd) ?? "new" },
    ]} />
  );
}
