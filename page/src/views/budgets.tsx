// Budgets: the state of each, and setting them.

import { useState } from "preact/hooks";
import { Failure, change, get } from "../api";
import { addDays, noun, percentage, sentence, shortDay } from "../format";
import { useLive } from "../live";
import { parse, percent, usd } from "../money";
import { useSession } from "../session";
import type { BudgetState } from "../types";
import { Badge, Card, Dialog, Empty, Head, Loaded, Problem } from "../ui/parts";
import { BurnDown } from "./burndown";

const SCOPES = [["", "All spend"], ["provider", "Provider"], ["model", "Model"], ["user", "User"], ["app", "Application"], ["tag", "Tag"]] as const;
/** What a second dimension may be beside the first one: a rollup has to tell both apart. */
const PAIRS: Record<string, string[]> = {
  provider: ["model", "user", "app", "tag"], model: ["provider", "app", "tag"], user: ["provider"], app: ["provider", "model"], tag: ["provider", "model"],
};
const TONES = { normal: "good", warning: "warn", exceeded: "bad" } as const;

/** The answer to setting a budget: the budget that it replaced, and a note if no call counts towards it. */
interface Saved { replaced: BudgetState | null; note: string | null }

const PERIODS: Record<string, string> = { day: "daily", week: "weekly", month: "monthly" };

/** A scope's names: `search, gpt-5`; empty for all spend. */
export const scopeNames = (scope: BudgetState["scope"]): string => Object.values(scope).join(", ");

/** A scope's dimensions: `team, model`. */
const scopeKinds = (scope: BudgetState["scope"]): string => Object.keys(scope).map((key) => key.replace(/^tag:/, "")).join(", ");

export const budgetName = (budget: BudgetState): string => `${scopeNames(budget.scope) || "All spend"} · ${PERIODS[budget.period] ?? budget.period}`;

/** The days of the current period. */
function span(budget: BudgetState): string {
  const last = addDays(budget.period_end, -1);
  return budget.period_start === last ? shortDay(last) : `${shortDay(budget.period_start)} to ${shortDay(last)}`;
}

/** How much of a budget is used, in percent. */
export const usedShare = (budget: BudgetState): number => percent(parse(budget.spent_usd), parse(budget.amount_usd)) ?? 100;

/** The standing in words: past the warning it is the used share. */
const standing = (budget: BudgetState): string =>
  ({ normal: "On track", warning: `${percentage(usedShare(budget))} used`, exceeded: "Over budget" })[budget.status];

/** A budget as a bar that fills. */
export function Bar({ budget }: { budget: BudgetState }) {
  const spent = parse(budget.spent_usd);
  const amount = parse(budget.amount_usd);
  const used = usedShare(budget);
  return (
    <div class="budget">
      <div class="budget-head">
        <span><strong>{budgetName(budget)}</strong> {scopeNames(budget.scope) && <span class="fine">{scopeKinds(budget.scope)}</span>}</span>
        <span class="money">{usd(spent, 2)} <span class="fine">of {usd(amount, 2)}</span></span>
      </div>
      <div class={`bar ${budget.status}`} role="meter" aria-label={budgetName(budget)} aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.min(100, Math.round(used))} aria-valuetext={`${used} % used`}>
        <span style={{ width: `${Math.min(100, used)}%` }} />
      </div>
      <div class="budget-foot">
        <Badge tone={TONES[budget.status]}>{standing(budget)}</Badge>
        {budget.status === "exceeded" && budget.limit === "hard" && <Badge tone="bad">Calls are refused</Badge>}
        <span class="fine">{budget.status === "warning" ? "" : `${percentage(used)} · `}{span(budget)}</span>
        {budget.unpriced_calls > 0 && <Badge tone="warn">{noun(budget.unpriced_calls, "unpriced call", "unpriced calls")}</Badge>}
      </div>
    </div>
  );
}

/** Budgets that are drawn burning down: each takes a request. */
const BURN_DOWNS = 40;

export function Budgets() {
  const { mayChange } = useSession();
  const live = useLive<{ budgets: BudgetState[] }>("budgets", (signal) => get("/api/v1/budgets", signal), 5_000);
  const [editing, setEditing] = useState<BudgetState | "new" | null>(null);
  const [failure, setFailure] = useState<Failure | null>(null);
  const [said, setSaid] = useState<string | null>(null);
  const saved = ({ replaced, note }: Saved) => {
    // An edited budget is expected to be replaced.
    const isNews = editing === "new" && replaced !== null;
    const said = isNews ? [`The new budget replaces the one of ${usd(parse(replaced.amount_usd), 2)}.`] : [];
    if (note) said.push(`${sentence(note)}.`);
    setSaid(said.join(" ") || null);
    setEditing(null);
    live.reload();
  };
  const remove = async (budget: BudgetState) => {
    if (!confirm(`Remove the budget of ${usd(parse(budget.amount_usd), 2)} for ${budgetName(budget)}?`)) return;
    try {
      await change("DELETE", `/api/v1/budgets/${budget.id}`);
      setFailure(null);
      live.reload();
    } catch (error) {
      setFailure(error as Failure);
    }
  };
  return (
    <>
      <Head title="Budgets" lead="Limits for spend by day, week or month. Alerts are sent at each threshold. Of a hard budget that is used up, applications refuse calls before they are made." live={live}>
        {mayChange && <button type="button" class="primary" onClick={() => setEditing("new")}>Set a budget</button>}
      </Head>
      {failure && <Problem failure={failure} />}
      {said && <div class="notice warn" role="status">{said}</div>}
      <Loaded live={live}>
        {({ budgets }) => budgets.length === 0 ? (
          <Empty title="No budget is set">A budget limits the spend of a day, a week or a month: in all, or of one provider, model, user, application or tag, or of two of them together.</Empty>
        ) : (
          <div class="columns pairs">
            {budgets.map((budget, at) => (
              <Card key={budget.id}>
                <Bar budget={budget} />
                {at < BURN_DOWNS && <BurnDown budget={budget} />}
                <div class="budget-tools">
                  <span class="fine">Alerts at {budget.alert_percents.map((one) => `${one} %`).join(", ") || "no threshold"}; {budget.limit === "hard" ? "hard: calls are refused at the limit" : "soft: alerts only"}</span>
                  {mayChange && (
                    <span class="row-tools">
                      <button type="button" aria-label={`Edit ${budgetName(budget)}`} onClick={() => setEditing(budget)}>Edit</button>
                      <button type="button" aria-label={`Remove ${budgetName(budget)}`} onClick={() => void remove(budget)}>Remove</button>
                    </span>
                  )}
                </div>
              </Card>
            ))}
          </div>
        )}
      </Loaded>
      {editing && <Editor budget={editing === "new" ? null : editing} onClose={() => setEditing(null)} onSaved={saved} />}
    </>
  );
}

function Editor(props: { budget: BudgetState | null; onClose: () => void; onSaved: (saved: Saved) => void }) {
  const { budget } = props;
  const [kinds, setKinds] = useState<string[]>([""]);
  const [failure, setFailure] = useState<Failure | null>(null);
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const text = (name: string) => String(form.get(name) ?? "").trim();
    const parts = kinds.filter(Boolean).map((kind, at) => {
      if (kind !== "tag") return [kind, text(`name-${at}`)];
      const [tag = "", ...value] = text(`name-${at}`).split("=");
      return [`tag:${tag.trim()}`, value.join("=").trim()];
    });
    const body = {
      scope: budget?.scope ?? Object.fromEntries(parts) as Record<string, string>, period: budget?.period ?? text("period"),
      amount_usd: text("amount").replace(/^\$/, "").replaceAll(",", ""), warning_percent: Number(text("warning")),
      alert_percents: text("alerts").split(/[\s,;]+/).filter(Boolean).map(Number), limit: text("limit"),
    };
    try {
      props.onSaved(await change<Saved>("PUT", "/api/v1/budgets", body) ?? { replaced: null, note: null });
    } catch (error) {
      setFailure(error as Failure);
    }
  };
  return (
    <Dialog title={budget ? budgetName(budget) : "Set a budget"} onClose={props.onClose}>
      <form onSubmit={(event) => void submit(event)}>
        {failure && <Problem failure={failure} />}
        <div class="form">
          {!budget && (
            <>
              <ScopePart at={0} kind={kinds[0] ?? ""} options={SCOPES} onChange={(kind) => setKinds([kind])} />
              {kinds[0] && <ScopePart at={1} kind={kinds[1] ?? ""} options={SCOPES.filter(([value]) => value === "" || PAIRS[kinds[0] ?? ""]?.includes(value))} onChange={(kind) => setKinds([kinds[0] ?? "", kind])} />}
              <label>Period <select name="period"><option value="day">Daily</option><option value="week">Weekly</option><option value="month">Monthly</option></select></label>
            </>
          )}
          <label>Amount in USD <input name="amount" inputMode="decimal" required defaultValue={budget?.amount_usd ?? ""} placeholder="25" /></label>
          <label>Warning at percent <input name="warning" type="number" min={0} max={100} required defaultValue={String(budget?.warning_percent ?? 80)} /></label>
          <label>Alerts at percent <input name="alerts" defaultValue={(budget?.alert_percents ?? [50, 80, 100]).join(", ")} /></label>
          <label>Limit <select name="limit"><option value="hard">Hard: applications refuse calls</option><option value="soft" selected={budget?.limit === "soft"}>Soft: alerts only</option></select></label>
        </div>
        <div class="actions"><button type="button" onClick={props.onClose}>Cancel</button><button type="submit" class="primary">Save</button></div>
      </form>
    </Dialog>
  );
}

/** One dimension of a scope, and its name. */
function ScopePart(props: { at: number; kind: string; options: readonly (readonly [string, string])[]; onChange: (kind: string) => void }) {
  const { at, kind } = props;
  return (
    <>
      <label>{at === 0 ? "Scope" : "And"} <select value={kind} onChange={(event) => props.onChange(event.currentTarget.value)}>{props.options.map(([value, label]) => <option key={value} value={value}>{at === 1 && value === "" ? "Nothing else" : label}</option>)}</select></label>
      {kind && <label>{kind === "tag" ? "Tag and value" : `Name of the ${kind === "app" ? "application" : kind}`} <input name={`name-${at}`} required maxLength={512} pattern={kind === "tag" ? "[^=]+=.+" : undefined} placeholder={kind === "tag" ? "team=search" : ""} /></label>}
    </>
  );
}
