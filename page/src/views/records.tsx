// Single calls: searched in the call log, newest first, each opened with a press.

import { useState } from "preact/hooks";
import { get, url } from "../api";
import { count, instant, seconds, sentence } from "../format";
import { useLive } from "../live";
import { parse } from "../money";
import { amend, href, useRoute } from "../route";
import { useSession } from "../session";
import type { RecordRow, Records as Answer } from "../types";
import { Badge, Card, Choice, DownloadCsv, Empty, Head, Loaded, Money } from "../ui/parts";
import { type Column, Table } from "../ui/table";

const SPANS = [["1", "24 hours"], ["7", "7 days"], ["31", "31 days"]] as const;
const FIELDS = [["provider", "Provider"], ["model", "Model"], ["endpoint", "Endpoint"], ["user_id", "User"], ["app", "App"], ["request_id", "Request id"]] as const;
const ONLY = [["", "All"], ["errors", "Failed"], ["unpriced", "Unpriced"]] as const;
const PAGE = 50;

/** The address' filters, as the API's parameters. */
function parameters(query: URLSearchParams, days: string): Record<string, string | number | null> {
  const from = new Date(Date.now() - Number(days) * 86_400_000).toISOString();
  const only = query.get("only");
  return {
    // To the minute, so that the same request has the same answer for a while.
    from: `${from.slice(0, 16)}:00Z`,
    ...Object.fromEntries(FIELDS.map(([name]) => [name, query.get(name)])),
    errors: only === "errors" ? "true" : null,
    unpriced: only === "unpriced" ? "true" : null,
  };
}

export function Records() {
  const { query } = useRoute();
  const days = SPANS.find(([value]) => value === query.get("days"))?.[0] ?? "1";
  const [pages, setPages] = useState<{ key: string; cursors: string[] }>({ key: "", cursors: [] });
  const asked = parameters(query, days);
  const key = query.toString();
  const cursors = pages.key === key ? pages.cursors : [];
  const cursor = cursors[cursors.length - 1] ?? null;
  const live = useLive<Answer>(`records ${key} ${cursor}`, (signal) => get(url("/api/v1/records", { ...parameters(query, days), cursor, limit: PAGE }), signal), cursor ? 60_000 : 5_000);
  const set = (name: string) => (event: Event) => amend({ [name]: (event.currentTarget as HTMLInputElement).value.trim() || null });
  return (
    <>
      <Head title="Records" lead="Single calls as stored." live={live}>
        <DownloadCsv path={url("/api/v1/records", { ...asked, format: "csv" })} />
      </Head>
      <form class="filters" role="search" onSubmit={(event) => event.preventDefault()}>
        <Choice label="From" value={days} options={SPANS} onPick={(value) => amend({ days: value === "1" ? null : value })} />
        <Choice label="Only" value={ONLY.find(([value]) => value === query.get("only"))?.[0] ?? ""} options={ONLY} onPick={(value) => amend({ only: value || null })} />
        {FIELDS.map(([name, label]) => <input key={name} class="short" type="search" aria-label={label} placeholder={label} value={query.get(name) ?? ""} onChange={set(name)} />)}
      </form>
      <Loaded live={live} rows={10}>
        {(data) => data.records.length === 0 ? (
          <Empty title="No calls match">{data.note ? `${sentence(data.note)}.` : "Fields must match completely. Extend the range, or remove a filter."}</Empty>
        ) : (
          <Card>
            <List rows={data.records} />
            <nav class="pager" aria-label="Pages">
              <span>{count(cursors.length * PAGE + 1)}–{count(cursors.length * PAGE + data.records.length)}</span>
              <span>
                <button type="button" disabled={cursors.length === 0} onClick={() => setPages({ key, cursors: cursors.slice(0, -1) })}>Newer</button>
                <button type="button" disabled={data.next === null} onClick={() => data.next && setPages({ key, cursors: [...cursors, data.next] })}>Older</button>
              </span>
            </nav>
          </Card>
        )}
      </Loaded>
    </>
  );
}

function List({ rows }: { rows: RecordRow[] }) {
  const { zone } = useSession();
  const [open, setOpen] = useState<string | null>(null);
  const columns: Column<RecordRow>[] = [
    { key: "when", label: "When", cell: (row) => <button type="button" class="sort when" aria-expanded={open === row.id} onClick={() => setOpen(open === row.id ? null : row.id)}>{instant(row.occurred_at, zone)}</button> },
    { key: "what", label: "Call", cell: (row) => <span>{row.provider} <span class="fine">{row.model || row.endpoint}</span></span> },
    { key: "user", label: "User", wide: true, cell: (row) => (row.user_id ? <a href={href("users", {}, row.user_id)}>{row.user_id}</a> : "—") },
    { key: "app", label: "App", wide: true, cell: (row) => row.app || "—" },
    { key: "status", label: "Status", cell: (row) => <Badge tone={row.status >= 400 ? "bad" : "good"}>{row.status}</Badge> },
    { key: "tokens", label: "Tokens", number: true, wide: true, cell: (row) => count(row.input_tokens + row.output_tokens + row.cache_read_tokens + row.cache_write_5m_tokens + row.cache_write_1h_tokens) },
    { key: "latency", label: "Took", number: true, wide: true, cell: (row) => (row.latency_ms === null ? "—" : seconds(row.latency_ms / 1000)) },
    { key: "cost", label: "Cost", number: true, cell: (row) => <Cost row={row} /> },
  ];
  return <Table caption="Calls" columns={columns} rows={rows} id={(row) => row.id} open={open} detail={(row) => <Detail row={row} />} />;
}

/** The cost of an abandoned stream is incomplete. */
function Cost({ row }: { row: RecordRow }) {
  if (row.cost_usd === null) return <Badge tone="warn">unpriced</Badge>;
  const money = <Money amount={parse(row.cost_usd)} decimals={6} />;
  return row.metadata?.["incomplete"] === true ? <span><Badge tone="warn">incomplete</Badge> {money}</span> : money;
}

/** Why a call has no cost. */
function unpriced(row: RecordRow): string {
  const name = row.metadata?.["tallyd.not_understood"];
  return name === undefined ? "no price is known" : `unpriced: ${String(name)} was not understood`;
}

function Detail({ row }: { row: RecordRow }) {
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
    ["Cost", row.cost_usd === null ? unpriced(row) : `$${row.cost_usd}, ${row.cost_source === "client" ? "as the application said" : `by price ${row.price_id}`}`],
  ];
  if (row.extra_units) facts.push(["Other units", JSON.stringify(row.extra_units)]);
  if (row.tags) facts.push(["Tags", Object.entries(row.tags).map(([name, value]) => `${name}: ${value}`).join(", ")]);
  if (row.metadata) facts.push(["Metadata", JSON.stringify(row.metadata)]);
  return <dl class="facts">{facts.map(([name, value]) => [<dt key={name}>{name}</dt>, <dd key={`${name} value`}>{value}</dd>])}</dl>;
}
