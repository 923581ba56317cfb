// A vendor's answer, read as it passes by.
//
// The application gets the same bytes; what they say of their usage makes the record. An answer may be left: its stream is
// cancelled, or never read at all, or the process ends first. Each of them was paid for, so each is recorded:
//
// * a JSON answer is read to its end here, whether or not the application reads it: it is small, and its usage stands in it;
// * any other whole answer (an audio, a file) says nothing of usage, and is recorded when it begins;
// * a stream that is left is recorded with what it had told until then, and marked as incomplete. One that nobody ever reads is found when the garbage
//   collector takes it, or when the recorder is closed, and `stats.unread` counts it.
//
// An answer that was paid for and tells no usage is unpriced: without tokens its price would be nothing.

import type { Recorder } from "./recorder.js";
import { noteAndRecord } from "./twice.js";
import type { UsageRecord } from "./record.js";
import { object } from "./counts.js";
import { elapsed } from "./timers.js";
import { read, StreamUsage, type Family, type Usage } from "./usage.js";

/** The client closed the request. */
export const ABORTED = 499;
/** The stream broke off. */
const BROKEN = 599;
/** Answers beyond this are not read for their usage; no vendor's is. */
const BODY_BYTES_MAX = 16 * 1024 * 1024;
/** Events after which none follows. */
const LAST = new Set(["message_stop", "response.completed", "response.incomplete", "response.failed"]);
/** The metadata of a call that used what nobody tells: the daemon does not price it. */
export const UNTOLD = { metadata: { "tallyd.not_understood": "usage" } };
const INCOMPLETE = { metadata: { incomplete: true, ...UNTOLD.metadata } };

/** `family`: how the vendor tells usage; undefined where a request has its price. */
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
  /** Looks at a piece, and returns what goes on to the application. */
  piece(bytes: Uint8Array): Uint8Array;
  end(): Uint8Array | undefined;
  aborted(unread?: boolean): void;
}

/** Answers that nobody can read any more. What is held for them must not hold them. */
const left = typeof FinalizationRegistry === "undefined" ? undefined : new FinalizationRegistry<Observer>((observer) => observer.aborted(true));

/** The same answer, which is recorded as it passes by. `hides`: takes out the usage that was asked for in its stead. */
export function observed(response: Response, call: Call, family: Family, hides: boolean): Response {
  const type = response.headers.get("content-type") ?? "";
  if (response.body && type.includes("text/event-stream")) return passed(response, new Events(call, family, hides), 1);
  if (response.body && type.includes("json")) return passed(response, new Whole(call, family), BODY_BYTES_MAX);
  finish(call, UNTOLD);
  return response;
}

/** `ahead`: bytes (of a stream: pieces) that are read before anybody asks for them. */
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
      // Not JSON after all.
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
    // An SDK leaves the stream after its last event, which is no abort.
    if (this.#whole) finish(this.call, this.#usage.result() ?? UNTOLD);
    // Only where something is taken out is the stream written anew.
    return this.hides ? utf8.encode(kept.map((event) => `${event}\n\n`).join("")) : bytes;
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
    // A stream whose last event is missing broke off, however politely.
    if (this.#whole || !this.#ends) finish(this.call, this.#usage.result() ?? UNTOLD);
    else this.#left(BROKEN);
    return this.hides && rest ? utf8.encode(rest) : undefined;
  }

  /** What was used until then was used; the vendor bills it. */
  aborted(unread = false): void {
    this.#left(ABORTED, unread);
  }

  #left(status: number, unread = false): void {
    const usage = this.#usage.result();
    finish(this.call, usage ? { ...usage, metadata: { incomplete: true, ...object(usage.metadata) }, status } : { ...INCOMPLETE, status }, unread);
  }
}
