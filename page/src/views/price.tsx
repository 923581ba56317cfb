// Adding a price: the rates, their start, and their impact before they are saved.

import { useState } from "preact/hooks";
import { Failure, change } from "../api";
import { count, noun, percentage } from "../format";
import { parse, percent } from "../money";
import type { PriceRow } from "../types";
import { Dialog, Money, Problem } from "../ui/parts";
import { Table } from "../ui/table";

export interface Draft {
  provider: string;
  model: string;
  service_tier: string;
  tokens: Record<string, string>;
  units: Record<string, string>;
  above?: PriceRow["rates"]["above"];
  /** The start of its validity, as the form writes it (browser's time); now if absent. */
  from?: string;
}

/** Calls that would be priced anew, and their costs by day and model. */
export interface Calls {
  calls: number;
  changed: number;
  newly_priced: number;
  old_usd: string;
  new_usd: string;
  days: { model: string; provider: string; calls: number; newly_priced: number; old_usd: string; new_usd: string }[];
}

interface Preview {
  calls: Calls;
}

/** A price that was added: the calls that it applies to. */
export interface Added {
  provider: string;
  model: string;
  /** RFC 3339. */
  effective_from: string;
}

/** Days whose calls a preview prices anew. */
const PREVIEW_DAYS = 30;

const TOKENS = [["input", "Input"], ["output", "Output"], ["cache_read", "Cache read"], ["cache_write_5m", "Cache write, 5 min"], ["cache_write_1h", "Cache write, 1 h"]] as const;

/** The form's content, as the API takes it. */
function entry(form: FormData, draft: Draft) {
  const text = (name: string) => String(form.get(name) ?? "").trim();
  const filled = (pairs: [string, string][]) => Object.fromEntries(pairs.filter(([, value]) => value !== ""));
  const units = { ...draft.units, ...(text("request") ? { request: text("request") } : {}) };
  if (!text("request")) delete units["request"];
  const when = text("from");
  return {
      provider: text("provider") || draft.provider, model: draft.model || text("model"), service_tier: text("tier") || "standard",
      effective_from: when ? new Date(when).toISOString() : new Date().toISOString(), source: text("source"),
      per_million: filled(TOKENS.map(([name]) => [name, text(name)])), per_unit: units,
      // Rates of large prompts stay as they are: the API takes them under another name.
      above: (draft.above ?? []).map((one) => ({ prompt_tokens: one.prompt_tokens, per_million: one.per_million_tokens })),
      note: text("note"),
      // The form has every rate, so an emptied one is to be removed.
      replace: true,
  };
}

export function PriceEditor(props: { draft: Draft; onClose: () => void; onSaved: (added: Added) => void }) {
  const { draft } = props;
  const known = draft.provider !== "";
  const [preview, setPreview] = useState<Preview | null>(null);
  const [failure, setFailure] = useState<Failure | null>(null);
  const [busy, setBusy] = useState(false);
  const run = async (form: HTMLFormElement, save: boolean) => {
    if (!form.reportValidity()) return;
    setBusy(true);
    const body = entry(new FormData(form), draft);
    try {
      if (save) {
        await change("POST", "/api/v1/prices", body);
        props.onSaved(body);
        return;
      }
      // Previewed as if the price had held for a month, because a price from now on has no calls yet.
      const effective_from = new Date(Date.now() - PREVIEW_DAYS * 86_400_000).toISOString();
      setPreview(await change<Preview>("POST", "/api/v1/prices/preview", { ...body, effective_from }));
      setFailure(null);
    } catch (error) {
      setFailure(error as Failure);
      setPreview(null);
    }
    setBusy(false);
  };
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    const pressed = event.submitter as HTMLButtonElement | null;
    void run(event.currentTarget as HTMLFormElement, pressed?.value === "save");
  };
  return (
    <Dialog title={known ? `Price of ${draft.model || draft.provider}` : "Add a price"} onClose={props.onClose}>
      <form onSubmit={submit} onInput={() => setPreview(null)}>
        {failure && <Problem failure={failure} />}
        <div class="form">
          {!known && <label>Provider <input name="provider" required maxLength={512} placeholder="claude" /></label>}
          {!(known && draft.model) && <label>Model <input name="model" maxLength={512} placeholder={known ? "every call" : "claude-sonnet-5"} /></label>}
          <label>Service tier <input name="tier" defaultValue={draft.service_tier} maxLength={512} /></label>
          <label>Effective from <input name="from" type="datetime-local" defaultValue={draft.from} aria-describedby="from-help" /></label>
          <div class="whole fine" id="from-help">USD per million tokens. Without a time the price applies from now on. Times are in this browser’s time zone.</div>
          {TOKENS.map(([name, label]) => <label key={name}>{label} <input name={name} inputMode="decimal" pattern="\d*\.?\d*" defaultValue={draft.tokens[name] ?? ""} /></label>)}
          <label>Per request <input name="request" inputMode="decimal" pattern="\d*\.?\d*" defaultValue={draft.units["request"] ?? ""} /></label>
          <label class="whole">Source <input name="source" maxLength={512} placeholder="the vendor’s price page, 2026-11-23" /></label>
          <label class="whole">Note for the audit log <input name="note" maxLength={512} /></label>
        </div>
        {preview && <Effect preview={preview} />}
        <div class="actions">
          <button type="button" onClick={props.onClose}>Cancel</button>
          <button type="submit" value="preview" class={preview ? "" : "primary"} disabled={busy}>Preview impact</button>
          <button type="submit" value="save" class={preview ? "primary" : ""} disabled={busy || !preview}>Add this price</button>
        </div>
      </form>
    </Dialog>
  );
}

interface ModelEffect {
  model: string;
  calls: number;
  unpriced: number;
  before: bigint;
  after: bigint;
}

export function byModel(days: Calls["days"]): ModelEffect[] {
  const models = new Map<string, ModelEffect>();
  for (const day of days) {
    const name = day.model || day.provider;
    const model = models.get(name) ?? { model: name, calls: 0, unpriced: 0, before: 0n, after: 0n };
    model.calls += day.calls;
    model.unpriced += day.newly_priced;
    model.before += parse(day.old_usd);
    model.after += parse(day.new_usd);
    models.set(name, model);
  }
  return [...models.values()].sort((a, b) => b.calls - a.calls);
}

function Effect({ preview }: { preview: Preview }) {
  const before = parse(preview.calls.old_usd);
  const after = parse(preview.calls.new_usd);
  const models = byModel(preview.calls.days);
  if (models.length === 0) return <p class="notice" role="status">No call of the last {PREVIEW_DAYS} days would change.</p>;
  return (
    <section class="effect" role="status" aria-label="Impact">
      <p>
        With this price, {count(preview.calls.changed)} of {noun(preview.calls.calls, "call", "calls")} in the last {PREVIEW_DAYS} days would have cost{" "}
        <strong><Money amount={after} decimals={2} /></strong> instead of <strong><Money amount={before} decimals={2} /></strong>
        {before > 0n && <> (<span class={after > before ? "up" : "down"}>{percentage(percent(after - before, before), true)}</span>)</>}.
      </p>
      <Table caption="Impact by model" rows={models.slice(0, 8)} id={(row) => row.model} columns={[
        { key: "model", label: "Model", cell: (row) => row.model },
        { key: "calls", label: "Calls", number: true, cell: (row) => count(row.calls) },
        { key: "old", label: "Now", number: true, cell: (row) => (row.unpriced === row.calls ? "unpriced" : <Money amount={row.before} decimals={2} />) },
        { key: "new", label: "Then", number: true, cell: (row) => <Money amount={row.after} decimals={2} /> },
      ]} />
    </section>
  );
}
