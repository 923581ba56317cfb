// Recording by looking on: a `fetch` that lets everything through unchanged, and records what each call used.
//
// Every attempt is a call: one that the SDK makes again after a 529 is recorded with its status, and then once more. What the
// application gets is the vendor's answer, byte for byte; of a stream a copy is read as it passes by.

import { currentContext } from "./context.js";
import type { Recorder } from "./recorder.js";
import { ABORTED, type Call, finish, observed, UNTOLD } from "./observe.js";
import type { UsageRecord } from "./record.js";
import { elapsed } from "./timers.js";
import { familyOf, isVendor, modelOf, providerOf } from "./vendors.js";

export type Fetch = (input: string | URL | Request, init?: RequestInit) => Promise<Response>;

export interface FetchOptions {
  /** Vendors of models are read for their tokens; any other is recorded as one request. Told by the host, if it is left out. */
  provider?: string;
  /** Fields of each record. */
  fields?: Partial<UsageRecord>;
  /** The `fetch` that is called; the global one, if it is left out. */
  fetch?: Fetch;
}

/** No answer came. */
const UNREACHABLE = 599;
/** On a request, and on a `fetch`: it is recorded already. */
const SEEN = Symbol.for("tallyd.seen");
/** Why a request was never sent. */
const UNSENT = new Set(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH", "UND_ERR_CONNECT_TIMEOUT"]);

/**
 * A `fetch` that records each call. Calls to hosts that nobody named a provider for are let through, unrecorded; so is what a
 * vendor of models does not bill by the call: lists, counts of tokens, batches, files.
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
    // What holds now: the answer may be read by somebody else.
    const record = { provider, endpoint: url.pathname, ...currentContext(), ...options.fields } as UsageRecord;
    const model = requested(init) ?? modelOf(url.pathname);
    if (model) record.model = model;
    const call: Call = { recorder, record, family, started: elapsed(), done: false };
    let response: Response;
    try {
      // A recording fetch within this one lets it through.
      response = await inner(input, { ...asked, [SEEN]: true } as RequestInit);
    } catch (error) {
      const aborted = init?.signal?.aborted ?? (error instanceof Error && error.name === "AbortError");
      // What was sent and never answered may have been billed.
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

function isUnsent(error: unknown): boolean {
  const { cause } = error as { cause?: { code?: string; errors?: { code?: string }[] } };
  return [cause?.code, ...(cause?.errors ?? []).map(({ code }) => code)].some((code) => code !== undefined && UNSENT.has(code));
}

function requested(init: RequestInit | undefined): string | undefined {
  if (typeof init?.body !== "string") return undefined;
  try {
    const model = (JSON.parse(init.body) as { model?: unknown }).model;
    return typeof model === "string" ? model : undefined;
  } catch {
    return undefined;
  }
}

/** Those that tell a streamed chat's usage only if asked, and take the question. */
const ASKED = new Set(["openai", "azure", "deepseek", "xai", "groq", "together", "fireworks", "moonshot"]);

/** OpenAI tells a streamed chat's usage only if asked. It is asked, and what it adds to the stream is taken out again. */
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

/** A client of an official SDK: it calls its own `fetch`. */
export interface Instrumentable { baseURL: string }

/** Records every call of an Anthropic or OpenAI client, from what the vendor's answers say. Returns the client. Doing so twice changes nothing. */
export function instrument<Client extends Instrumentable>(recorder: Recorder, client: Client, options: Omit<FetchOptions, "fetch"> = {}): Client {
  const own = client as unknown as { fetch?: Fetch & { [SEEN]?: true } };
  if (typeof own.fetch !== "function") throw new TypeError("this is no client of the Anthropic or OpenAI SDK: it has no fetch of its own");
  // What it has, not what its class is called: bundlers rename classes.
  const sdk = "chat" in client ? "openai" : "messages" in client ? "claude" : undefined;
  const provider = options.provider ?? providerOf(new URL(client.baseURL).hostname) ?? sdk;
  if (!provider) throw new TypeError(`whose API is ${client.baseURL}? Name it: instrument(recorder, client, { provider: "…" })`);
  if (own.fetch[SEEN]) return client;
  own.fetch = recording(recorder, { ...options, provider, fetch: own.fetch }, true);
  return client;
}
