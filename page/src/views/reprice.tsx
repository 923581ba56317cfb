// Repricing: its plan, then its application in steps, with progress.

import { useEffect, useRef, useState } from "preact/hooks";
import { Failure, change } from "../api";
import { count, noun, percentage } from "../format";
import { type Attos, parse, percent, usd } from "../money";
import { useSession } from "../session";
import { Dialog, Money, Problem } from "../ui/parts";
import { Table } from "../ui/table";
import { type Calls, byModel } from "./price";

/** Calls to price anew: of a provider and a model, from a day on. */
export interface Scope {
  provider: string;
  model: string;
  /** `YYYY-MM-DD`, a day of the reporting time zone. */
  from: string;
}

interface Body extends Scope {
  to: string;
  include_client: boolean;
  skip_dropped: boolean;
}

interface Plan {
  calls: Calls & { unpriceable: number };
  days_left_off: number;
  dropped: { calls: number; cost_usd: string } | null;
}

interface Planned {
  bodies: Body[];
  plans: Plan[];
}

interface Step {
  done: boolean;
  position: string;
  read: number;
  changed: number;
  priced: number;
  difference_usd: string;
}

interface Sums {
  changed: number;
  priced: number;
  difference: Attos;
}

const nameOf = ({ provider, model }: Scope): string => model || provider || "every call";

/** `scopes` are the calls; a single one can be changed in the form. */
export function Reprice(props: { scopes: Scope[]; onClose: () => void; onDone: (text: string) => void }) {
  const [first] = props.scopes;
  const { zone } = useSession();
  const [planned, setPlanned] = useState<Planned | null>(null);
  const [share, setShare] = useState<number | null>(null);
  const [failure, setFailure] = useState<Failure | null>(null);
  const [busy, setBusy] = useState(false);
  const [dropped, setDropped] = useState(0);
  const stopped = useRef(false);
  useEffect(() => () => { stopped.current = true; }, []);
  const single = props.scopes.length === 1 ? first : undefined;

  const plan = async (form: HTMLFormElement) => {
    if (!form.reportValidity()) return;
    const text = (name: string) => String(new FormData(form).get(name) ?? "").trim();
    const scopes = single ? [{ provider: text("provider"), model: text("model"), from: text("from") }] : props.scopes;
    // Up to this instant: later calls have the prices in force already.
    const shared = { to: new Date().toISOString(), include_client: text("stated") !== "", skip_dropped: text("dropped") !== "" };
    const bodies = scopes.map((scope) => ({ ...scope, ...shared }));
    const plans: Plan[] = [];
    for (const body of bodies) plans.push(await change<Plan>("POST", "/api/v1/reprice/plan", body) as Plan);
    setPlanned({ bodies, plans });
    setDropped(plans.reduce((sum, one) => sum + (one.dropped?.calls ?? 0), 0));
  };
  const apply = async ({ bodies }: Planned) => {
    stopped.current = false;
    const sums: Sums = { changed: 0, priced: 0, difference: 0n };
    for (const [at, body] of bodies.entries()) {
      // A first day, as the daemon reads it, is near enough for a bar.
      const [from, to] = [Date.parse(body.from), Date.parse(body.to)];
      for (let isDone = false; !isDone && !stopped.current;) {
        const step = await change<Step>("POST", "/api/v1/reprice", body) as Step;
        sums.changed += step.changed;
        sums.priced += step.priced;
        sums.difference += parse(step.difference_usd);
        isDone = step.done;
        const part = isDone ? 1 : Math.max(0, Math.min(1, (Date.parse(step.position) - from) / (to - from)));
        setShare((at + part) / bodies.length);
      }
    }
    const what = `${noun(sums.changed, "call was", "calls were")} priced anew, ${count(sums.priced)} of them for the first time: ${sums.difference < 0n ? "" : "+"}${usd(sums.difference, 2)}.`;
    props.onDone(stopped.current ? `Stopped. ${what} Reprice again to go on.` : what);
  };
  const act = async (task: () => Promise<void>) => {
    setBusy(true);
    setFailure(null);
    try {
      await task();
    } catch (error) {
      setFailure(error as Failure);
    }
    setBusy(false);
    setShare(null);
  };
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    void act(() => (planned ? apply(planned) : plan(form)));
  };
  const changed = planned?.plans.reduce((sum, one) => sum + one.calls.changed, 0) ?? 0;
  const isBarred = dropped > 0 && planned?.bodies[0]?.skip_dropped === false;
  return (
    <Dialog title={single ? "Reprice calls" : `Reprice ${noun(props.scopes.length, "model", "models")}`} onClose={props.onClose}>
      <form onSubmit={submit} onInput={() => setPlanned(null)}>
        {failure && <Problem failure={failure} />}
        <fieldset class="form bare" disabled={busy}>
          {single ? (
            <>
              <label>Provider <input name="provider" maxLength={512} defaultValue={single.provider} placeholder="all" /></label>
              <label>Model <input name="model" maxLength={512} defaultValue={single.model} placeholder="all" /></label>
              <label>From <input name="from" type="date" required defaultValue={single.from} /></label>
            </>
          ) : <p class="whole breaks">{props.scopes.map(nameOf).join(", ")}</p>}
          <label class="check whole"><input type="checkbox" name="stated" /> Also calls whose cost the caller stated</label>
          {dropped > 0 && <label class="check whole"><input type="checkbox" name="dropped" /> Leave {noun(dropped, "call", "calls")} that were dropped from the call log at their cost</label>}
        </fieldset>
        <p class="footnote">Calls up to now get the price that holds at their time, in the call log and in every sum. Days are those of {zone}.</p>
        {planned && <Found planned={planned} />}
        {share !== null && <p class="progress"><progress max={1} value={share} aria-label="Calls priced anew" /> <span class="fine">{percentage(100 * share)}</span></p>}
        <div class="actions">
          {share !== null ? <button type="button" onClick={() => { stopped.current = true; }}>Stop</button> : <button type="button" onClick={props.onClose}>Cancel</button>}
          <button type="submit" class="primary" disabled={busy || (planned !== null && (changed === 0 || isBarred))}>{planned ? `Reprice ${noun(changed, "call", "calls")}` : "Show what would change"}</button>
        </div>
      </form>
    </Dialog>
  );
}

/** The plans, in sums by model. */
function Found({ planned: { plans } }: { planned: Planned }) {
  const calls = plans.map((plan) => plan.calls);
  const add = (of: (one: Plan["calls"]) => number) => calls.reduce((sum, one) => sum + of(one), 0);
  const [before, after] = [calls.reduce((sum, one) => sum + parse(one.old_usd), 0n), calls.reduce((sum, one) => sum + parse(one.new_usd), 0n)];
  const [changed, left] = [add((one) => one.changed), plans.reduce((sum, one) => sum + one.days_left_off, 0)];
  const unpriceable = add((one) => one.unpriceable);
  const rows = byModel(calls.flatMap((one) => one.days));
  return (
    <section class="effect" role="status" aria-label="Plan">
      <p>
        {changed === 0 ? `None of ${noun(add((one) => one.calls), "call", "calls")} would change.` : (
          <>
            {count(changed)} of {noun(add((one) => one.calls), "call", "calls")} would change: <strong><Money amount={before} decimals={2} /></strong> becomes <strong><Money amount={after} decimals={2} /></strong>
            {before > 0n && <> (<span class={after > before ? "up" : "down"}>{percentage(percent(after - before, before), true)}</span>)</>}; {count(add((one) => one.newly_priced))} get a price for the first time.
          </>
        )}
        {unpriceable > 0 && ` ${noun(unpriceable, "call has", "calls have")} no price now either.`}
      </p>
      {rows.length > 0 && <Table caption="Plan by model" rows={rows.slice(0, 50)} id={(row) => row.model} columns={[
        { key: "model", label: "Model", cell: (row) => <span class="breaks">{row.model}</span> },
        { key: "calls", label: "Calls", number: true, cell: (row) => count(row.calls) },
        { key: "old", label: "Now", number: true, cell: (row) => (row.unpriced === row.calls ? "unpriced" : <Money amount={row.before} decimals={2} />) },
        { key: "new", label: "Then", number: true, cell: (row) => <Money amount={row.after} decimals={2} /> },
      ]} />}
      {(left > 0 || rows.length > 50) && <p class="footnote">The table is not whole; the sums above it are.</p>}
    </section>
  );
}
