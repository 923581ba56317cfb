// A call before it is made, completed as its record would be.

import type { Context } from "./context.js";
import type { Decimal, UsageRecord } from "./fields.js";
import { platform } from "./platform.js";
import { decimal } from "./record.js";
import { isAmount, type Scoped } from "./scopes.js";

/** The properties of a call that budgets are set for. */
export interface CallScope {
  provider?: string | undefined;
  /** Budgets of its family count, too; the family is the name without a date. */
  model?: string | undefined;
  user?: string | undefined;
  app?: string | undefined;
  /** Beside those of the context and the recorder. */
  tags?: UsageRecord["tags"] | undefined;
  /** What the call may cost, in USD: it is refused if a budget has less left. Compared to the last digit of its decimal text. */
  estimate?: Decimal | undefined;
}

/** The estimate as decimal text. Throws a RangeError if it is not a finite number that is at least 0. */
export function estimated({ estimate }: CallScope): string | undefined {
  if (estimate === undefined || estimate === null) return undefined;
  const text = typeof estimate === "number" && !Number.isFinite(estimate) ? "" : decimal(estimate);
  if (!isAmount(text)) throw new RangeError(`tallyd: check: the estimate is ${String(estimate)}. It must be an amount in USD: a finite number, at least 0`);
  return text;
}

/** The values that the call's record would have: its own, then those of the context, then those of the recorder. */
export function scoped(call: CallScope, context: Context, recorder: { app: string; tags?: UsageRecord["tags"] }): Scoped {
  const layers = [call.tags, context.tags, recorder.tags];
  const tag = (name: string): string | undefined => {
    for (const tags of layers) if (tags && Object.hasOwn(tags, name)) return stored(name, tags[name]);
    return undefined;
  };
  return { provider: call.provider, model: call.model, user: call.user || context.user_id, app: call.app || context.app || recorder.app || tag("app"), tag };
}

const KEY = /^api_key$/i;
const HASHED = /^sha256:[0-9a-f]{12}$/;
const KEYS_MAX = 1_024;
/** Hashes of API keys: a process has few of them. */
const hashes = new Map<string, string>();

/** A tag's value as the daemon stores it: of an API key only a short hash. */
function stored(name: string, value: unknown): string | undefined {
  if (value === undefined || value === null) return undefined;
  const text = String(value);
  if (text === "" || !KEY.test(name) || HASHED.test(text)) return text;
  let hash = hashes.get(text);
  if (hash === undefined) {
    if (hashes.size >= KEYS_MAX) hashes.clear();
    hashes.set(text, (hash = `sha256:${platform.sha256(text).slice(0, 12)}`));
  }
  return hash;
}
