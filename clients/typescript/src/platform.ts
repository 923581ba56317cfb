// What differs between Node and edge runtimes. Nothing here imports from Node: `node.ts` puts Node's own in, for the entry that Node, Bun and
// Deno load. An edge runtime has `fetch` alone.

import type { Context } from "./context.js";
import type { Connect } from "./link.js";

export interface Answer { status: number; text: string; retryAfter: string | null }

export interface Platform {
  env(name: string): string | undefined;
  /** Tells a person. `ending`: the process is at its end, and runs no other task. */
  warn(message: string, ending?: boolean): void;
  /** Opens a connection to a socket; undefined where there are none. */
  connect: Connect | undefined;
  /** Posts, without keeping the process. Rejects where there is no answer. */
  post(url: string, headers: Record<string, string>, body: Uint8Array, timeout: number): Promise<Answer>;
  /** What is told apart by it in the daemon's log. */
  host(): string;
  /** Who a call is made for. */
  context: { run<T>(context: Context, task: () => T): T; getStore(): Context | undefined };
  /** Called when a recorder has something in flight, so that the process's end is watched. */
  watchEnd(recorder: Ending): void;
}

/** What the end of a process asks of a recorder. */
export interface Ending {
  readonly inFlight: number;
  readonly exitTimeout: number;
  flush(timeout: number): Promise<number>;
  /** Goes on with a connection that works without the event loop, for so many milliseconds. */
  finish(connect: Connect, pump: (milliseconds: number) => boolean, timeout: number): void;
  /** Tells what is left, which is lost. */
  lost(): void;
}

/** Who a call is made for, where the runtime does not follow what awaits: it holds until the task's first `await`. */
class Synchronous {
  #now: Context | undefined;
  #told = false;
  run<T>(context: Context, task: () => T): T {
    if (!this.#told) platform.warn("tallyd: this runtime has no AsyncLocalStorage: withContext holds until the first await. Give fields with each record");
    this.#told = true;
    const before = this.#now;
    this.#now = context;
    try {
      return task();
    } finally {
      this.#now = before;
    }
  }
  getStore(): Context | undefined {
    return this.#now;
  }
}

interface Global { AsyncLocalStorage?: new () => Platform["context"]; process?: { env?: Record<string, string | undefined> } }
const global = globalThis as Global;

export const platform: Platform = {
  env: (name) => global.process?.env?.[name],
  warn: (message) => console.warn(message),
  connect: undefined,
  async post(url, headers, body, timeout) {
    const answer = await fetch(url, { method: "POST", headers, body: body as Uint8Array<ArrayBuffer>, redirect: "manual", signal: AbortSignal.timeout(timeout) });
    return { status: answer.status, text: await answer.text(), retryAfter: answer.headers.get("retry-after") };
  },
  host: () => "edge",
  context: global.AsyncLocalStorage ? new global.AsyncLocalStorage() : new Synchronous(),
  watchEnd: () => {},
};
