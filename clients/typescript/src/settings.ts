// Settings that an application writes at once and that become durable in the background.
//
// A write is tried until the daemon has it or says no. A newer one of the same setting takes an older one's place. What goes wrong for
// good is told to the handler, once a write.

import { type DaemonHttp, HttpError } from "./daemon-http.js";
import { after, cancel, later, type Timer } from "./timers.js";

const BACKOFF_MIN = 500;
const BACKOFF_MAX = 30_000;

interface Write {
  body: unknown;
  timer?: Timer;
  done: () => void;
  refused: () => void;
}

export class Settings {
  readonly #http: DaemonHttp;
  readonly #failed: (error: Error) => void;
  readonly #writes = new Map<string, Write>();
  /** Ends with the last attempt that has begun. */
  #attempt: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(http: DaemonHttp, failed: (error: Error) => void) {
    this.#http = http;
    this.#failed = failed;
  }

  /** Writes a setting in the background; `done` is called once the daemon has it, `refused` once the daemon has said no for good. */
  put(path: string, body: unknown, done: () => void = () => {}, refused: () => void = () => {}): void {
    cancel(this.#writes.get(path)?.timer);
    const write: Write = { body, done, refused };
    this.#writes.set(path, write);
    this.#try(path, write, 0);
  }

  /** Waits until what was written before has been tried once, so that an answer asked for next has it. */
  async tried(): Promise<void> {
    await this.#attempt;
  }

  /** Waits at most so many milliseconds for what is being tried, and gives up the rest. */
  async close(timeout: number): Promise<void> {
    let timer: Timer | undefined;
    await Promise.race([this.#attempt, new Promise<void>((resolve) => (timer = after(timeout, resolve)))]);
    cancel(timer);
    this.#closed = true;
    for (const [path, { timer }] of this.#writes) {
      cancel(timer);
      this.#failed(new Error(`the tracker was closed before tallyd had taken ${path}`));
    }
    this.#writes.clear();
  }

  #try(path: string, write: Write, failures: number): void {
    this.#attempt = this.#attempt.then(async () => {
      if (this.#closed || this.#writes.get(path) !== write) return;
      try {
        await this.#http.ask("POST", path, write.body);
      } catch (error) {
        return this.#again(path, write, failures, error);
      }
      if (this.#writes.get(path) === write) this.#writes.delete(path);
      write.done();
    });
  }

  #again(path: string, write: Write, failures: number, error: unknown): void {
    if (this.#closed || this.#writes.get(path) !== write) return;
    // 408, 429 and 5xx pass; any other no is final.
    if (error instanceof HttpError && error.status < 500 && error.status !== 408 && error.status !== 429) {
      this.#writes.delete(path);
      write.refused();
      return this.#failed(error);
    }
    const pause = Math.min(BACKOFF_MAX, BACKOFF_MIN * 2 ** Math.min(failures, 10));
    write.timer = later(pause * (0.5 + Math.random() / 2), () => this.#try(path, write, failures + 1));
  }
}
