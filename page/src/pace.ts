// How fast a budget is used, and when it will be used up.

import { addDays, daysBetween } from "./format";
import { type Attos, parse } from "./money";
import type { BudgetState } from "./types";

export interface Pace {
  /** The expected spend of the period. */
  expected: Attos;
  /** The day on which the budget is used up; null if it lasts. */
  usedUp: string | null;
  /** Whether that day has been. */
  isPast: boolean;
}

/** The pace from the forecast of the period, or without one from the mean of its days so far. */
export function paceOf(budget: BudgetState, spend: Attos[], now: string): Pace {
  const [spent, amount] = [spend[spend.length - 1] ?? 0n, parse(budget.amount_usd)];
  const left = BigInt(Math.max(0, daysBetween(now, budget.period_end) - 1));
  const forecast = budget.forecast?.expected_usd;
  const whole = spend.length > 1 ? (spend[spend.length - 2] ?? 0n) / BigInt(spend.length - 1) : spent;
  const expected = forecast === undefined || forecast === null ? spent + whole * left : parse(forecast);
  const past = spend.findIndex((sum) => sum >= amount);
  if (past >= 0 && amount > 0n) return { expected, usedUp: addDays(budget.period_start, past), isPast: true };
  if (expected < amount || expected <= spent) return { expected, usedUp: null, isPast: false };
  // The rest of today counts as a day.
  const days = left + 1n;
  return { expected, usedUp: addDays(now, Number(((amount - spent) * days) / (expected - spent))), isPast: false };
}
