// Settings that an application changes at once and that become durable in the background.
//
// A write is repeated until the daemon accepts or refuses it. A newer write of the same setting replaces an older one. The handler is
// called once for each write that failed for good.

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
  /** Settles after the last attempt that has begun. */
  #attempt: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(http: DaemonHttp, failed: (error: Error) => void) {
    this.#http = http;
    this.#failed = failed;
  }

  /** Writes a setting in the background. Calls `done` once the daemon has it, or `refused` once the daemon has refused it for good. */
  put(path: string, body: unknown, done: () => void = () => {}, refused: () => void = () => {}): void {
    cancel(this.#writes.get(path)?.timer);
    const write: Write = { body, done, refused };
    this.#writes.set(path, write);
    this.#try(path, write, 0);
  }

  /** Waits for the first attempt of each earlier write, so that the answer to a following request includes them. */
  async tried(): Promise<void> {
    await this.#attempt;
  }

  /** Waits at most `timeout` milliseconds for the attempt under way. Other writes are given up and reported as errors. */
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
    // 408, 429 and 5xx are temporary; any other refusal is final.
    if (error instanceof HttpError && error.status < 500 && error.status !== 408 && error.status !== 429) {
      this.#writes.delete(path);
      write.refused();
      return this.#failed(error);
    }
    const pause = Math.min(BACKOFF_MAX, BACKOFF_MIN * 2 ** Math.min(failures, 10));
    write.timer = later(pause * (0.5 + Math.random() / 2), () => this.#try(path, write, failures + 1));
  }
}
