// Recording by looking on: a `fetch` that lets everything through unchanged, and records what each call used.
//
// Every attempt is a call: one that the SDK makes again after a 529 is recorded with its status, and then once more. What the
// application gets is the vendor's answer, byte for byte; of a stream a copy is read as it passes by.

import { currentContext } from "./context.js";
import type { Recorder } from "./recorder.js";
import type { UsageRecord } from "./record.js";
import { anthropic, openai, StreamUsage, type Usage } from "./usage.js";

export type Fetch = (input: string | URL | Request, init?: RequestInit) => Promise<Response>;

export interface FetchOptions {
  /** `claude` and `openai` are read for their tokens; any other is recorded as one request. Told by the host, if it is left out. */
  provider?: string;
  /** Fields of each record. */
  fields?: Partial<UsageRecord>;
  /** The `fetch` that is called; the global one, if it is left out. */
  fetch?: Fetch;
}

const HOSTS: Record<string, string> = { "api.anthropic.com": "claude", "api.openai.com": "openai", "api.rentcast.io": "rentcast" };
/** The client closed the request. */
const ABORTED = 499;
/** No answer came. */
const UNREACHABLE = 599;
/** Answers beyond this are not read for their usage; no vendor's is. */
const BODY_BYTES_MAX = 16 * 1024 * 1024;

/** Events after which none follows. */
const LAST = new Set(["message_stop", "response.completed", "response.incomplete", "response.failed"]);

interface Call { recorder: Recorder; record: UsageRecord; started: number; done: boolean }

function finish(call: Call, changes: Partial<UsageRecord>): void {
  if (call.done) return;
  call.done = true;
  call.recorder.record({ ...call.record, latency_ms: Math.round(performance.now() - call.started), ...changes });
}

/** A `fetch` that records each call. Calls to hosts that nobody named a provider for are let through, unrecorded. */
export function recordingFetch(recorder: Recorder, options: FetchOptions = {}): Fetch {
  const inner: Fetch = options.fetch ?? ((input, init) => globalThis.fetch(input, init));
  return async (input, init) => {
    const url = new URL(input instanceof Request ? input.url : input);
    const provider = options.provider ?? HOSTS[url.hostname];
    if (!provider) return await inner(input, init);
    const [asked, hidesUsage] = withUsage(provider, url, init);
    // What holds now: the answer may be read by somebody else.
    const record = { provider, endpoint: url.pathname, ...currentContext(), ...options.fields } as UsageRecord;
    const model = requested(init);
    if (model) record.model = model;
    const call: Call = { recorder, record, started: performance.now(), done: false };
    let response: Response;
    try {
      response = await inner(input, asked);
    } catch (error) {
      const aborted = init?.signal?.aborted ?? (error instanceof Error && error.name === "AbortError");
      finish(call, { status: aborted ? ABORTED : UNREACHABLE, requests: 0 });
      throw error;
    }
    record.status = response.status;
    record.request_id = response.headers.get("request-id") ?? response.headers.get("x-request-id") ?? "";
    if (!response.ok) {
      finish(call, { requests: 0 });
      return response;
    }
    if ((provider !== "claude" && provider !== "openai") || !response.body) {
      finish(call, {});
      return response;
    }
    const stream = response.headers.get("content-type")?.includes("text/event-stream") ?? false;
    return observed(response, stream ? new Events(call, provider, hidesUsage) : new Whole(call, provider));
  };
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

/** OpenAI tells a streamed chat's usage only if asked. It is asked, and what it adds to the stream is taken out again. */
function withUsage(provider: string, url: URL, init: RequestInit | undefined): [RequestInit | undefined, boolean] {
  if (provider !== "openai" || !url.pathname.endsWith("/chat/completions") || typeof init?.body !== "string") return [init, false];
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

interface Observer {
  /** Looks at a piece, and returns what goes on to the application. */
  piece(bytes: Uint8Array): Uint8Array;
  end(): Uint8Array | undefined;
  aborted(): void;
}

/** The same answer, whose body an observer sees as it passes by. */
function observed(response: Response, observer: Observer): Response {
  const reader = response.body!.getReader();
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        for (;;) {
          const { done, value } = await reader.read();
          if (done) {
            const rest = observer.end();
            if (rest && rest.length > 0) controller.enqueue(rest);
            return controller.close();
          }
          const passed = observer.piece(value);
          if (passed.length > 0) return controller.enqueue(passed);
        }
      } catch (error) {
        observer.aborted();
        controller.error(error);
      }
    },
    async cancel(reason) {
      observer.aborted();
      await reader.cancel(reason);
    },
  });
  const { status, statusText, headers } = response;
  const copy = new Response(body, { status, statusText, headers });
  Object.defineProperty(copy, "url", { value: response.url });
  return copy;
}

/** A JSON answer. */
class Whole implements Observer {
  #pieces: Uint8Array[] = [];
  #bytes = 0;
  constructor(readonly call: Call, readonly provider: string) {}

  piece(bytes: Uint8Array): Uint8Array {
    this.#bytes += bytes.length;
    if (this.#bytes <= BODY_BYTES_MAX) this.#pieces.push(bytes);
    return bytes;
  }

  end(): undefined {
    let usage: Usage | undefined;
    try {
      const json = JSON.parse(Buffer.concat(this.#pieces).toString("utf8")) as Record<string, unknown>;
      usage = this.provider === "claude" ? anthropic(json) : openai(json);
    } catch {
      // Not JSON: a file, an audio. It was one request.
    }
    finish(this.call, usage ?? {});
    return undefined;
  }

  aborted(): void {
    finish(this.call, { status: ABORTED });
  }
}

/** A stream of server-sent events. */
class Events implements Observer {
  readonly #decoder = new TextDecoder();
  readonly #usage = new StreamUsage();
  #text = "";
  #whole = false;
  constructor(readonly call: Call, readonly provider: string, readonly hides: boolean) {}

  piece(bytes: Uint8Array): Uint8Array {
    this.#text += this.#decoder.decode(bytes, { stream: true });
    const events = this.#text.split(/\r?\n\r?\n/);
    this.#text = events.pop() ?? "";
    const kept = events.filter((event) => !this.#look(event));
    // An SDK leaves the stream after its last event, which is no abort.
    if (this.#whole) finish(this.call, this.#usage.result(this.provider) ?? {});
    // Only where something is taken out is the stream written anew.
    return this.hides ? Buffer.from(kept.map((event) => `${event}\n\n`).join("")) : bytes;
  }

  /** Reads an event. True if it is one that the application did not ask for. */
  #look(event: string): boolean {
    const data = event.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart()).join("\n");
    if (data === "[DONE]") this.#whole = true;
    if (!data || this.#whole) return false;
    try {
      const json = JSON.parse(data) as Record<string, unknown>;
      this.#usage.event(json);
      if (LAST.has(String(json["type"]))) this.#whole = true;
      return this.hides && Array.isArray(json["choices"]) && json["choices"].length === 0 && json["usage"] != null;
    } catch {
      return false;
    }
  }

  end(): Uint8Array | undefined {
    const rest = this.#text;
    if (rest) this.#look(rest);
    finish(this.call, this.#usage.result(this.provider) ?? {});
    return this.hides && rest ? Buffer.from(rest) : undefined;
  }

  /** What was used until then was used; the vendor bills it. */
  aborted(): void {
    finish(this.call, { ...this.#usage.result(this.provider), status: ABORTED });
  }
}

/** A client of an official SDK: it calls its own `fetch`. */
export interface Instrumentable { baseURL: string }

/** Records every call of an Anthropic or OpenAI client, from what the vendor's answers say. Returns the client. */
export function instrument<Client extends Instrumentable>(recorder: Recorder, client: Client, options: Omit<FetchOptions, "fetch"> = {}): Client {
  const own = client as unknown as { fetch?: Fetch; constructor: { name: string } };
  if (typeof own.fetch !== "function") throw new TypeError("this is no client of the Anthropic or OpenAI SDK: it has no fetch of its own");
  const named = own.constructor.name === "Anthropic" ? "claude" : own.constructor.name === "OpenAI" ? "openai" : HOSTS[new URL(client.baseURL).hostname];
  const provider = options.provider ?? named;
  if (!provider) throw new TypeError(`whose API is ${client.baseURL}? Name it: instrument(recorder, client, { provider: "…" })`);
  own.fetch = recordingFetch(recorder, { ...options, provider, fetch: own.fetch });
  return client;
}
