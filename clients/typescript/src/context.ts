// Who a call is made for, without passing it along: what a request's handler says holds for all that it awaits.

import { platform } from "./platform.js";
import type { UsageRecord } from "./record.js";

/** Fields that records made within get, unless they say otherwise. */
export type Context = Partial<Pick<UsageRecord, "user_id" | "endpoint" | "app" | "metadata" | "tags">>;

/** Tags of both; those of `inner` hold where both have one. */
function together(outer: Context["tags"], inner: Context["tags"]): { tags?: NonNullable<Context["tags"]> } {
  return outer && inner ? { tags: { ...outer, ...inner } } : {};
}

/** Runs `task`; what is recorded within has these fields. Contexts nest, and so do their tags. */
export function withContext<T>(context: Context, task: () => T): T {
  const outer = platform.context.getStore();
  return platform.context.run({ ...outer, ...context, ...together(outer?.tags, context.tags) }, task);
}

/** Runs `task`; records within have these tags beside their own: `tags({ team: "search" }, () => answer(question))`. */
export function tags<T>(tags: NonNullable<UsageRecord["tags"]>, task: () => T): T {
  return withContext({ tags }, task);
}

export function currentContext(): Context {
  return platform.context.getStore() ?? {};
}

/** A copy of the record within a context. A field that is `undefined` is one that was left out: it does not hide the context's. */
export function within(context: Context, record: UsageRecord): UsageRecord {
  const whole = { ...context, ...record, ...together(context.tags, record?.tags) };
  for (const name of Object.keys(context) as (keyof Context)[]) {
    if (record?.[name] === undefined) (whole as Record<string, unknown>)[name] = context[name];
  }
  return whole;
}

interface ExpressLike { method: string; path: string; baseUrl?: string; route?: { path?: unknown } }

export interface ExpressOptions<Request> {
  /** The user's id, from what your authentication has put into the request. */
  user?: (request: Request) => string | undefined;
  /** The endpoint's name. The request's path, if it is left out; name routes with ids in them, or each makes a row. */
  endpoint?: (request: Request) => string | undefined;
}

/** Of middleware that is mounted at a whole path, as NestJS does it, the rest is `/`. */
function pathOf({ baseUrl = "", path }: ExpressLike): string {
  return baseUrl && path === "/" ? baseUrl : `${baseUrl}${path}`;
}

/** Express middleware: calls that a request's handler makes are recorded for its user and its endpoint. */
export function express<Request extends ExpressLike>(options: ExpressOptions<Request> = {}) {
  return (request: Request, _response: unknown, next: () => void): void => {
    const context: Context = {};
    const user = options.user?.(request);
    const endpoint = options.endpoint ? options.endpoint(request) : pathOf(request);
    if (user) context.user_id = user;
    if (endpoint) context.endpoint = endpoint;
    withContext(context, next);
  };
}
