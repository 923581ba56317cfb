// A `fetch` that passes calls through unchanged, and records the usage of each.
//
// Every attempt is a call. An attempt that failed with 529 is recorded with that status, and the SDK's retry is a record of its own. The
// application gets the vendor's answer byte for byte; a stream is copied while it passes.

import { currentContext } from "./context.js";
import type { Recorder } from "./recorder.js";
import { ABORTED, type Call, finish, observed, UNTOLD } from "./observe.js";
import type { UsageRecord } from "./record.js";
import { BudgetExceededError } from "./standing.js";
import { elapsed } from "./timers.js";
import { familyOf, isVendor, modelOf, providerOf } from "./vendors.js";

export type Fetch = (input: string | URL | Request, init?: RequestInit) => Promise<Response>;

export interface FetchOptions {
  /** Provider of the records; default: derived from the host. A model vendor's answers are read for tokens; any other call is one request. */
  provider?: string;
  /** Fields for each record. They win over those of the context. */
  fields?: Partial<UsageRecord>;
  /** `"enforce"`: a call that {@link Recorder.check} refuses is not sent and not recorded, and rejects with a {@link BudgetExceededError}. */
  limits?: "enforce" | undefined;
  /** The wrapped `fetch`; default: the global one. */
  fetch?: Fetch;
}

/** The status of a call without an answer. */
const UNREACHABLE = 599;
/** Marks a request, or a `fetch`, that is recorded already. */
const SEEN = Symbol.for("tallyd.seen");
/** Errors after which the request was certainly not sent. */
const UNSENT = new Set(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH", "UND_ERR_CONNECT_TIMEOUT"]);

/**
 * A `fetch` that records each call. Not recorded are: calls to unknown hosts without `options.provider`, and calls to model vendors that are
 * not billed, such as lists, token counts, batches and files. Rejects as the wrapped `fetch` does; recording adds no errors.
 */
export function recordingFetch(recorder: Recorder, options: FetchOptions = {}): Fetch {
  return recording(recorder, options, false);
}

function recording(recorder: Recorder, options: FetchOptions, isModels: boolean): Fetch {
  const inner: Fetch = options.fetch ?? ((input, init) => globalThis.fetch(input, init));
  const recorded: Fetch = async (input, init) => {
    if (recorder.isOff || (init as { [SEEN]?: true } | undefined)?.[SEEN]) return await inner(input, init);
    const url = new URL(input instanceof Request ? input.url : input);
    const provider = options.provider ?? providerOf(url.hostname);
    if (!provider || !url.protocol.startsWith("http")) return await inner(input, init);
    const method = init?.method ?? (input instanceof Request ? input.method : "GET");
    const family = isModels || isVendor(provider) ? familyOf(method, url.pathname) : undefined;
    if (!family && (isModels || isVendor(provider))) return await inner(input, init);
    const [asked, hidesUsage] = withUsage(provider, url, init);
    // The context of now: the answer may be read in another one.
    const record = { provider, endpoint: url.pathname, ...currentContext(), ...options.fields } as UsageRecord;
    const model = modelIn(init?.body) ?? modelOf(url.pathname);
    if (model) record.model = model;
    if (options.limits) {
      if (!model && family && input instanceof Request) record.model = modelIn(await input.clone().text()) ?? "";
      enforce(recorder, record);
    }
    const call: Call = { recorder, record, family, started: elapsed(), done: false };
    let response: Response;
    try {
      // A recording fetch inside this one passes the request through.
      response = await inner(input, { ...asked, [SEEN]: true } as RequestInit);
    } catch (error) {
      const aborted = init?.signal?.aborted ?? (error instanceof Error && error.name === "AbortError");
      // A request that was sent and not answered may have been billed.
      finish(call, { status: aborted ? ABORTED : UNREACHABLE, requests: 0, ...(family && !isUnsent(error) ? UNTOLD : {}) });
      throw error;
    }
    record.status = response.status;
    record.request_id = response.headers.get("request-id") ?? response.headers.get("x-request-id") ?? "";
    if (!response.ok) {
      finish(call, { requests: 0 });
      return response;
    }
    if (!family) {
      finish(call, {});
      return response;
    }
    return observed(response, call, family, hidesUsage);
  };
  return Object.assign(recorded, { [SEEN]: true });
}

/** Throws a {@link BudgetExceededError} if the call may not be made. */
function enforce(recorder: Recorder, { provider, model, user_id, app, tags }: UsageRecord): void {
  const check = recorder.check({ provider, model, user: user_id, app, tags });
  if (!check.allowed) throw new BudgetExceededError(check);
}

function isUnsent(error: unknown): boolean {
  const { cause } = error as { cause?: { code?: string; errors?: { code?: string }[] } };
  return [cause?.code, ...(cause?.errors ?? []).map(({ code }) => code)].some((code) => code !== undefined && UNSENT.has(code));
}

function modelIn(body: unknown): string | undefined {
  if (typeof body !== "string") return undefined;
  try {
    const model = (JSON.parse(body) as { model?: unknown } | null)?.model;
    return typeof model === "string" ? model : undefined;
  } catch {
    return undefined;
  }
}

/** Providers that accept `stream_options.include_usage`, and send a streamed chat's usage only with it. */
const ASKED = new Set(["openai", "azure", "deepseek", "xai", "groq", "together", "fireworks", "moonshot"]);

/** Asks for the usage of a streamed chat. Returns the request to send, and whether the stream has an added event to remove. */
function withUsage(provider: string, url: URL, init: RequestInit | undefined): [RequestInit | undefined, boolean] {
  if (!ASKED.has(provider) || !url.pathname.endsWith("/chat/completions") || typeof init?.body !== "string") return [init, false];
  try {
    const body = JSON.parse(init.body) as { stream?: boolean; stream_options?: { include_usage?: boolean } };
    if (!body.stream || body.stream_options?.include_usage) return [init, false];
    const text = JSON.stringify({ ...body, stream_options: { ...body.stream_options, include_usage: true } });
    const headers = new Headers(init.headers);
    headers.delete("content-length");
    return [{ ...init, body: text, headers }, true];
  } catch {
    return [init, false];
  }
}

/** A client of the Anthropic or OpenAI SDK. */
export interface Instrumentable { baseURL: string }

/**
 * Records every billed call of an Anthropic or OpenAI SDK client, and with `limits` refuses those beyond a budget. Returns the same client; a second
 * call changes nothing, except that it may add `limits`. Throws a TypeError if the client has no `fetch` of its own, or if its vendor is unknown and `options.provider` is missing.
 */
export function instrument<Client extends Instrumentable>(recorder: Recorder, client: Client, options: Omit<FetchOptions, "fetch"> = {}): Client {
  const own = client as unknown as { fetch?: Fetch & { [SEEN]?: true } };
  if (typeof own.fetch !== "function") throw new TypeError("this is no client of the Anthropic or OpenAI SDK: it has no fetch of its own");
  // By its properties, not its class's name: bundlers rename classes.
  const sdk = "chat" in client ? "openai" : "messages" in client ? "claude" : undefined;
  const provider = options.provider ?? providerOf(new URL(client.baseURL).hostname) ?? sdk;
  if (!provider) throw new TypeError(`whose API is ${client.baseURL}? Name it: instrument(recorder, client, { provider: "…" })`);
  if (!own.fetch[SEEN]) own.fetch = recording(recorder, { ...options, provider, fetch: own.fetch }, true);
  if (options.limits) guard(client as Guardable, recorder, { provider, ...options.fields });
  return client;
}

interface SdkRequest { method: string; path: string; body?: unknown }
interface Guardable { prepareOptions?: (request: SdkRequest) => Promise<void>; withOptions?: (options: unknown) => Guardable; [GUARDED]?: true }

/** Marks a client whose calls are checked. */
const GUARDED = Symbol.for("tallyd.guarded");

/** Checks calls before the SDK sends them: it would repeat a call whose `fetch` fails, and put the error into one of its own. Copies are checked, too. */
function guard(client: Guardable, recorder: Recorder, fields: UsageRecord): void {
  const { prepareOptions, withOptions } = client;
  if (client[GUARDED] || !prepareOptions) return;
  client[GUARDED] = true;
  client.prepareOptions = async (request) => {
    const model = fields.model ?? (request.body as { model?: unknown } | undefined)?.model;
    const isBilled = familyOf(request.method, new URL(request.path, "http://sdk").pathname);
    if (isBilled && !recorder.isOff) enforce(recorder, { ...fields, ...(typeof model === "string" ? { model } : {}) });
    await prepareOptions.call(client, request);
  };
  if (!withOptions) return;
  client.withOptions = (options) => {
    const copy = withOptions.call(client, options);
    guard(copy, recorder, fields);
    return copy;
  };
}
