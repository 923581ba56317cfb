// Recent records, searched.

import { useState } from "preact/hooks";
import { url } from "../api";
import { count, instant, provider } from "../format";
import { useLive } from "../live";
import type { ViewProps } from "../main";
import { money } from "../money";
import { change, link } from "../route";
import type { Records, UsageRecord } from "../types";
import { Answer, Badge, Choice, Dialog, Empty, Panel, Search, Table } from "../ui";

const LIMIT = 100;
const SPANS: [string, string][] = [["1", "A day"], ["7", "A week"], ["31", "31 days"]];
const WHICH: [string, string][] = [["", "All"], ["errors", "Failed"], ["unpriced", "Unpriced"]];

export function RecordsView(props: ViewProps) {
  const { route } = props;
  const value = (name: string) => route.query.get(name) ?? "";
  const [span, which] = [value("span") || "1", value("which")];
  const [shown, setShown] = useState<UsageRecord>();
  // To the minute, so that the question stays the same while it is asked again.
  const from = new Date(Math.floor((Date.now() - Number(span) * 86_400_000) / 60_000) * 60_000).toISOString();
  const [begin] = useState(() => new Map<string, string>());
  if (!begin.has(span)) begin.set(span, from);
  const filter = {
    from: begin.get(span), model: value("model"), user_id: value("user_id"), request_id: value("request_id"), cursor: value("cursor"),
    ...(which === "errors" ? { errors: true } : {}), ...(which === "unpriced" ? { unpriced: true } : {}),
  };
  const answer = useLive<Records>(url("/api/v1/records", { ...filter, limit: LIMIT }), 5);
  const set = (changes: Record<string, string | undefined>) => change(route, { cursor: undefined, ...changes });
  return (
    <>
      <div class="controls">
        <Choice label="Since" value={span} options={SPANS} set={(span) => set({ span })} />
        <Choice label="Which" value={which} options={WHICH} set={(which) => set({ which })} />
        <Search label="Model" value={value("model")} set={(model) => set({ model })} />
        <Search label="User's id" value={value("user_id")} set={(user_id) => set({ user_id })} />
        <Search label="Request id" value={value("request_id")} set={(request_id) => set({ request_id })} />
        <a class="button" href={url("/api/v1/records", { ...filter, cursor: undefined, format: "csv" })} download>CSV</a>
      </div>
      <Answer of={answer} lines={10}>
        {(data) => (
          <Panel wide title={value("cursor") ? "Earlier records" : "Newest records"} note="Times are those of this browser. Names are matched as a whole.">
            {data.records.length === 0 ? <Empty>No record of that kind in this time.</Empty> : (
              <Table label="Records" rows={data.records} row={(row) => row.id} columns={[
                { title: "Time", cell: (row) => <button type="button" class="sort" onClick={() => setShown(row)}><time dateTime={row.occurred_at}>{instant(row.occurred_at)}</time></button> },
                { title: "Model", cell: (row) => row.model || provider(row.provider) },
                { title: "Endpoint", cell: (row) => row.endpoint, minor: true },
                { title: "User", cell: (row) => row.user_id && <a href={link("users", {}, row.user_id)}>{row.user_id}</a>, minor: true },
                { title: "Status", number: true, cell: (row) => (row.status >= 400 ? <Badge kind="bad">{row.status}</Badge> : row.status), minor: true },
                { title: "Tokens", number: true, cell: (row) => count(row.input_tokens + row.output_tokens + row.cache_read_tokens + row.cache_write_5m_tokens + row.cache_write_1h_tokens), minor: true },
                { title: "Cost", number: true, cell: (row) => (row.cost_usd === null ? <Badge kind="warn">no price</Badge> : <span title={`${row.cost_usd} USD`}>{money(row.cost_usd, 6)}</span>) },
              ]} />
            )}
            <div class="pages">
              <button type="button" disabled={!value("cursor")} onClick={() => set({})}>Newest</button>
              <button type="button" disabled={data.next === null} onClick={() => change(route, { cursor: data.next ?? undefined })}>Earlier</button>
            </div>
          </Panel>
        )}
      </Answer>
      {shown && (
        <Dialog title="A record" close={() => setShown(undefined)}>
          <dl class="facts">
            {Object.entries(shown).filter(([, value]) => value !== null && value !== "").map(([name, value]) => (
              <div key={name}><dt>{name}</dt><dd>{typeof value === "object" ? JSON.stringify(value) : String(value)}</dd></div>
            ))}
          </dl>
        </Dialog>
      )}
    </>
  );
}
