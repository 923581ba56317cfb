// The differences between Node and edge runtimes. Nothing here imports from Node: `node.ts` installs Node's functions, and is part of the entry for
// Node, Bun and Deno. An edge runtime has only `fetch`.

import type { Context } from "./context.js";
import type { Connect } from "./link.js";
import type { Entry } from "./spool-format.js";

export interface Answer { status: number; text: string; retryAfter: string | null }

export interface Platform {
  env(name: string): string | undefined;
  /** Writes a message for people. `ending`: the process is at its end, so no later task runs. */
  warn(message: string, ending?: boolean): void;
  /** Opens a connection to a socket; undefined where the runtime does not have sockets. */
  connect: Connect | undefined;
  /** Sends a POST request that does not keep the process alive. `timeout` is in milliseconds. Rejects without an answer. */
  post(url: string, headers: Record<string, string>, body: Uint8Array, timeout: number, ca?: string): Promise<Answer>;
  /** SHA-256 as hex digits. Only Node's sockets bring the state of budgets, for which it is. */
  sha256(text: string): string;
  /** Distinguishes this process in the daemon log, as part of the producer's name. */
  host(): string;
  /** The context of the running task. */
  context: { run<T>(context: Context, task: () => T): T; getStore(): Context | undefined };
  /** Files that keep records over the end of the process; undefined where the runtime does not have files. */
  spools: Spools | undefined;
  /** Called when a recorder has records in flight, so that the process's end delivers them. */
  watchEnd(recorder: Ending): void;
}

/** The file of one recorder. */
export interface Spool {
  readonly folder: string;
  fits(bytes: number): boolean;
  /** Writes an encoded record. Returns its sequence number, or undefined if there is no room. Throws if the file cannot be written. */
  put(record: Uint8Array): number | undefined;
  /** Gives the room of all records up to this number away. */
  settle(seq: number): void;
  /** Deletes the file: everything in it is settled. */
  remove(): void;
  /** Leaves the file to the next start. */
  release(): void;
}

/** The file of a process that has ended, which this process owns now. */
export interface Orphan { producer: string; secret: string; entries: Entry[]; remove(): void; release(): void }

export interface Spools {
  /** Makes the folder. Throws if it cannot be made, or others may put files into it. */
  prepare(folder: string): void;
  create(folder: string, bytes: number, producer: string, secret: string): Spool;
  /** The paths of all files, those of living processes included. */
  files(folder: string): string[];
  /** Resolves to undefined if the file's process lives, and if the file is gone or was empty. */
  adopt(path: string): Promise<Orphan | undefined>;
}

/** A recorder, as the end of a process uses it. */
export interface Ending {
  readonly inFlight: number;
  readonly exitTimeout: number;
  flush(timeout: number): Promise<number>;
  /** Delivers over a connection that does not need the event loop, for `timeout` milliseconds at most. */
  finish(connect: Connect, pump: (milliseconds: number) => boolean, timeout: number): void;
  /** Warns of the records that are left, and lost. */
  lost(): void;
}

/** A context for runtimes without AsyncLocalStorage: it ends at the task's first `await`. */
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
  sha256: () => "",
  host: () => "edge",
  context: global.AsyncLocalStorage ? new global.AsyncLocalStorage() : new Synchronous(),
  spools: undefined,
  watchEnd: () => {},
};
