// One call amended or voided by an admin, with a reason.

import { useState } from "preact/hooks";
import { Failure, change, get } from "../api";
import { count, instant } from "../format";
import { useLive } from "../live";
import { useSession } from "../session";
import type { Amendment, CallAmendments, CallValues, RecordRow } from "../types";
import { Problem } from "../ui/parts";

const COUNTS = [
  ["input_tokens", "Input"], ["output_tokens", "Output"], ["cache_read_tokens", "Cache read"], ["cache_write_5m_tokens", "Cache write 5 m"],
  ["cache_write_1h_tokens", "Cache write 1 h"], ["requests", "Requests"],
] as const;

const costOf = (values: CallValues) => (values.cost_usd === null ? "unpriced" : `$${values.cost_usd}`);

/** The values that a change has changed. */
function changes({ before, after }: Amendment): string {
  const counts = COUNTS.filter(([name]) => before[name] !== after[name]);
  return [`${costOf(before)} → ${costOf(after)}`, ...counts.map(([name, label]) => `${label.toLowerCase()} ${count(before[name])} → ${count(after[name])}`)].join(", ");
}

/** All changes of a call, oldest first. The last one, if it is known, is shown while they are loaded. */
export function History({ row, last }: { row: RecordRow; last: Amendment | undefined }) {
  const { zone } = useSession();
  const { data } = useLive<CallAmendments>(`amendments ${row.id} ${last?.id ?? 0}`, (signal) => get(`/api/v1/calls/${row.id}/amendments`, signal), 60_000);
  const all = data?.amendments.filter((one) => one.occurred_at === row.occurred_at) ?? (last ? [last] : []);
  if (all.length === 0) return null;
  return (
    <>
      <dt>Changed</dt>
      <dd>
        <ol class="changes">
          {all.map((one) => <li key={one.id}>{one.kind} by {one.actor}, {instant(one.at, zone)}: {one.reason} <span class="fine">{changes(one)}</span></li>)}
        </ol>
        {data?.next != null && <p class="fine">These are the first {all.length} changes. <code>tallyd calls show {row.id}</code> shows all.</p>}
      </dd>
    </>
  );
}

/** The form. A field that is left empty stays as it is. */
export function Correction({ row, onChanged }: { row: RecordRow; onChanged: (text: string) => void }) {
  const { mayChange } = useSession();
  const [values, setValues] = useState<Record<string, string>>({});
  const [reason, setReason] = useState("");
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<Failure | null>(null);
  if (!mayChange) return null;
  const isVoided = row.cost_source === "voided";
  const isReady = !busy && reason.trim() !== "";
  const act = async (verb: "amend" | "void", body: object) => {
    setBusy(true);
    try {
      const done = await change<Amendment>("POST", `/api/v1/calls/${row.id}/${verb}`, { occurred_at: row.occurred_at, reason, ...body });
      onChanged(`The call was ${done?.kind ?? "changed"}. All sums have changed with it.`);
    } catch (error) {
      setFailure(error as Failure);
      setBusy(false);
    }
  };
  const submit = (event: Event) => {
    event.preventDefault();
    const cost = (values["cost_usd"] ?? "").trim();
    const body: Record<string, string | number> = cost === "" ? {} : { cost_usd: cost };
    for (const [name] of COUNTS) {
      const text = (values[name] ?? "").trim();
      if (text !== "") body[name] = Number(text);
    }
    void act("amend", body);
  };
  const discard = () => {
    if (confirm("Void this call? It stays in the call log, with no tokens and a cost of 0.")) void act("void", {});
  };
  const field = (name: string, label: string, now: string, pattern: string) => (
    <label key={name} class="inline">{label} <input class="short" inputMode="decimal" pattern={pattern} placeholder={now} value={values[name] ?? ""} onInput={(event) => setValues({ ...values, [name]: event.currentTarget.value })} /></label>
  );
  return (
    <form class="filters" aria-label="Change this call" onSubmit={submit}>
      {failure && <Problem failure={failure} />}
      {field("cost_usd", "Cost, USD", row.cost_usd ?? "unpriced", "-?[0-9]+([.][0-9]{1,18})?")}
      {COUNTS.map(([name, label]) => field(name, label, String(row[name]), "[0-9]{1,13}"))}
      <label class="inline">Reason <input required maxLength={512} value={reason} onInput={(event) => setReason(event.currentTarget.value)} /></label>
      <button type="submit" class="primary" disabled={!isReady}>{isVoided ? "Restore" : "Amend"}</button>
      {!isVoided && <button type="button" class="danger" disabled={!isReady} onClick={discard}>Void</button>}
    </form>
  );
}
