// Reports of a day, a week or a month: the same figures that the routes of `[reports]` get.

import { get, url } from "../api";
import { addDays, count, longDay, month, noun, percentage, short, shortDay, today } from "../format";
import { useLive } from "../live";
import { pick } from "../measures";
import { type Attos, parse, usd } from "../money";
import { amend, href, useRoute } from "../route";
import { useSession } from "../session";
import type { Report, ReportMover } from "../types";
import { CostChange, ShareChange, countChange } from "../ui/change";
import { Card, Choice, Cost, Empty, Head, Loaded, Money, Name, PrintButton, Tile, lacking } from "../ui/parts";
import { Table } from "../ui/table";

const PERIODS = [["day", "Day"], ["week", "Week"], ["month", "Month"]] as const;

function title({ period, first, last }: Report): string {
  if (period === "day") return longDay(first);
  return period === "month" ? month(first) : `${shortDay(first)} to ${shortDay(last)}, ${last.slice(0, 4)}`;
}

export function Reports() {
  const { query } = useRoute();
  const { zone } = useSession();
  const period = pick(PERIODS, query.get("period"), "week");
  const of = query.get("of");
  const path = url("/api/v1/report", { period, of });
  const live = useLive<Report>(path, (signal) => get(path, signal), 60_000);
  const now = today(zone);
  const report = live.data;
  const next = report && addDays(report.last, 1);
  return (
    <>
      <Head title="Reports" lead={report ? title(report) : "The spend of a day, a week or a month"} live={live}><PrintButton /></Head>
      <div class="filters">
        <Choice label="Period" value={period} options={PERIODS} onPick={(value) => amend({ period: value === "week" ? null : value, of: null })} />
        <button type="button" disabled={!report} onClick={() => report && amend({ of: report.before_first })}>Before</button>
        <button type="button" disabled={next === null || next > now} onClick={() => amend({ of: next })}>After</button>
        <label class="inline">Day in it <input type="date" value={of ?? report?.first ?? ""} max={now} onChange={(event) => amend({ of: event.currentTarget.value || null })} /></label>
      </div>
      <Loaded live={live} rows={7}>{(found) => <Found report={found} now={now} />}</Loaded>
    </>
  );
}

function Found({ report, now }: { report: Report; now: string }) {
  const { total, before } = report;
  const range = { from: report.first, to: report.last };
  const was = `${shortDay(report.before_first)}${report.period === "day" ? "" : ` to ${shortDay(addDays(report.first, -1))}`}`;
  if (total.calls === 0 && before.calls === 0) return <Empty title={`No calls in this ${report.period}, nor in the one before`}>Choose another {report.period}.</Empty>;
  const share = (errors: number, calls: number) => percentage(calls > 0 ? (100 * errors) / calls : null);
  return (
    <>
      <p class="compared">
        Compared with {was}: {usd(parse(before.cost_usd))}{before.unpriced_calls > 0 && `, ${lacking(before.unpriced_calls)}`}. {report.last >= now && `This ${report.period} is not over yet. `}
        <a href={href("costs", { days: null, ...range })}>Costs of these days</a>. Reports of finished periods are <a href="/docs/guide/alerts.html#send-reports">sent to routes</a>.
      </p>
      <div class="tiles">
        <Tile label="Cost" value={<Cost amount={parse(total.cost_usd)} unpriced={total.unpriced_calls} short />} note={<><CostChange now={parse(total.cost_usd)} before={parse(before.cost_usd)} long /> {lacking(total.unpriced_calls)}</>} />
        <Tile label="Calls" value={count(total.calls)} note={countChange(total.calls, before.calls)} />
        <Tile label="Failed calls" value={share(total.errors, total.calls)} note={`before: ${share(before.errors, before.calls)}`} />
        <Tile label="Tokens" value={short(total.tokens)} note={countChange(total.tokens, before.tokens)} />
      </div>
      {report.movers.some(({ movers }) => movers.length > 0) && (
        <div class="columns pairs">
          {report.movers.filter(({ movers }) => movers.length > 0).map((one) => <Movers key={one.by} by={one.by} movers={one.movers} wholeFrom={one.whole_from} range={range} />)}
        </div>
      )}
      <div class="columns">
        {report.budgets.length > 0 && (
          <Card title="Budgets" tools={<a href={href("budgets")}>All budgets</a>}>
            <Table caption="Budgets" rows={report.budgets} id={({ name }) => name} columns={[
              { key: "name", label: "Budget", cell: ({ name }) => name },
              { key: "spent", label: "Spent", number: true, cell: (row) => <span class="money">{usd(parse(row.spent_usd), 2)} <span class="fine">of {usd(parse(row.amount_usd), 2)}</span></span> },
              { key: "used", label: "Used", number: true, cell: (row) => <span class={Number(row.used_percent) >= 100 ? "up" : undefined}>{percentage(Number(row.used_percent))}</span> },
              { key: "forecast", label: "Forecast", number: true, wide: true, cell: ({ forecast_usd }) => (forecast_usd === null ? <span class="none">—</span> : <Money amount={parse(forecast_usd)} decimals={2} />) },
            ]} />
            <p class="footnote">Each in its current period.</p>
          </Card>
        )}
        {report.closings.length > 0 && (
          <Card title="Vendor bills" tools={<a href={href("bills")}>All days</a>}>
            <Table caption="Vendor bills" rows={report.closings} id={({ vendor }) => vendor} columns={[
              { key: "vendor", label: "Vendor", cell: ({ vendor }) => vendor },
              { key: "closed", label: "Closed", number: true, cell: ({ matched, differs, open }) => `${count(matched + differs)} of ${count(matched + differs + open)}` },
              { key: "differs", label: "Differ", number: true, cell: ({ differs }) => count(differs) },
              { key: "difference", label: "By", number: true, cell: ({ difference_usd }) => <Money amount={parse(difference_usd)} decimals={2} /> },
              { key: "parts", label: "Why", wide: true, cell: ({ parts }) => parts.map((part) => part.replaceAll("_", " ")).join(", ") || "—" },
            ]} />
          </Card>
        )}
        {report.unpriced.length > 0 && (
          <Card title="Unpriced calls" tools={<a href={href("prices")}>Prices</a>}>
            <Table caption="Unpriced calls by model" rows={report.unpriced} id={(row) => `${row.provider} ${row.model}`} columns={[
              { key: "model", label: "Model", cell: (row) => <span>{row.model || "every call"} <span class="fine">{row.provider}</span></span> },
              { key: "calls", label: "Calls", number: true, cell: (row) => count(row.calls) },
            ]} />
            <p class="footnote">{noun(total.unpriced_calls, "call is", "calls are")} not in these sums.</p>
          </Card>
        )}
      </div>
    </>
  );
}

/** The address of a mover's dimension: tags have their names alone in a report. */
const dimensionOf = (by: string): string => (["model", "user", "app"].includes(by) ? by : `tag:${by}`);

function Movers(props: { by: string; movers: ReportMover[]; wholeFrom: string | null; range: { from: string; to: string } }) {
  const { by, movers, range } = props;
  const of = (row: ReportMover): [Attos, Attos] => [parse(row.cost_usd), parse(row.before_usd)];
  return (
    <Card title={`Top movers by ${by}`} tools={<a href={href("costs", { days: null, ...range, by: dimensionOf(by), table: "movers" })}>All</a>}>
      <Table caption={`Top movers by ${by}`} rows={movers} id={({ name }) => name} columns={[
        { key: "name", label: by.charAt(0).toUpperCase() + by.slice(1), cell: ({ name }) => <a href={href("costs", { days: null, ...range, [dimensionOf(by)]: name })}><Name text={name || `(no ${by})`} /></a> },
        { key: "now", label: "Cost", number: true, cell: (row) => <Money amount={of(row)[0]} decimals={2} /> },
        { key: "change", label: "Change", number: true, cell: (row) => <CostChange now={of(row)[0]} before={of(row)[1]} /> },
        { key: "percent", label: "%", number: true, wide: true, cell: (row) => <ShareChange now={of(row)[0]} before={of(row)[1]} /> },
      ]} />
      {props.wholeFrom && <p class="footnote">The days before {props.wholeFrom} are not whole.</p>}
    </Card>
  );
}
