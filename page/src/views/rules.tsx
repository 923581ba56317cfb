// Alert rules: their conditions, where they stand, and setting them.

import { useState } from "preact/hooks";
import { Failure, change, get, url } from "../api";
import { ago, instant, sentence } from "../format";
import { useLive } from "../live";
import { href } from "../route";
import { type Rule, condition, paused, valueOf } from "../rule";
import { useSession } from "../session";
import type { Alert, AlertsAnswer, BudgetState } from "../types";
import { Badge, Card, Empty, Head, Loaded, Problem } from "../ui/parts";
import { type Column, Table } from "../ui/table";
import { budgetName } from "./budgets";
import { RuleEditor } from "./ruleform";

/** The alerts that are searched for the last one of each rule. */
const ALERTS = 500;

export interface Rules {
  rules: Rule[];
  budgets: BudgetState[];
  /** The last alert of a rule, by the rule's number. */
  last: Map<number, Alert>;
}

async function load(signal: AbortSignal): Promise<Rules> {
  const [{ rules }, { budgets }, { alerts }] = await Promise.all([
    get<{ rules: Rule[] }>("/api/v1/alert-rules", signal),
    get<{ budgets: BudgetState[] }>("/api/v1/budgets", signal),
    get<AlertsAnswer>(url("/api/v1/alerts", { limit: ALERTS }), signal),
  ]);
  const last = new Map<number, Alert>();
  for (const alert of alerts) {
    const id = Number(alert.details["rule_id"]);
    // They come newest first. The end of an alert is a message, too.
    if (alert.kind === "rule" && alert.details["level"] !== "normal" && !last.has(id)) last.set(id, alert);
  }
  return { rules, budgets, last };
}

const LEVELS: Record<Rule["level"], [string, "good" | "warn" | "bad"]> = { normal: ["Normal", "good"], warning: ["Warning", "warn"], alert: ["Alert", "bad"], no_data: ["No calls", "bad"] };

export function AlertRules() {
  const { mayChange, zone } = useSession();
  const live = useLive<Rules>("alert rules", load, 10_000);
  const [editing, setEditing] = useState<Rule | "new" | null>(null);
  const [failure, setFailure] = useState<Failure | null>(null);
  const [said, setSaid] = useState<string | null>(null);
  const act = async (done: () => Promise<unknown>, text: string) => {
    try {
      await done();
      setFailure(null);
      setSaid(text);
      live.reload();
    } catch (error) {
      setFailure(error as Failure);
    }
  };
  const remove = (rule: Rule) => {
    if (!confirm(`Remove the rule ${rule.name}? An alert of it gets its end.`)) return;
    void act(() => change("DELETE", `/api/v1/alert-rules/${rule.id}`), `The rule ${rule.name} was removed.`);
  };
  const pause = (rule: Rule) => {
    const text = rule.paused ? "is checked again." : "is paused: it is not checked and sends no message.";
    void act(() => change("PUT", "/api/v1/alert-rules", paused(rule, !rule.paused)), `The rule ${rule.name} ${text}`);
  };
  const columns = (data: Rules): Column<Rule>[] => [
    { key: "rule", label: "Rule", cell: (rule) => <span class="rule"><strong>{rule.name}</strong><br /><span class="fine">{condition(rule, budgetOf(data, rule))}</span></span> },
    { key: "state", label: "State", cell: (rule) => <State rule={rule} zone={zone} /> },
    { key: "owner", label: "Owner", wide: true, cell: (rule) => rule.owner || <span class="none">—</span> },
    { key: "route", label: "Route", cell: (rule) => <span>{rule.route}{rule.quiet && <span class="fine"> · quiet {rule.quiet}</span>}</span> },
    { key: "last", label: "Last alert", wide: true, cell: (rule) => <LastAlert alert={data.last.get(rule.id)} zone={zone} /> },
    ...(mayChange ? [{ key: "tools", label: <span class="hidden">Change</span>, number: true, cell: (rule: Rule) => (
      <span class="row-tools">
        <button type="button" aria-label={`Edit the rule ${rule.name}`} onClick={() => setEditing(rule)}>Edit</button>
        <button type="button" aria-label={`${rule.paused ? "Resume" : "Pause"} the rule ${rule.name}`} onClick={() => pause(rule)}>{rule.paused ? "Resume" : "Pause"}</button>
        <button type="button" aria-label={`Remove the rule ${rule.name}`} onClick={() => remove(rule)}>Remove</button>
      </span>
    ) }] : []),
  ];
  return (
    <>
      <Head title="Alert rules" lead={<>Conditions on spend, calls and errors, checked every minute. Their messages go to <a href="/docs/guide/alerts.html">routes</a>.</>} live={live}>
        {mayChange && <button type="button" class="primary" onClick={() => setEditing("new")}>Set a rule</button>}
      </Head>
      {failure && <Problem failure={failure} />}
      {said && <div class="notice good" role="status">{said}</div>}
      <Loaded live={live} rows={6}>
        {(data) => data.rules.length === 0 ? (
          <Empty title="No rule is set">A rule compares cost, calls, tokens, failed calls or a budget’s pace with two values, and sends a message from each of them on.</Empty>
        ) : <Card><Table caption="Alert rules" columns={columns(data)} rows={data.rules} id={(rule) => String(rule.id)} /></Card>}
      </Loaded>
      {editing && live.data && <RuleEditor rule={editing === "new" ? null : editing} known={live.data} onClose={() => setEditing(null)}
        onSaved={(text) => { setSaid(text); setFailure(null); setEditing(null); live.reload(); }} />}
    </>
  );
}

function budgetOf({ budgets }: Rules, rule: Rule): string {
  const budget = budgets.find(({ id }) => id === rule.budget_id);
  return budget ? `budget ${budgetName(budget)}` : `budget ${rule.budget_id}`;
}

function State({ rule, zone }: { rule: Rule; zone: string }) {
  const [label, tone] = LEVELS[rule.level];
  if (rule.paused) return <Badge tone="plain">Paused</Badge>;
  if (rule.since === null) return <span class="fine">not checked yet</span>;
  return (
    <div class="rule-state" title={`since ${instant(rule.since, zone)}`}>
      <div><Badge tone={tone}>{label}</Badge> <span class="fine">{ago(rule.since)}</span></div>
      {rule.value !== null && <span class="fine when">now {valueOf(rule.metric, rule.value)}</span>}
    </div>
  );
}

function LastAlert({ alert, zone }: { alert: Alert | undefined; zone: string }) {
  if (!alert) return <span class="none">—</span>;
  const failed = alert.delivery === "due" && alert.delivery_error !== "";
  return (
    <span class="fine" title={sentence(alert.message.replace(/^tallyd: /, ""))}>
      <a href={href("alerts", { show: "all" })}>{instant(alert.at, zone).slice(0, 16)}</a>{failed && <> <Badge tone="bad">not delivered</Badge></>}
    </span>
  );
}
