// The form of an alert rule. A wrong value is told at its field.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { Failure, change, get, url } from "../api";
import { useLive } from "../live";
import { METRICS, type Metric, type NewRule, type Rule, Wrong, fieldOf, isOfBudget, keyName, ruleOf } from "../rule";
import type { Costs, Dimensions } from "../types";
import { Dialog, Problem } from "../ui/parts";
import { budgetName } from "./budgets";
import type { Rules } from "./rules";

interface Names {
  providers: string[];
  models: string[];
  /** Beside a user: an application, and tags that are dimensions. */
  dimensions: string[];
}

async function loadNames(signal: AbortSignal): Promise<Names> {
  const [{ rows }, { dimensions }] = await Promise.all([
    get<Costs>(url("/api/v1/costs", { days: 30, bucket: "total", group_by: "provider,model", sort: "cost", limit: 200 }), signal),
    get<Dimensions>("/api/v1/dimensions", signal),
  ]);
  const different = (names: (string | undefined)[]) => [...new Set(names.filter((name): name is string => !!name))];
  return { providers: different(rows.map((row) => row.provider)), models: different(rows.map((row) => row.model)), dimensions: dimensions.map(({ group_by }) => group_by) };
}

export function RuleEditor(props: { rule: Rule | null; known: Rules; onClose: () => void; onSaved: (text: string) => void }) {
  const { rule, known } = props;
  const [metric, setMetric] = useState<Metric>(rule?.metric ?? "cost");
  const [wrong, setWrong] = useState<{ field: string; message: string } | null>(null);
  const [failure, setFailure] = useState<Failure | null>(null);
  const form = useRef<HTMLFormElement>(null);
  const names = useLive<Names>("names for rules", loadNames, 300_000).data;
  const filter = rule?.filter ?? {};
  const [other, setOther] = useState(Object.keys(filter).find((name) => name !== "provider" && name !== "model") ?? "");
  // The field with the wrong value gets the focus, so that a screen reader reads the message.
  useEffect(() => { if (wrong) (form.current?.elements.namedItem(wrong.field) as HTMLElement | null)?.focus(); }, [wrong]);
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    const data = new FormData(event.currentTarget as HTMLFormElement);
    const text = (name: string) => String(data.get(name) ?? "").trim();
    setWrong(null);
    setFailure(null);
    let body: NewRule;
    try {
      body = { ...ruleOf((name) => (name === "name" && rule ? rule.name : text(name)), data.get("no_data") !== null), paused: rule?.paused ?? false };
    } catch (error) {
      if (error instanceof Wrong) return setWrong({ field: error.field, message: error.message });
      throw error;
    }
    try {
      const answer = await change<{ replaced: NewRule | null }>("PUT", "/api/v1/alert-rules", body);
      const isNews = !rule && answer?.replaced;
      props.onSaved(`The rule ${body.name} is set.${isNews ? " It replaces the one of the same name." : ""} ${body.paused ? "It is paused." : "It is checked within a minute."}`);
    } catch (error) {
      const failure = error as Failure;
      const field = failure.status === 400 || failure.status === 422 ? fieldOf(failure.message) : null;
      if (field !== null && form.current?.elements.namedItem(field)) setWrong({ field, message: `${failure.message} ${failure.hint}` });
      else setFailure(failure);
    }
  };
  const labelled = (field: { name: string; label: string; whole?: boolean; children: (described: object) => ComponentChildren }) => {
    const isWrong = wrong?.field === field.name;
    return (
      <label class={field.whole ? "whole" : undefined}>{field.label} {field.children(isWrong ? { "aria-invalid": "true", "aria-describedby": `${field.name}-wrong` } : {})}
        {isWrong && <span class="field-error" id={`${field.name}-wrong`} role="alert">{wrong?.message}</span>}
      </label>
    );
  };
  const field = (name: string, label: string, value: string, more: object = {}, whole = false) =>
    labelled({ name, label, whole, children: (described) => <input name={name} defaultValue={value} autocomplete="off" {...more} {...described} /> });
  const unit = METRICS.find(([name]) => name === metric)?.[2] ?? "";
  const routes = [...new Set(["default", ...known.rules.map(({ route }) => route)])];
  return (
    <Dialog title={rule ? `Rule ${rule.name}` : "Set a rule"} onClose={props.onClose}>
      <form ref={form} noValidate onSubmit={(event) => void submit(event)}>
        {failure && <Problem failure={failure} />}
        <div class="form top">
          {!rule && field("name", "Name", "", { maxLength: 100, placeholder: "spend" })}
          {labelled({ name: "metric", label: "Metric", children: () => <select name="metric" value={metric} onChange={(event) => setMetric(event.currentTarget.value as Metric)}>{METRICS.map(([value, label]) => <option key={value} value={value}>{label}</option>)}</select> })}
          {isOfBudget(metric) ? labelled({ name: "budget", label: "Budget", children: (described) => (
            <select name="budget" {...described}>
              <option value="">Choose one</option>
              {known.budgets.map((budget) => <option key={budget.id} value={String(budget.id)} selected={budget.id === rule?.budget_id}>{budgetName(budget)}</option>)}
            </select>
          ) }) : (
            <>
              {field("provider", "Provider", filter["provider"] ?? "", { placeholder: "all", list: "rule-providers", maxLength: 512 })}
              {field("model", "Model", filter["model"] ?? "", { placeholder: "all", list: "rule-models", maxLength: 512 })}
              {labelled({ name: "other", label: "And", children: (described) => (
                <select name="other" value={other} onChange={(event) => setOther(event.currentTarget.value)} {...described}>
                  <option value="">Nothing else</option>
                  {[...new Set(["user", ...(names?.dimensions ?? []), ...(other ? [other] : [])])].map((name) => <option key={name} value={name}>{keyName(name)}</option>)}
                </select>
              ) })}
              {other && field("value", `Name of the ${keyName(other)}`, filter[other] ?? "", { maxLength: 512 })}
            </>
          )}
          {metric !== "forecast_percent" && field("window", "Window", rule?.window ?? (metric === "burn_rate" ? "6h" : "24h"), { placeholder: "24h or 7d" })}
          {metric === "burn_rate" && field("short_window", "Short window", rule?.short_window ?? "1h", { placeholder: "1h" })}
          {field("warning", `Warning from, ${unit}`, rule?.warning ?? "", { inputMode: "decimal", placeholder: "none" })}
          {field("alert", `Alert from, ${unit}`, rule?.alert ?? "", { inputMode: "decimal", placeholder: "none" })}
          {!isOfBudget(metric) && <label class="check"><input type="checkbox" name="no_data" defaultChecked={rule?.no_data ?? false} /> Alert without calls</label>}
          {field("owner", "Owner", rule?.owner ?? "", { maxLength: 100, placeholder: "team or person" })}
          {field("route", "Route", rule?.route ?? "default", { maxLength: 40, list: "rule-routes" })}
          {field("quiet", "Quiet hours", rule?.quiet ?? "", { placeholder: "22:00-07:00" })}
        </div>
        <datalist id="rule-providers">{names?.providers.map((name) => <option key={name} value={name} />)}</datalist>
        <datalist id="rule-models">{names?.models.map((name) => <option key={name} value={name} />)}</datalist>
        <datalist id="rule-routes">{routes.map((name) => <option key={name} value={name} />)}</datalist>
        <div class="actions"><button type="button" onClick={props.onClose}>Cancel</button><button type="submit" class="primary">Save</button></div>
      </form>
    </Dialog>
  );
}
