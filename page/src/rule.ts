// Alert rules: read from a form, checked, and told in words.

import { count, noun, percentage } from "./format";
import { parse, usd } from "./money";

export type Metric = "cost" | "calls" | "tokens" | "error_percent" | "unpriced_calls" | "cost_per_call" | "burn_rate" | "forecast_percent";

/** A rule as the API takes it. */
export interface NewRule {
  name: string;
  metric: Metric;
  filter: Record<string, string>;
  window: string | null;
  short_window: string | null;
  warning: string | null;
  alert: string | null;
  no_data: boolean;
  budget_id: number | null;
  owner: string;
  route: string;
  quiet: string | null;
  paused: boolean;
}

export interface Rule extends NewRule {
  id: number;
  level: "normal" | "warning" | "alert" | "no_data";
  since: string | null;
  value: string | null;
}

export const METRICS: readonly (readonly [Metric, string, string])[] = [
  ["cost", "Cost", "USD"], ["calls", "Calls", "calls"], ["tokens", "Tokens", "tokens"], ["error_percent", "Failed calls", "%"], ["unpriced_calls", "Unpriced calls", "calls"],
  ["cost_per_call", "Cost per call", "USD"], ["burn_rate", "Burn rate of a budget", "times even"], ["forecast_percent", "Forecast of a budget", "% of the budget"],
];

export const isOfBudget = (metric: Metric): boolean => metric === "burn_rate" || metric === "forecast_percent";

/** The same rule, paused or not, as the API takes it. */
export function paused(rule: Rule, isPaused: boolean): NewRule {
  const { id: _id, level: _level, since: _since, value: _value, ...set } = rule;
  return { ...set, paused: isPaused };
}

/** A value with the unit of its metric. */
export function valueOf(metric: Metric, value: string): string {
  if (metric === "cost" || metric === "cost_per_call") return usd(parse(value));
  if (metric === "error_percent" || metric === "forecast_percent") return percentage(Number(value));
  return metric === "burn_rate" ? `${Number(Number(value).toFixed(2))} × even` : count(Number(value));
}

/** A filter's key in a sentence: of a tag, its name. */
export const keyName = (key: string): string => key.replace(/^tag:/, "");

/** "24h" as "24 hours". */
export function windowOf(text: string): string {
  return text.endsWith("h") ? noun(Number.parseInt(text, 10), "hour", "hours") : noun(Number.parseInt(text, 10), "day", "days");
}

/** The condition in a sentence. `budget` names the rule's budget. */
export function condition(rule: NewRule, budget: string): string {
  const metric = METRICS.find(([name]) => name === rule.metric)?.[1] ?? rule.metric;
  const windows = [rule.window, rule.short_window].filter((one) => one !== null).map(windowOf).join(" and ");
  const of = Object.entries(rule.filter).map(([key, value]) => `${keyName(key)} ${value}`);
  if (rule.budget_id !== null) of.push(budget);
  const levels = [rule.warning && `warning from ${valueOf(rule.metric, rule.warning)}`, rule.alert && `alert from ${valueOf(rule.metric, rule.alert)}`, rule.no_data && "alert without calls"].filter(Boolean);
  return [`${metric}${windows && ` in ${windows}`}`, ...of, levels.join(", ")].join(" · ");
}

/** A field of the form with a wrong value, and the fault. */
export class Wrong extends Error {
  constructor(readonly field: string, message: string) {
    super(message);
  }
}

const WINDOW = /^([1-9]\d{0,3})([hd])$/;
const CLOCK = /^([01]\d|2[0-3]):[0-5]\d$/;
const AMOUNT = /^\d{1,10}(\.\d{1,18})?$/;

function window(field: string, text: string): string {
  const [, size = "0", unit] = WINDOW.exec(text) ?? [];
  if (unit === undefined || Number(size) > (unit === "h" ? 2_160 : 90)) throw new Wrong(field, `“${text}” is not a window. Write 1h to 2160h, or 1d to 90d.`);
  return text;
}

function amount(field: string, text: string): string | null {
  if (text === "") return null;
  const plain = text.replace(/^\$|\s*%$/g, "").replaceAll(",", "");
  if (!AMOUNT.test(plain) || parse(plain) === 0n) throw new Wrong(field, `“${text}” is not a number above 0.`);
  return plain;
}

function quiet(text: string): string | null {
  if (text === "") return null;
  const [from = "", to = "", ...more] = text.split("-").map((part) => part.trim());
  if (!CLOCK.test(from) || !CLOCK.test(to) || more.length > 0 || from === to) throw new Wrong("quiet", `“${text}” is not a part of the day. Write two times, such as 22:00-07:00.`);
  return `${from}-${to}`;
}

/** Reads the form's fields, of a rule that is not paused. Throws [`Wrong`] for the first field whose value the API would not take. */
export function ruleOf(text: (name: string) => string, noData: boolean): NewRule {
  const metric = text("metric") as Metric;
  const isBudgets = isOfBudget(metric);
  const filter: Record<string, string> = {};
  if (!isBudgets) {
    for (const name of ["provider", "model"]) if (text(name)) filter[name] = text(name);
    const other = text("other");
    if (other && !text("value")) throw new Wrong("value", `Name the ${keyName(other)}, or choose none.`);
    if (other === "user" && text("model")) throw new Wrong("model", "A user goes with a provider alone. Leave the model out.");
    if (other) filter[other] = text("value");
  }
  const name = text("name");
  if (name === "") throw new Wrong("name", "A rule has a name.");
  if (isBudgets && text("budget") === "") throw new Wrong("budget", "Choose a budget. Budgets sets one.");
  const rule: NewRule = {
    name, metric, filter, no_data: !isBudgets && noData, owner: text("owner"), route: text("route") || "default",
    window: metric === "forecast_percent" ? null : window("window", text("window")),
    short_window: metric === "burn_rate" ? window("short_window", text("short_window")) : null,
    warning: amount("warning", text("warning")), alert: amount("alert", text("alert")),
    budget_id: isBudgets ? Number(text("budget")) : null, quiet: quiet(text("quiet")), paused: false,
  };
  const { warning, alert } = rule;
  if (warning !== null && alert !== null && parse(warning) >= parse(alert)) throw new Wrong("warning", `The warning of ${warning} is not below the alert of ${alert}.`);
  if (warning === null && alert === null && !rule.no_data) throw new Wrong("alert", "The rule would never apply. Give a warning, an alert, or choose the alert without calls.");
  if (rule.short_window !== null && rule.window !== null) {
    const [long, short] = [rule.window, rule.short_window];
    if (long.at(-1) !== short.at(-1) || Number.parseInt(short, 10) >= Number.parseInt(long, 10)) throw new Wrong("short_window", `“${short}” is not shorter than “${long}” in the same unit, such as 6h and 1h.`);
  }
  if (rule.window?.endsWith("h") && Object.keys(filter).some((key) => key !== "provider" && key !== "model")) throw new Wrong("window", "Sums by hour have a provider and a model alone. Give the window in days.");
  return rule;
}

/** The form's fields that an error of the API is about. */
export function fieldOf(message: string): string | null {
  const [, named = ""] = /^([\w ]+?):/.exec(message) ?? [];
  const first = named.toLowerCase().split(" and ")[0] ?? "";
  return { filter: "other", budget_id: "budget" }[first] ?? (["name", "route", "window", "short_window", "warning", "owner"].includes(first) ? first : null);
}
