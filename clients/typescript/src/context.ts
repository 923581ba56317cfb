// The user, endpoint and application of a call, set once per request and kept across `await`.

import { platform } from "./platform.js";
import type { UsageRecord } from "./record.js";

/** Fields for all records within a context. A record's own fields win. */
export type Context = Partial<Pick<UsageRecord, "user_id" | "endpoint" | "app" | "metadata" | "tags">>;

/** Tags of both; those of `inner` hold where both have one. */
function together(outer: Context["tags"], inner: Context["tags"]): { tags?: NonNullable<Context["tags"]> } {
  return outer && inner ? { tags: { ...outer, ...inner } } : {};
}

/** Runs `task` and returns its result. Records made within it, also after an `await`, get the fields of `context`. Contexts nest, and so do their tags. */
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

/** A copy of the record with the context's fields. A field that is `undefined` counts as left out, so the context's value stays. */
export function within(context: Context, record: UsageRecord): UsageRecord {
  const whole = { ...context, ...record, ...together(context.tags, record?.tags) };
  for (const name of Object.keys(context) as (keyof Context)[]) {
    if (record?.[name] === undefined) (whole as Record<string, unknown>)[name] = context[name];
  }
  return whole;
}

interface ExpressLike { method: string; path: string; baseUrl?: string; route?: { path?: unknown } }

export interface ExpressOptions<Request> {
  /** The user's id, from the data that your authentication has put into the request. */
  user?: (request: Request) => string | undefined;
  /** The endpoint's name; default: the request's path. Give a name to routes with ids in their paths, or each id makes a row of its own. */
  endpoint?: (request: Request) => string | undefined;
}

/** For middleware that is mounted at a complete path, as NestJS does, `path` is `/`, and `baseUrl` has the whole path. */
function pathOf({ baseUrl = "", path }: ExpressLike): string {
  return baseUrl && path === "/" ? baseUrl : `${baseUrl}${path}`;
}

/** Express middleware: calls that a request's handler makes are recorded with the request's user and endpoint. */
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
