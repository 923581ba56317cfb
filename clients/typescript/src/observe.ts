// Reads the usage in a vendor's answer while the answer passes through.
//
// The application gets the same bytes. An answer may be abandoned: its stream is cancelled or never read, or the process ends first. It was paid for
// nevertheless, so it is recorded:
//
// * A JSON answer is read to its end here, whether or not the application reads it. It is small, and has its usage inside.
// * Any other complete answer (audio, a file) has no usage, and is recorded when it begins.
// * An abandoned stream is recorded with its usage so far, and marked as incomplete. A stream that nobody reads is found when it is garbage-collected
//   or the recorder is closed; `stats.unread` counts it.
//
// A paid answer without usage is unpriced, since a price of zero tokens would be 0.

import type { Recorder } from "./recorder.js";
import { noteAndRecord } from "./twice.js";
import type { UsageRecord } from "./record.js";
import { object } from "./counts.js";
import { elapsed } from "./timers.js";
import { read, StreamUsage, type Family, type Usage } from "./usage.js";

/** Status: the client closed the request. */
export const ABORTED = 499;
/** Status: the stream broke off. */
const BROKEN = 599;
/** Larger answers are not read for usage; no vendor sends one. */
const BODY_BYTES_MAX = 16 * 1024 * 1024;
/** The types of a stream's last event. */
const LAST = new Set(["message_stop", "response.completed", "response.incomplete", "response.failed"]);
/** Metadata of a call with unknown usage; the daemon leaves it unpriced. */
export const UNTOLD = { metadata: { "tallyd.not_understood": "usage" } };
const INCOMPLETE = { metadata: { incomplete: true, ...UNTOLD.metadata } };

/** `family`: the form of the vendor's usage; undefined where the price is per request. `started`: milliseconds of {@link elapsed}. */
export interface Call { recorder: Recorder; record: UsageRecord; family: Family | undefined; started: number; done: boolean; ended?: (unread: boolean) => void }

export function finish(call: Call, changes: Partial<UsageRecord>, unread = false): void {
  if (call.done) return;
  call.done = true;
  call.ended?.(unread);
  const metadata = changes.metadata === undefined ? {} : { metadata: { ...own(call.record.metadata), ...object(changes.metadata) } };
  noteAndRecord(call.recorder, { ...call.record, latency_ms: Math.round(elapsed() - call.started), ...changes, ...metadata });
}

/** The application's own metadata as an object. */
function own(metadata: UsageRecord["metadata"]): Record<string, unknown> {
  if (typeof metadata !== "string") return metadata ?? {};
  try {
    return object(JSON.parse(metadata));
  } catch {
    return { metadata };
  }
}

interface Observer {
  readonly call: Call;
  /** Reads a piece, and returns the bytes for the application. */
  piece(bytes: Uint8Array): Uint8Array;
  end(): Uint8Array | undefined;
  aborted(unread?: boolean): void;
}

/** Observers of answers that were garbage-collected unread. An observer must not refer to its answer, or the answer would stay. */
const left = typeof FinalizationRegistry === "undefined" ? undefined : new FinalizationRegistry<Observer>((observer) => observer.aborted(true));

/** The same answer, recorded while it passes. `hides`: remove the event with the usage that the application did not ask for. */
export function observed(response: Response, call: Call, family: Family, hides: boolean): Response {
  const type = response.headers.get("content-type") ?? "";
  if (response.body && type.includes("text/event-stream")) return passed(response, new Events(call, family, hides), 1);
  if (response.body && type.includes("json")) return passed(response, new Whole(call, family), BODY_BYTES_MAX);
  finish(call, UNTOLD);
  return response;
}

/** `ahead`: bytes (for a stream: pieces) that are read before the application asks for them. */
function passed(response: Response, observer: Observer, ahead: number): Response {
  const reader = response.body!.getReader();
  const size = (piece: Uint8Array | undefined): number => (ahead === 1 ? 1 : (piece?.byteLength ?? 0));
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
          const bytes = observer.piece(value);
          if (bytes.length > 0) return controller.enqueue(bytes);
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
  }, { highWaterMark: ahead, size });
  observer.call.ended = observer.call.recorder.lookOn(() => observer.aborted(true));
  left?.register(body, observer);
  const { status, statusText, headers } = response;
  const copy = new Response(body, { status, statusText, headers });
  Object.defineProperty(copy, "url", { value: response.url });
  return copy;
}

const utf8 = new TextEncoder();

function text(pieces: Uint8Array[]): string {
  const decoder = new TextDecoder();
  return pieces.map((piece) => decoder.decode(piece, { stream: true })).join("") + decoder.decode();
}

/** A JSON answer. */
class Whole implements Observer {
  #pieces: Uint8Array[] = [];
  #bytes = 0;
  constructor(readonly call: Call, readonly family: Family) {}

  piece(bytes: Uint8Array): Uint8Array {
    this.#bytes += bytes.length;
    if (this.#bytes <= BODY_BYTES_MAX) this.#pieces.push(bytes);
    return bytes;
  }

  end(): undefined {
    let usage: Usage | undefined;
    try {
      usage = read(this.family, JSON.parse(text(this.#pieces)));
    } catch {
      // Not JSON, despite its content type.
    }
    finish(this.call, usage ?? UNTOLD);
    return undefined;
  }

  aborted(unread = false): void {
    finish(this.call, { ...INCOMPLETE, status: ABORTED }, unread);
  }
}

/** A stream of server-sent events. */
class Events implements Observer {
  readonly #decoder = new TextDecoder();
  readonly #usage: StreamUsage;
  #text = "";
  #whole = false;
  readonly #ends: boolean;
  constructor(readonly call: Call, family: Family, readonly hides: boolean) {
    this.#usage = new StreamUsage(family);
    // Gemini's streams have no last event.
    this.#ends = family !== "google";
  }

  piece(bytes: Uint8Array): Uint8Array {
    this.#text += this.#decoder.decode(bytes, { stream: true });
    const events = this.#text.split(/\r?\n\r?\n/);
    this.#text = events.pop() ?? "";
    const kept = events.filter((event) => !this.#look(event));
    // SDKs cancel the stream after its last event, which is not an abort.
    if (this.#whole) finish(this.call, this.#usage.result() ?? UNTOLD);
    // The stream is encoded anew only if an event is removed.
    return this.hides ? utf8.encode(kept.map((event) => `${event}\n\n`).join("")) : bytes;
  }

  /** Reads an event. Returns true for an event that the application did not ask for. */
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
    // A stream without its last event broke off, even if the connection closed cleanly.
    if (this.#whole || !this.#ends) finish(this.call, this.#usage.result() ?? UNTOLD);
    else this.#left(BROKEN);
    return this.hides && rest ? utf8.encode(rest) : undefined;
  }

  /** The vendor bills the usage so far. */
  aborted(unread = false): void {
    this.#left(ABORTED, unread);
  }

  #left(status: number, unread = false): void {
    const usage = this.#usage.result();
    finish(this.call, usage ? { ...usage, metadata: { incomplete: true, ...object(usage.metadata) }, status } : { ...INCOMPLETE, status }, unread);
  }
}
