// Prices: all that are known, and adding one with a look at what it would change.

import type { TargetedSubmitEvent } from "preact";
import { useState } from "preact/hooks";
import { send, url } from "../api";
import { count, day, provider } from "../format";
import { useLive } from "../live";
import type { ViewProps } from "../main";
import { money } from "../money";
import { change } from "../route";
import type { Price, PricePreview, Prices, Rates } from "../types";
import { Answer, Badge, Dialog, Empty, Field, Panel, Problem, Search, Sure, Table, useAction } from "../ui";

const BUCKETS: [string, string][] = [["input", "Input"], ["output", "Output"], ["cache_read", "Cache read"], ["cache_write_5m", "Cache write, 5 min"], ["cache_write_1h", "Cache write, 1 h"]];
const ORIGINS: Record<Price["origin"], string> = { builtin: "built in", config: "configuration", manual: "added", import: "imported", api: "added" };

function rate(rates: Rates | null, bucket: string): string {
  return rates?.per_million_tokens?.[bucket] ?? "";
}

function units(rates: Rates | null): string {
  return Object.entries(rates?.per_unit ?? {}).map(([unit, usd]) => `${unit.replace("_", " ")} ${usd}`).join(", ");
}

export function PricesView(props: ViewProps) {
  const { route } = props;
  const search = route.query.get("search") ?? "";
  const answer = useLive<Prices>(url("/api/v1/prices", { limit: 10_000 }), 30);
  const adding = route.query.get("add") === "1";
  const [base, setBase] = useState<Price>();
  const action = useAction();
  const admin = props.session.role === "admin";
  const close = () => {
    setBase(undefined);
    if (adding) change(route, { add: undefined, provider: undefined, model: undefined });
  };
  const withdraw = (price: Price) => void action.run(async () => {
    await send("DELETE", `/api/v1/prices/${price.id}`);
    answer.refresh();
  });
  const shown = (prices: Price[]) => prices.filter((price) => `${price.provider} ${price.model} ${price.service_tier}`.toLowerCase().includes(search.toLowerCase()));
  return (
    <>
      <div class="controls">
        <Search label="Search by provider or model" value={search} set={(search) => change(route, { search })} />
        {admin && <button type="button" class="primary" onClick={() => change(route, { add: 1 })}>Add a price</button>}
        <a class="button" href={url("/api/v1/prices", { format: "csv" })} download>CSV</a>
      </div>
      {action.error && <Problem error={action.error} />}
      <Answer of={answer} lines={8}>
        {(data) => {
          const rows = shown(data.prices);
          return (
            <Panel wide title={`${count(rows.length)} prices`} note="USD for a million tokens, and for one of any other unit. A price holds from its time on; what was recorded keeps its cost until tallyd reprice.">
              {rows.length === 0 ? <Empty>No price has that in its name.</Empty> : (
                <Table label="Prices" rows={rows} row={(row) => row.id} columns={[
                  { title: "Model", cell: (row) => <>{row.model || provider(row.provider)}{!row.model.startsWith(row.provider) && row.model && <> <small class="note">{provider(row.provider)}</small></>}{row.service_tier !== "standard" && <> <Badge kind="calm">{row.service_tier}</Badge></>}</> },
                                    ...BUCKETS.map(([bucket, title]) => ({ title: title.replace("Cache write,", "Write").replace("Cache read", "Read"), number: true, minor: !["input", "output"].includes(bucket), cell: (row: Price) => rate(row.rates, bucket) })),
                  { title: "Units", cell: (row) => units(row.rates), minor: true },
                  { title: "Since", cell: (row) => (row.effective_from.startsWith("1970") ? "always" : <span class="firm">{day(row.effective_from.slice(0, 10))}</span>), minor: true },
                  { title: "From", cell: (row) => <span class="firm" title={row.source}>{ORIGINS[row.origin]}</span>, minor: true },
                  { title: admin ? "Actions" : "Number", cell: (row) => admin ? (
                    <span class="buttons">
                      <button type="button" class="plain" onClick={() => setBase(row)} aria-label={`Change the price of ${row.model || row.provider}`}>Change</button>
                      {!["builtin", "config"].includes(row.origin) && <Sure text="Withdraw" sure="Really?" run={() => withdraw(row)} />}
                    </span>
                  ) : row.id },
                ]} />
              )}
            </Panel>
          );
        }}
      </Answer>
      {admin && (adding || base) && (
        <Add base={base} provider={route.query.get("provider") ?? ""} model={route.query.get("model") ?? ""} close={close} done={() => { close(); answer.refresh(); }} />
      )}
    </>
  );
}

function Add(props: { base: Price | undefined; provider: string; model: string; close: () => void; done: () => void }) {
  const { base } = props;
  const [form, setForm] = useState<Record<string, string>>({
    provider: base?.provider ?? props.provider, model: base?.model ?? props.model, service_tier: base?.service_tier ?? "standard", effective_from: "", request: base?.rates.per_unit?.["request"] ?? "", note: "",
    ...Object.fromEntries(BUCKETS.map(([bucket]) => [bucket, rate(base?.rates ?? null, bucket)])),
  });
  const [preview, setPreview] = useState<PricePreview>();
  const action = useAction();
  const set = (name: string, value: string) => {
    setForm({ ...form, [name]: value });
    setPreview(undefined);
  };
  const body = () => {
    const filled = (names: string[]) => Object.fromEntries(names.filter((name) => form[name]).map((name) => [name, form[name]]));
    const kept = Object.fromEntries(Object.entries(base?.rates.per_unit ?? {}).filter(([unit]) => unit !== "request"));
    return {
      provider: form["provider"], model: form["model"], service_tier: form["service_tier"], note: form["note"],
      ...(form["effective_from"] ? { effective_from: form["effective_from"] } : {}),
      per_million: filled(BUCKETS.map(([bucket]) => bucket)), per_unit: { ...kept, ...filled(["request"]) },
    };
  };
  const look = (event: TargetedSubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    void action.run(async () => setPreview(await send<PricePreview>("POST", "/api/v1/prices/preview", body())));
  };
  const add = () => void action.run(async () => {
    await send("POST", "/api/v1/prices", body());
    props.done();
  });
  const text = (name: string, label: string, more: Record<string, unknown> = {}, hint?: string) => (
    <Field label={label} {...(hint ? { hint } : {})}>{(id) => <input id={id} value={form[name]} onInput={(event) => set(name, event.currentTarget.value)} {...more} />}</Field>
  );
  const amount = { inputMode: "decimal" as const, pattern: "[0-9]{1,9}(\\.[0-9]{1,12})?" };
  return (
    <Dialog title={base ? "Change a price" : "Add a price"} close={props.close}>
      <form class="form" onSubmit={look}>
        <div class="pair">{text("provider", "Provider", { required: true })}{text("model", "Model")}</div>
        <div class="pair">{text("service_tier", "Service tier")}{text("effective_from", "Since", { type: "date" }, "Empty: from now on")}</div>
        <fieldset>
          <legend>USD for a million tokens</legend>
          {BUCKETS.map(([bucket, label]) => <div key={bucket}>{text(bucket, label, amount)}</div>)}
        </fieldset>
        <div class="pair">{text("request", "USD a request", amount)}{text("note", "Why, for the record")}</div>
        {base?.rates.above && <p class="note">This model has rates of larger prompts; a price that is set here has none. tallyd prices set --above keeps them.</p>}
        {action.error && <Problem error={action.error} />}
        {preview && <Differences preview={preview} />}
        <div class="buttons">
          <button type="submit" disabled={action.busy}>What would it change?</button>
          <button type="button" class="primary" disabled={action.busy || !preview} onClick={add}>Add it</button>
        </div>
      </form>
    </Dialog>
  );
}

function Differences(props: { preview: PricePreview }) {
  const { calls } = props.preview;
  if (calls.changed === 0) return <p class="note" role="status">None of the {count(calls.calls)} calls since then (31 days at most) would have another cost. New calls are priced by it.</p>;
  return (
    <div role="status">
      <p class="note">Of {count(calls.calls)} calls since then (31 days at most) {count(calls.changed)} would cost {money(calls.new_usd)} instead of {money(calls.old_usd)}, {count(calls.newly_priced)} of them have no price now. <code>tallyd reprice</code> applies it to them; new calls are priced by it at once.</p>
      <Table label="What would change" rows={calls.days.slice(-14)} row={(row) => `${row.day}/${row.model}`} columns={[
        { title: "Day", cell: (row) => day(row.day) },
        { title: "Model", cell: (row) => row.model },
        { title: "Calls", number: true, cell: (row) => count(row.calls) },
        { title: "Now", number: true, cell: (row) => money(row.old_usd) },
        { title: "Then", number: true, cell: (row) => money(row.new_usd) },
      ]} />
    </div>
  );
}
