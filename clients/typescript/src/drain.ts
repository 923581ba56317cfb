// Delivers the spools of processes that have ended: earlier ones of this application, or its neighbours.
//
// Each file is sent under its own producer and numbers, so the daemon skips the records that it has. A file is removed once all its records are
// settled. If the daemon is away, the locks are released until the next attempt. Later the folder is looked at once a minute.
//
// A file that cannot be read, or whose producer the daemon refuses, stays, and does not keep the others from being delivered.

import type { Connect, Link } from "./link.js";
import type { Endpoint } from "./options.js";
import { type Orphan, platform } from "./platform.js";
import type { Entry } from "./spool-format.js";
import { after, cancel, later, soon, type Timer } from "./timers.js";
import type { Ack, AckMode, Rejection, ServerMessage } from "./wire.js";

const [BACKOFF_MIN, BACKOFF_MAX, INTERVAL] = [50, 5_000, 60_000];
const [FRAME_RECORDS, FRAME_BYTES, FRAME_OVERHEAD] = [512, 64 * 1024, 64];

/** The messages of a drain to its recorder. */
export interface DrainEvents {
  recovered(records: number): void;
  refused(rejection: Rejection): void;
  failed(error: Error): void;
  /** A file that cannot be read is left. */
  left(error: Error): void;
}

/** The daemon refuses the producer of a file. */
class Refused extends Error {}

export class Drain {
  #timer: Timer | undefined;
  #link: Link | undefined;
  #pass: Promise<void> | undefined;
  #failures = 0;
  #stopped = false;

  constructor(readonly folder: string, readonly endpoint: Endpoint, readonly connect: Connect, readonly client: string, readonly ack: AckMode, readonly timeout: number, readonly events: DrainEvents) {
    soon(() => this.#look());
  }

  /** Ends, at most `timeout` milliseconds later, once the files that were found are delivered. */
  async stop(timeout: number): Promise<void> {
    cancel(this.#timer);
    if (this.#pass) {
      let timer: Timer | undefined;
      await Promise.race([this.#pass, new Promise<void>((resolve) => (timer = after(Math.max(1, timeout), resolve)))]);
      cancel(timer);
    }
    this.#stopped = true;
    cancel(this.#timer);
    this.#link?.close();
  }

  #look(): void {
    if (this.#stopped) return;
    this.#pass = this.#all().then(
      () => {
        this.#failures = 0;
        return INTERVAL;
      },
      (error: Error) => {
        this.#failures += 1;
        if (!this.#stopped) this.events.failed(error);
        return Math.min(BACKOFF_MAX, BACKOFF_MIN * 2 ** Math.min(this.#failures, 10));
      },
    ).then((wait) => {
      this.#pass = undefined;
      if (!this.#stopped) this.#timer = later(wait * (0.5 + Math.random() / 2), () => this.#look());
    });
  }

  async #all(): Promise<void> {
    let refused: Refused | undefined;
    for (const path of platform.spools!.files(this.folder)) {
      let orphan: Orphan | undefined;
      try {
        orphan = await platform.spools!.adopt(path);
      } catch (error) {
        this.events.left(error as Error);
        continue;
      }
      if (!orphan) continue;
      try {
        if (orphan.entries.length > 0) await this.#deliver(orphan);
        orphan.remove();
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        refused = error;
      } finally {
        orphan.release();
      }
    }
    if (refused) throw refused;
  }

  #deliver({ producer, secret, entries }: Orphan): Promise<void> {
    return new Promise((resolve, reject) => {
      let rest = entries;
      let sent: Entry[] = [];
      let [maxRecords, maxBytes] = [FRAME_RECORDS, FRAME_BYTES];
      let silent: Timer | undefined;
      const next = (): void => {
        const most = maxBytes - FRAME_OVERHEAD;
        while (rest[0] && rest[0].record.length > most) {
          const message = `the record is ${rest[0].record.length} bytes, a frame holds ${most}`;
          this.events.refused({ seq: rest[0].seq, code: "too_long", message });
          rest = rest.slice(1);
        }
        sent = rest.slice(0, frameOf(rest, Math.min(maxRecords, FRAME_RECORDS), Math.min(most, FRAME_BYTES)));
        rest = rest.slice(sent.length);
        if (sent[0]) return link.send(sent[0].seq, sent.map(({ record }) => record));
        resolve();
        link.close();
      };
      const acknowledged = ({ seq, rejected = [] }: Ack): void => {
        if (sent.length === 0 || seq < sent.at(-1)!.seq) throw new Error(`an ack for ${seq}, which is below its frame`);
        for (const one of rejected) this.events.refused(one);
        this.events.recovered(sent.length - rejected.length);
        next();
      };
      const heard = (message: ServerMessage): void => {
        cancel(silent);
        silent = later(this.timeout, () => link.close(new Error("tallyd is silent")));
        if ("error" in message) throw new Refused(`tallyd refused the connection (${message.error.code}): ${message.error.message}`);
        if ("ack" in message) return acknowledged(message.ack);
        if (!("welcome" in message)) return;
        const { last_seq, max_records, max_frame_bytes } = message.welcome;
        [maxRecords, maxBytes] = [max_records, max_frame_bytes];
        rest = entries.filter(({ seq }) => seq > last_seq);
        next();
      };
      const link = this.connect(this.endpoint, { producer, secret, client: this.client, ack: this.ack, timeout: this.timeout }, {
        heard,
        drained: () => {},
        closed: (error) => {
          cancel(silent);
          this.#link = undefined;
          reject(error ?? new Error("tallyd closed the connection"));
        },
      });
      this.#link = link;
      silent = later(this.timeout, () => link.close(new Error("tallyd did not answer the handshake in time")));
      link.start();
    });
  }
}

/** The number of records for the next frame, at least 1 if there is one: their numbers rise by one, and they are within the bounds. */
function frameOf(rest: Entry[], maxRecords: number, maxBytes: number): number {
  let bytes = 0;
  let count = 0;
  for (const { seq, record } of rest) {
    bytes += record.length;
    if (count > 0 && (count === maxRecords || bytes > maxBytes || seq !== rest[count - 1]!.seq + 1)) break;
    count += 1;
  }
  return count;
}
