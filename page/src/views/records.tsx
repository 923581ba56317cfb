// Single calls: searched in the call log, newest first, each opened with a press. The calls of one day are ordered by cost or
// latency, too.

import { useState } from "preact/hooks";
import { get } from "../api";
import { type Range, asRecords, filtersOf, path, rangeName, rangeOf } from "../filter";
import { Filters, RangePicker } from "../filterbar";
import { addDays, count, instant, seconds, sentence, today } from "../format";
import { useLive } from "../live";
import { parse } from "../money";
import { amend, href, useRoute } from "../route";
import { useSession } from "../session";
import type { Amendment, Dimensions, RecordRow, Records as Answer } from "../types";
import { Badge, Card, Choice, DownloadCsv, Empty, Head, Loaded, Money, Name } from "../ui/parts";
import { type Column, Pager, Table } from "../ui/table";
import { Correction, History } from "./correction";
import { inWords } from "./costs";

const ONLY = [["", "All"], ["errors", "Failed"], ["unpriced", "Unpriced"]] as const;
const SORTS = [["time", "Newest"], ["cost", "Dearest"], ["latency", "Slowest"]] as const;
const PAGE = 50;
/** The longest range of single calls, days. */
const DAYS_MAX = 31;

/** The address's filters, as the API's parameters. `hour` narrows the range to an hour. */
function parameters(query: URLSearchParams, range: Range, sort: string): Record<string, string | null> {
  const only = query.get("only");
  const hour = query.get("hour");
  const from = hour ?? range.from;
  return {
    from,
    to: hour ? new Date(Date.parse(hour) + 3_600_000).toISOString() : addDays(range.to, 1),
    sort: sort === "time" ? null : sort,
    request_id: query.get("request_id"),
    errors: only === "errors" ? "true" : null,
    unpriced: only === "unpriced" ? "true" : null,
  };
}

export function Records() {
  const { query } = useRoute();
  const { zone } = useSession();
  const now = today(zone);
  const name = rangeName(query);
  const wanted = rangeOf(name, query, now, addDays(now, 1 - DAYS_MAX));
  const earliest = addDays(wanted.to, 1 - DAYS_MAX);
  const range = wanted.from < earliest ? { from: earliest, to: wanted.to } : wanted;
  const oneDay = range.from === range.to;
  const sort = oneDay ? SORTS.find(([value]) => value === query.get("sort"))?.[0] ?? "time" : "time";
  const hour = query.get("hour");
  const filters = filtersOf(query);
  const [pages, setPages] = useState<{ key: string; cursors: string[] }>({ key: "", cursors: [] });
  const asked = (more: Record<string, string | number | null>) => path("/api/v1/records", { ...parameters(query, range, sort), ...more }, asRecords(filters));
  const key = asked({});
  const cursors = pages.key === key ? pages.cursors : [];
  const cursor = cursors[cursors.length - 1] ?? null;
  const live = useLive<Answer>(`records ${key} ${cursor}`, (signal) => get(asked({ cursor, limit: PAGE }), signal), cursor ? 60_000 : 5_000);
  const known = useLive<Dimensions>("dimensions", (signal) => get("/api/v1/dimensions", signal), 60_000);
  const tags = known.data?.dimensions.filter(({ group_by }) => group_by.startsWith("tag:")).map(({ name }) => name) ?? [];
  const barred = oneDay ? {} : { cost: "Choose one day", latency: "Choose one day" };
  const where = hour ? `${instant(hour, zone).slice(0, 16)}, one hour` : inWords(range);
  return (
    <>
      <Head title="Records" lead={`Single calls as stored: ${where}`} live={live}>
        <DownloadCsv path={asked({ format: "csv" })} />
      </Head>
      <div class="filters">
        <RangePicker query={query} range={wanted} today={now} />
        {oneDay && <span class="range"><button type="button" onClick={() => step(range.from, -1)}>Day before</button><button type="button" disabled={range.from >= now} onClick={() => step(range.from, 1)}>Day after</button></span>}
        <Choice label="Only" value={ONLY.find(([value]) => value === query.get("only"))?.[0] ?? ""} options={ONLY} onPick={(value) => amend({ only: value || null })} />
        <Choice label="Order" value={sort} options={SORTS} barred={barred} onPick={(value) => amend({ sort: value === "time" ? null : value })} />
        {!oneDay && <button type="button" onClick={() => amend({ days: null, from: range.to, to: range.to })}>One day</button>}
        {hour && <span class="chip"><span>hour: <strong>{instant(hour, zone).slice(11, 16)}</strong></span><button type="button" class="quiet" aria-label="Show the whole day" onClick={() => amend({ hour: null })}>✕</button></span>}
        <input class="short" type="search" aria-label="Request id" placeholder="Request id" value={query.get("request_id") ?? ""} onChange={(event) => amend({ request_id: event.currentTarget.value.trim() || null })} />
        <Filters query={query} range={range} tags={tags} />
      </div>
      {wanted.from < earliest && <p class="notice slim">Single calls are shown for {DAYS_MAX} days at most: these are the last of the chosen range.</p>}
      <Loaded live={live} rows={10}>
        {(data) => data.records.length === 0 ? (
          <Empty title="No calls match">{data.note ? `${sentence(data.note)}.` : "Fields must match completely. Extend the range, or remove a filter."}</Empty>
        ) : (
          <Card>
            <List rows={data.records} amendments={data.amendments} onChanged={() => live.reload()} />
            <Pager text={`${count(cursors.length * PAGE + 1)}–${count(cursors.length * PAGE + data.records.length)}`}
              onBack={cursors.length === 0 ? undefined : () => setPages({ key, cursors: cursors.slice(0, -1) })}
              onNext={data.next === null ? undefined : () => setPages({ key, cursors: [...cursors, data.next!] })} />
          </Card>
        )}
      </Loaded>
    </>
  );
}

const step = (day: string, by: number) => amend({ days: null, from: addDays(day, by), to: addDays(day, by), hour: null });

function List({ rows, amendments, onChanged }: { rows: RecordRow[]; amendments: Amendment[]; onChanged: () => void }) {
  const { zone } = useSession();
  const [open, setOpen] = useState<string | null>(null);
  const [said, setSaid] = useState<string | null>(null);
  const changeOf = (row: RecordRow) => amendments.find((one) => one.call_id === row.id && one.occurred_at === row.occurred_at);
  const changed = (text: string) => {
    setOpen(null);
    setSaid(text);
    onChanged();
  };
  const columns: Column<RecordRow>[] = [
    { key: "when", label: "When", cell: (row) => <button type="button" class="sort when" aria-expanded={open === row.id} onClick={() => setOpen(open === row.id ? null : row.id)}>{instant(row.occurred_at, zone)}</button> },
    { key: "what", label: "Call", cell: (row) => <What row={row} change={changeOf(row)} /> },
    { key: "user", label: "User", wide: true, cell: (row) => (row.user_id ? <a href={href("users", {}, row.user_id)}><Name text={row.user_id} /></a> : "—") },
    { key: "app", label: "App", wide: true, cell: (row) => row.app || "—" },
    { key: "status", label: "Status", cell: (row) => <Badge tone={row.status >= 400 ? "bad" : "good"}>{row.status}</Badge> },
    { key: "tokens", label: "Tokens", number: true, wide: true, cell: (row) => count(row.input_tokens + row.output_tokens + row.cache_read_tokens + row.cache_write_5m_tokens + row.cache_write_1h_tokens) },
    { key: "latency", label: "Took", number: true, wide: true, cell: (row) => (row.latency_ms === null ? "—" : seconds(row.latency_ms / 1000)) },
    { key: "cost", label: "Cost", number: true, cell: (row) => <Cost row={row} change={changeOf(row)} /> },
  ];
  const detail = (row: RecordRow) => <><Detail row={row} change={changeOf(row)} /><Correction key={row.id} row={row} onChanged={changed} /></>;
  return (
    <>
      {said && <p class="notice good" role="status">{said}</p>}
      <Table caption="Calls" columns={columns} rows={rows} id={(row) => row.id} open={open} detail={detail} />
    </>
  );
}

/** Provider and model, or endpoint. A voided call is struck through, with its reason. */
function What({ row, change }: { row: RecordRow; change: Amendment | undefined }) {
  const name = <>{row.provider} <span class="fine">{row.model || row.endpoint}</span></>;
  if (!change) return <span>{name}</span>;
  return <span>{change.kind === "voided" ? <s>{name}</s> : name} <Badge tone="warn">{change.kind}</Badge> <span class="fine breaks">{change.reason}</span></span>;
}

/** The cost of an abandoned stream is incomplete. */
function Cost({ row, change }: { row: RecordRow; change: Amendment | undefined }) {
  if (change?.kind === "voided") return <s>{change.before.cost_usd === null ? "unpriced" : <Money amount={parse(change.before.cost_usd)} decimals={6} />}</s>;
  if (row.cost_usd === null) return <Badge tone="warn">unpriced</Badge>;
  const money = <Money amount={parse(row.cost_usd)} decimals={6} />;
  return row.metadata?.["incomplete"] === true ? <span><Badge tone="warn">incomplete</Badge> {money}</span> : money;
}

/** Why a call has no cost. */
function unpriced(row: RecordRow): string {
  const name = row.metadata?.["tallyd.not_understood"];
  return name === undefined ? "no price is known" : `unpriced: ${String(name)} was not understood`;
}

/** Where a cost comes from. */
function source(row: RecordRow): string {
  if (row.cost_source === "client") return "as the application said";
  return row.price_id === null ? row.cost_source : `by price ${row.price_id}`;
}

function Detail({ row, change }: { row: RecordRow; change: Amendment | undefined }) {
  const tokens = [["input", row.input_tokens], ["output", row.output_tokens], ["cache read", row.cache_read_tokens], ["cache write 5 m", row.cache_write_5m_tokens], ["cache write 1 h", row.cache_write_1h_tokens]] as const;
  const facts: [string, string][] = [
    ["Id", row.id],
    ["Endpoint", row.endpoint || "—"],
    ["Model", row.model || "—"],
    ["User, app", `${row.user_id || "—"}, ${row.app || "—"}`],
    ["Provider’s id", row.request_id || "—"],
    ["Tokens", tokens.filter(([, value]) => value > 0).map(([name, value]) => `${count(value)} ${name}`).join(", ") || "—"],
    ["Requests", count(row.requests)],
    ["Service tier", row.service_tier],
    ["Cost", row.cost_usd === null ? unpriced(row) : `$${row.cost_usd}, ${source(row)}`],
  ];
  if (row.extra_units) facts.push(["Other units", JSON.stringify(row.extra_units)]);
  if (row.tags) facts.push(["Tags", Object.entries(row.tags).map(([name, value]) => `${name}: ${value}`).join(", ")]);
  if (row.metadata) facts.push(["Metadata", JSON.stringify(row.metadata)]);
  return (
    <dl class="facts">
      {facts.map(([name, value]) => [<dt key={name}>{name}</dt>, <dd key={`${name} value`}>{value}</dd>])}
      <History row={row} last={change} />
    </dl>
  );
}
