// Budgets: where each stands; set, changed, removed.

import type { JSX, TargetedSubmitEvent } from "preact";
import { useState } from "preact/hooks";
import { send } from "../api";
import { day, dayShort, provider } from "../format";
import { useLive } from "../live";
import type { ViewProps } from "../main";
import { money } from "../money";
import type { Budget, Budgets, Period, Scope } from "../types";
import { Answer, Badge, Dialog, Empty, Field, Meter, Panel, Problem, Sure, useAction } from "../ui";

const PERIODS: Record<Period, string> = { day: "a day", week: "a week", month: "a month" };
const SCOPES: [Scope, string][] = [["global", "Everything"], ["provider", "A provider"], ["model", "A model"], ["user", "A user"], ["app", "An app"]];

function title(budget: Budget): string {
  if (budget.scope === "global") return "Everything";
  const value = budget.scope === "provider" ? provider(budget.scope_value) : budget.scope_value;
  return budget.scope === "provider" || budget.scope === "model" ? value : `${budget.scope === "user" ? "User" : "App"} ${value}`;
}

export function BudgetList(props: { budgets: Budget[]; actions?: (budget: Budget) => JSX.Element }) {
  return (
    <ul class="budgets">
      {props.budgets.map((budget) => {
        const kind = ({ normal: "good", warning: "warn", exceeded: "bad" } as const)[budget.status];
        const used = Number(budget.used_percent);
        return (
          <li key={budget.id}>
            <div class="line">
              <strong>{title(budget)}</strong>
              <span>{money(budget.spent_usd)} of {money(budget.amount_usd)} {PERIODS[budget.period]}</span>
              {budget.status !== "normal" && <Badge kind={kind}>{budget.status === "exceeded" ? (budget.should_throttle ? "used up: hold back" : "used up") : "warning"}</Badge>}
            </div>
            <Meter label={`${budget.used_percent} % used`} percent={used} mark={budget.warning_percent} kind={kind} />
            <p class="note">
              {used.toFixed(used < 10 ? 1 : 0)} % since {dayShort(budget.period_start)}
              {budget.forecast?.expected_usd && `; ${money(budget.forecast.expected_usd)} expected by ${day(budget.forecast.until)}`}
              {budget.unpriced_calls > 0 && `; ${budget.unpriced_calls} calls have no price`}
            </p>
            {props.actions?.(budget)}
          </li>
        );
      })}
    </ul>
  );
}

export function BudgetsView(props: ViewProps) {
  const answer = useLive<Budgets>("/api/v1/budgets", 5);
  const [edited, setEdited] = useState<Budget | "new">();
  const action = useAction();
  const admin = props.session.role === "admin";
  const remove = (budget: Budget) => void action.run(async () => {
    await send("DELETE", `/api/v1/budgets/${budget.id}`);
    answer.refresh();
  });
  const actions = (budget: Budget) => (
    <div class="buttons">
      <button type="button" class="plain" onClick={() => setEdited(budget)}>Change</button>
      <Sure text="Remove" sure={`Remove ${title(budget)}, really?`} run={() => remove(budget)} disabled={action.busy} />
    </div>
  );
  return (
    <>
      {admin && <div class="controls"><button type="button" class="primary" onClick={() => setEdited("new")}>Set a budget</button></div>}
      {action.error && <Problem error={action.error} />}
      <Answer of={answer}>
        {(data) => (
          <Panel wide title="Budgets" note="Evaluated every few seconds. Acknowledgements and the API tell applications to hold back once a budget is used up.">
            {data.budgets.length === 0 ? <Empty>No budget is set.</Empty> : admin ? <BudgetList budgets={data.budgets} actions={actions} /> : <BudgetList budgets={data.budgets} />}
          </Panel>
        )}
      </Answer>
      {edited && <Edit of={edited === "new" ? undefined : edited} close={() => setEdited(undefined)} done={() => { setEdited(undefined); answer.refresh(); }} />}
    </>
  );
}

function Edit(props: { of: Budget | undefined; close: () => void; done: () => void }) {
  const [form, setForm] = useState({
    scope: props.of?.scope ?? ("global" as Scope), scope_value: props.of?.scope_value ?? "", period: props.of?.period ?? ("day" as Period),
    amount_usd: props.of?.amount_usd ?? "", warning_percent: props.of?.warning_percent ?? 80, throttle: props.of?.throttle ?? true,
  });
  const action = useAction();
  const set = (changes: Partial<typeof form>) => setForm({ ...form, ...changes });
  const submit = (event: TargetedSubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    const scope_value = form.scope === "global" ? "" : form.scope_value;
    const alert_percents = props.of?.alert_percents ?? [50, 80, 100];
    void action.run(async () => {
      await send("PUT", "/api/v1/budgets", { ...form, scope_value, alert_percents });
      props.done();
    });
  };
  return (
    <Dialog title={props.of ? "Change a budget" : "Set a budget"} close={props.close}>
      <form class="form" onSubmit={submit}>
        <Field label="Of">{(id) => (
          <select id={id} value={form.scope} disabled={!!props.of} onChange={(event) => set({ scope: event.currentTarget.value as Scope })}>
            {SCOPES.map(([value, text]) => <option key={value} value={value}>{text}</option>)}
          </select>
        )}</Field>
        {form.scope !== "global" && (
          <Field label="Which">{(id) => <input id={id} required disabled={!!props.of} value={form.scope_value} onInput={(event) => set({ scope_value: event.currentTarget.value })} />}</Field>
        )}
        <Field label="For">{(id) => (
          <select id={id} value={form.period} disabled={!!props.of} onChange={(event) => set({ period: event.currentTarget.value as Period })}>
            {(Object.keys(PERIODS) as Period[]).map((value) => <option key={value} value={value}>{PERIODS[value]}</option>)}
          </select>
        )}</Field>
        <Field label="USD">{(id) => <input id={id} required inputMode="decimal" pattern="[0-9]{1,9}(\.[0-9]{1,18})?" value={form.amount_usd} onInput={(event) => set({ amount_usd: event.currentTarget.value })} />}</Field>
        <Field label="Warn from, in percent">{(id) => <input id={id} type="number" min="0" max="100" required value={form.warning_percent} onInput={(event) => set({ warning_percent: Number(event.currentTarget.value) })} />}</Field>
        <label class="check"><input type="checkbox" checked={form.throttle} onChange={(event) => set({ throttle: event.currentTarget.checked })} /> Ask applications to hold back once it is used up</label>
        {action.error && <Problem error={action.error} />}
        <div class="buttons"><button type="submit" class="primary" disabled={action.busy}>Save</button></div>
      </form>
    </Dialog>
  );
}
