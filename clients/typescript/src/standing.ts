// The state of budgets by the daemon's last message, and whether a call may be made. Answers need no network.

import type { BudgetStatus } from "./answers.js";
import { type Scoped, Scopes, inWords, isAbove, isAmount, namesIn, type Told } from "./scopes.js";
import { elapsed } from "./timers.js";
import type { Budgets } from "./wire.js";

/** How long the daemon's last message counts, in milliseconds: five of the intervals at which the daemon repeats it. */
export const BELIEVED = 5 * 60_000;

/** Whether a call may be made, and why not. */
export interface Check {
  readonly allowed: boolean;
  /** Whether the daemon has sent the state of budgets within the last 5 minutes. If not, the option `denyUnknown` decides. */
  readonly known: boolean;
  /** Of a refused call: the reason as a sentence, such as `the budget of tag team "search" is used up`. */
  readonly reason?: string;
  /** Of a refused call: the budget's scope, such as `{"tag:team": "search"}`. `{}` is all spend. */
  readonly scope?: Readonly<Record<string, string>>;
  /**
   * USD as decimal text: the least that remains of the budgets that the call counts towards, `"0"` once one is used up. The daemon names the
   * amount from a budget's warning on; undefined before it, and without such a budget.
   */
  readonly remaining?: string;
}

const ALLOWED: Check = Object.freeze({ allowed: true, known: true });
export const UNKNOWN: Check = Object.freeze({ allowed: true, known: false });
const DENIED: Check = Object.freeze({ allowed: false, known: false, reason: "the state of budgets is not known, and the recorder is set to deny calls then" });

/** A call that was not made, because {@link Check} refused it. */
export class BudgetExceededError extends Error {
  override readonly name = "BudgetExceededError";
  readonly check: Check;

  constructor(check: Check) {
    super(`tallyd: the call was not made: ${check.reason ?? "it was refused"}`);
    this.check = check;
  }

  /** The error itself, or the one that an SDK's helper has put into its own as `cause`; undefined for any other error. */
  static of(error: unknown): BudgetExceededError | undefined {
    for (let depth = 0; error instanceof Error && depth < 8; depth += 1, error = error.cause) {
      if (error instanceof BudgetExceededError) return error;
    }
    return undefined;
  }
}

export class Standing {
  #heard = -Infinity;
  #status: BudgetStatus = "normal";
  #scopes = new Scopes();

  /** `denies`: refuse calls while the state is not known. */
  constructor(readonly denies = false) {}

  /** Takes the daemon's message. `now` is in milliseconds of {@link elapsed}. */
  hear({ budget, used_up = [], left = [] }: Budgets, now = elapsed()): void {
    const scopes = new Scopes();
    if (budget?.should_throttle) scopes.add({}, undefined);
    for (const scope of used_up) scopes.add(scope, undefined);
    for (const { scope, usd } of left) if (isAmount(usd)) scopes.add(scope, usd);
    [this.#heard, this.#status, this.#scopes] = [now, budget?.status ?? "normal", scopes];
  }

  /** How the budgets of everything stand. */
  status(now = elapsed()): BudgetStatus {
    return this.#isBelieved(now) ? this.#status : "normal";
  }

  /** Whether the call may be made. `estimate`: USD as decimal text; undefined without one. */
  check(call: Scoped, estimate: string | undefined, now = elapsed()): Check {
    if (!this.#isBelieved(now)) return this.denies ? DENIED : UNKNOWN;
    const least = this.#scopes.least(call);
    if (!least) return ALLOWED;
    const { usd } = least;
    if (usd === undefined) return refused(least, call, "0", "is used up");
    if (estimate === undefined || !isAbove(estimate, usd)) return { allowed: true, known: true, remaining: usd };
    return refused(least, call, usd, `has ${usd} USD left, and the call may cost ${estimate} USD`);
  }

  #isBelieved(now: number): boolean {
    return now - this.#heard < BELIEVED;
  }
}

function refused(told: Told, call: Scoped, remaining: string, why: string): Check {
  const scope = namesIn(told, call);
  return { allowed: false, known: true, reason: `the budget of ${inWords(scope)} ${why}`, scope, remaining };
}
