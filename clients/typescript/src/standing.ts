// The state of budgets by the daemon's last message, and whether a call should be held back. Answers need no network.

import type { BudgetStatus } from "./answers.js";
import { elapsed } from "./timers.js";
import type { Budgets } from "./wire.js";

/** How long the daemon's last message counts, in milliseconds: five of the intervals at which the daemon repeats it. */
export const BELIEVED = 5 * 60_000;

/** The properties of a call that budgets are set for. */
export interface CallScope {
  provider?: string | undefined;
  /** Budgets of its family count, too; the family is the name without a date. */
  model?: string | undefined;
  user?: string | undefined;
  app?: string | undefined;
}

const DIMENSIONS = ["provider", "model", "user", "app"] as const;
type Dimension = (typeof DIMENSIONS)[number];

const isKnown = (name: string): name is Dimension => (DIMENSIONS as readonly string[]).includes(name);

/** `-20250514`, `@20250514` or `-2025-05-14`: a year of this century, a month and a day that exist in some year. */
const DATE = /(?<=[^])(?:[-@]20\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])|-20\d\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01]))$/;

export class Standing {
  #heard = -Infinity;
  #status: BudgetStatus = "normal";
  #everything = false;
  #single = new Map<Dimension, Set<string>>();
  /** Scopes of several dimensions, all of which have to match. */
  #several: [Dimension, string[]][][] = [];

  /** Takes the daemon's message. `now` is in milliseconds of {@link elapsed}. */
  hear({ budget, used_up = [] }: Budgets, now = elapsed()): void {
    this.#heard = now;
    this.#status = budget?.status ?? "normal";
    this.#everything = budget?.should_throttle ?? false;
    this.#single = new Map(DIMENSIONS.map((name) => [name, new Set()]));
    this.#several = [];
    for (const scope of used_up) {
      const dimensions = Object.entries(scope);
      // A newer daemon may know more dimensions. This client cannot tell whether a call counts towards such a scope.
      const known = dimensions.filter((dimension): dimension is [Dimension, string[]] => isKnown(dimension[0]));
      if (known.length < dimensions.length) continue;
      const [first] = known;
      if (!first) this.#everything = true;
      else if (known.length === 1) for (const name of first[1]) this.#single.get(first[0])!.add(name);
      else this.#several.push(known);
    }
  }

  /** Whether a budget of everything is used up. */
  everything(now = elapsed()): boolean {
    return this.#everything && this.#isBelieved(now);
  }

  /** How the budgets of everything stand. */
  status(now = elapsed()): BudgetStatus {
    return this.#isBelieved(now) ? this.#status : "normal";
  }

  /** Whether a budget that the call counts towards is used up. */
  holdsBack(call: CallScope, now = elapsed()): boolean {
    if (!this.#isBelieved(now)) return false;
    if (this.#everything) return true;
    const counts = (dimension: Dimension, has: (name: string) => boolean): boolean => {
      const name = call[dimension];
      if (!name) return false;
      if (dimension === "provider") return has(name.trim().toLowerCase());
      return has(name) || (dimension === "model" && has(name.replace(DATE, "")));
    };
    return DIMENSIONS.some((dimension) => counts(dimension, (name) => this.#single.get(dimension)!.has(name)))
      || this.#several.some((scope) => scope.every(([dimension, names]) => counts(dimension, (name) => names.includes(name))));
  }

  #isBelieved(now: number): boolean {
    return now - this.#heard < BELIEVED;
  }
}
