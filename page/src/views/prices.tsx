// Prices: those in force, and adding one after a preview of its impact.

import { useState } from "preact/hooks";
import { get, url } from "../api";
import { addDays, count, instant, noun, today } from "../format";
import { useLive } from "../live";
import { amend, useRoute } from "../route";
import { useSession } from "../session";
import type { PriceRow } from "../types";
import { Badge, Card, Choice, DownloadCsv, Empty, Head, Loaded } from "../ui/parts";
import { pickColumn, useSelection } from "../ui/select";
import { type Column, Table } from "../ui/table";
import { type Added, type Draft, PriceEditor } from "./price";
import { Reprice, type Scope } from "./reprice";

interface Found {
  prices: PriceRow[];
  unpriced: { provider: string; model: string; calls: number; first_day: string; priceable: boolean }[];
}

async function load(all: boolean, signal: AbortSignal): Promise<Found> {
  const [{ prices }, { models }] = await Promise.all([
    get<{ prices: PriceRow[] }>(url("/api/v1/prices", all ? { limit: 10_000 } : { in_force: true }), signal),
    get<{ models: Found["unpriced"] }>("/api/v1/unpriced", signal),
  ]);
  return { prices, unpriced: models };
}

const BUCKETS = [["input", "Input"], ["output", "Output"], ["cache_read", "Cache read"], ["cache_write_5m", "Write 5 min"], ["cache_write_1h", "Write 1 h"]] as const;
const SHOW = [["now", "In force"], ["all", "All"]] as const;

export function Prices() {
  const { query } = useRoute();
  const { zone, mayChange } = useSession();
  const show = query.get("show") === "all" ? "all" : "now";
  const live = useLive<Found>(`prices ${show}`, (signal) => load(show === "all", signal), 5_000);
  const [draft, setDraft] = useState<Draft | null>(null);
  const [done, setDone] = useState<string | null>(null);
  const [added, setAdded] = useState<Added | null>(null);
  const [scopes, setScopes] = useState<Scope[] | null>(null);
  const search = (query.get("search") ?? "").toLowerCase();
  const providers = [...new Set(live.data?.prices.map((row) => row.provider))].sort();
  const provider = query.get("provider") ?? "";
  const columns: Column<PriceRow>[] = [
    { key: "model", label: "Model", cell: (row) => <span class="price-name">{row.model || "every call"} <span class="fine">{row.provider}{row.service_tier === "standard" ? "" : `, ${row.service_tier}`}{planName(row)}</span></span> },
    ...BUCKETS.map(([bucket, label], at): Column<PriceRow> => ({ key: bucket, label, number: true, wide: at > 1, cell: (row) => <Rate value={row.rates.per_million_tokens?.[bucket]} /> })),
    { key: "units", label: "Per unit", wide: true, cell: (row) => <span class="fine">{Object.entries(row.rates.per_unit ?? {}).map(([unit, rate]) => `${unit} $${rate}`).join(", ")}{row.rates.above?.length ? " · more for large prompts" : ""}</span> },
    { key: "from", label: "Effective from", wide: true, cell: (row) => <span class="when">{row.effective_from.startsWith("1970") ? "always" : instant(row.effective_from, zone).slice(0, 10)}</span> },
    { key: "origin", label: "Source", wide: true, cell: (row) => <Badge tone={row.origin === "builtin" ? "plain" : "good"}>{row.origin === "builtin" ? "built-in" : row.origin}</Badge> },
  ];
  if (mayChange) columns.push({ key: "edit", label: <span class="hidden">Edit</span>, number: true, cell: (row) => <button type="button" aria-label={`Edit the price of ${row.model || row.provider}, ${row.service_tier}`} onClick={() => setDraft(draftOf(row))}>Edit</button> });
  return (
    <>
      <Head title="Prices" lead="USD per million tokens, or per unit. A price applies from an instant on; stored calls keep their cost." live={live}>
        <DownloadCsv path={url("/api/v1/prices", { format: "csv" })} />
        {mayChange && <button type="button" class="button" onClick={() => setScopes([{ provider: "", model: "", from: addDays(today(zone), -29) }])}>Reprice…</button>}
        {mayChange && <button type="button" class="primary" onClick={() => setDraft({ provider: "", model: "", service_tier: "standard", tokens: {}, units: {} })}>Add a price</button>}
      </Head>
      {done && <p class="notice good" role="status">{done}</p>}
      {added && (
        <div class="notice good" role="status">
          <span>The price of {added.model || added.provider} was added. Later calls are priced with it; recorded ones keep their cost until they are repriced.</span>
          <button type="button" onClick={() => setScopes([scopeOf(added)])}>Reprice its calls…</button>
        </div>
      )}
      <form class="filters" role="search" onSubmit={(event) => event.preventDefault()}>
        <Choice label="Prices" value={show} options={SHOW} onPick={(value) => amend({ show: value === "now" ? null : value })} />
        <Choice label="Provider" value={provider} options={[["", "All"], ...providers.map((name) => [name, name] as const)]} onPick={(value) => amend({ provider: value || null })} />
        <input type="search" aria-label="Search prices" placeholder="Model or provider" value={query.get("search") ?? ""} onInput={(event) => amend({ search: event.currentTarget.value || null }, "replace")} />
      </form>
      <Loaded live={live} rows={10}>
        {(data) => {
          const rows = data.prices.filter((row) => provider === "" || row.provider === provider).filter((row) => `${row.provider} ${row.model} ${row.service_tier}`.toLowerCase().includes(search));
          return (
            <>
              {data.unpriced.length > 0 && <UnpricedCalls models={data.unpriced} mayChange={mayChange} onSet={setDraft} onReprice={setScopes} />}
              {rows.length === 0 ? <Empty title="No price matches">Search by a part of the model’s name.</Empty> : <Card><Table caption="Prices" columns={columns} rows={rows} id={(row) => String(row.id)} /></Card>}
            </>
          );
        }}
      </Loaded>
      {draft && <PriceEditor draft={draft} onClose={() => setDraft(null)} onSaved={(next) => { setDraft(null); setDone(null); setAdded(next); live.reload(); }} />}
      {scopes && <Reprice scopes={scopes} onClose={() => setScopes(null)} onDone={(text) => { setScopes(null); setAdded(null); setDone(text); live.reload(); }} />}
    </>
  );
}

/** The calls that a new price applies to, from the day before, for every time zone; at least a month, to have some. */
function scopeOf({ provider, model, effective_from }: Added): Scope {
  const month = new Date(Date.now() - 30 * 86_400_000).toISOString();
  return { provider, model, from: addDays((effective_from < month ? effective_from : month).slice(0, 10), -1) };
}

type Unpriced = Found["unpriced"][number];
const idOf = ({ provider, model }: Unpriced): string => `${provider} ${model}`;

/** Models with unpriced calls: a price is set for one, and all or some that have one by now are repriced. */
function UnpricedCalls(props: { models: Unpriced[]; mayChange: boolean; onSet: (draft: Draft) => void; onReprice: (scopes: Scope[]) => void }) {
  const { models, mayChange } = props;
  const ready = models.filter((model) => model.priceable);
  const ids = ready.map(idOf);
  const selection = useSelection(ids);
  const picked = ready.filter((model) => selection.has(idOf(model)));
  // Sums beyond the bound of models a day name none: then all calls of the provider are looked at.
  const reprice = (some: Unpriced[]) => props.onReprice(some.map(({ provider, model, first_day }) => ({ provider, model: model === "(other)" ? "" : model, from: first_day })));
  const draft = (model: Unpriced): Draft => ({ provider: model.provider, model: model.model, service_tier: "standard", tokens: {}, units: {}, from: dayBefore(model.first_day) });
  const columns: Column<Unpriced>[] = [
    { key: "model", label: "Model", cell: (model) => <span class="breaks">{model.model || "every call"} <span class="fine">{model.provider}</span></span> },
    { key: "calls", label: "Calls", number: true, cell: (model) => count(model.calls) },
    { key: "since", label: "Since", wide: true, cell: (model) => <span class="when">{model.first_day}</span> },
    { key: "state", label: "State", cell: (model) => (model.priceable ? <Badge tone="good">has a price now</Badge> : <Badge tone="warn">unknown</Badge>) },
  ];
  if (mayChange) {
    if (ready.length > 0) columns.unshift(pickColumn(selection, ids, idOf, (model) => model.model || model.provider));
    columns.push({ key: "set", label: <span class="hidden">Decide</span>, number: true, cell: (model) => (model.priceable
      ? <button type="button" aria-label={`Reprice ${model.model || model.provider}`} onClick={() => reprice([model])}>Reprice…</button>
      : <button type="button" aria-label={`Set a price of ${model.model || model.provider}`} onClick={() => props.onSet(draft(model))}>Set a price</button>) });
  }
  const tools = mayChange && ready.length > 1
    ? <button type="button" onClick={() => reprice(picked.length > 0 ? picked : ready)}>Reprice {picked.length > 0 ? noun(picked.length, "model", "models") : `all ${count(ready.length)} that have a price`}…</button>
    : <span class="fine">not in any total</span>;
  return (
    <Card title="Unpriced calls" tools={tools}>
      <Table caption="Unpriced calls by model" rows={models} id={idOf} columns={columns} />
    </Card>
  );
}

/** The midnight before a day, for the form: a day of the reporting time zone may begin earlier than the browser's. */
function dayBefore(day: string): string {
  return `${new Date(Date.parse(day) - 86_400_000).toISOString().slice(0, 10)}T00:00`;
}

function planName(row: PriceRow): string {
  const plan = row.rates.plan;
  return plan && typeof plan === "object" && "name" in plan ? `, plan ${String(plan.name)}` : typeof plan === "string" ? `, plan ${plan}` : "";
}

function draftOf(row: PriceRow): Draft {
  return { provider: row.provider, model: row.model, service_tier: row.service_tier, tokens: { ...row.rates.per_million_tokens }, units: { ...row.rates.per_unit }, above: row.rates.above };
}

/** A rate with its decimal point lined up: two decimals, and further digits. */
function Rate({ value }: { value: string | undefined }) {
  if (value === undefined) return <span class="none">—</span>;
  const [whole = "0", fraction = ""] = value.split(".");
  const shown = fraction.padEnd(2, "0").padEnd(4, "\u2007");
  return <span class="money">${whole}.{shown.slice(0, 2)}<span class="fine pre">{shown.slice(2)}</span></span>;
}
