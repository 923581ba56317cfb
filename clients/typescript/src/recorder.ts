// The recorder: what an application calls.
//
// `record()` puts the call into a bounded queue and returns. A moment later the queue is encoded into frames and given to
// one connection; frames stay until the daemon has acknowledged them, and are sent again, byte for byte, to the next
// connection. Nothing here throws into the application, and nothing keeps the process alive but what is not durable yet.

import { randomBytes } from "node:crypto";
import { connect, type Socket } from "node:net";
import { hostname } from "node:os";
import { currentContext, within } from "./context.js";
import { encodeRecord, idBytes, type UsageRecord } from "./record.js";
import { v7, format } from "./uuid.js";
import { type Settled, type Waiter, Window } from "./window.js";
import { type Ack, helloFrame, Inbox, PROTOCOL, type Rejection, type ServerMessage } from "./wire.js";

export interface RecorderOptions {
  /** The daemon's Unix socket. `TALLYD_SOCKET`, or `/run/tallyd/tallyd.sock`, if neither this nor `host` is given. */
  socket?: string;
  /** The daemon's TCP listener, with `port` and `token`. */
  host?: string;
  port?: number;
  /** The access token: needed over TCP. `TALLYD_TOKEN`, if it is left out. */
  token?: string;
  /** The application's name, for records that have none. */
  app?: string;
  /** A name for this process's sequence of records. The default is a new one for each recorder, and right. */
  producer?: string;
  /** Records that may wait to be encoded. 16,384, if it is left out. */
  maxQueue?: number;
  /** Encoded bytes that may wait for the daemon. 32 MiB, if it is left out. */
  maxBytes?: number;
  /** How long records are gathered before they are sent, in milliseconds. 5, if it is left out. */
  gather?: number;
  /** How long a daemon may owe an ack in silence, in milliseconds. 60,000, if it is left out. */
  ackTimeout?: number;
  /** Gets each record that is not kept, and why. */
  onDrop?: (record: UsageRecord, reason: string) => void;
  /** Gets each record that the daemon refused; it is in the daemon's dead letters. */
  onReject?: (rejection: Rejection) => void;
}

export interface Stats {
  recorded: number;
  /** Durable. */
  acked: number;
  rejected: number;
  /** Not kept: the queue was full, the record could not be written, or the time was up at the end. */
  dropped: number;
  /** Recorded, and neither durable nor refused yet. */
  inFlight: number;
  connected: boolean;
  reconnects: number;
  lastError: string | undefined;
}

/** What became of a record that was waited for. `cost_usd` is null where no price is known, undefined where the answer was lost. */
export interface Durable { id: string; cost_usd: string | null | undefined }

const BACKOFF_MIN = 50;
const BACKOFF_MAX = 5_000;
const FENCED_BACKOFF = 60_000;
const EXIT_GRACE = 5_000;
const HANDSHAKE_TIMEOUT = 10_000;
const WRITES_MAX = 1024 * 1024;
const CLIENT = "tallyd-ts/0.1.0";

interface Waiting { record: UsageRecord; id: Uint8Array; us: number; waiter: Waiter | undefined }

/** The id that the caller gave. One that is none is dropped when it is written, like any other field that cannot be. */
function ownId({ id }: UsageRecord): Uint8Array | undefined {
  try {
    return id === undefined || id === null ? undefined : idBytes(id);
  } catch {
    return undefined;
  }
}

export class Recorder {
  readonly #options: Required<Pick<RecorderOptions, "maxQueue" | "maxBytes" | "gather" | "ackTimeout" | "app">> & RecorderOptions;
  readonly #producer: string;
  readonly #window = new Window();
  #queue: Waiting[] = [];
  #gathering: NodeJS.Timeout | undefined;
  #socket: Socket | undefined;
  #ready = false;
  #silent: NodeJS.Timeout | undefined;
  #again: NodeJS.Timeout | undefined;
  #failures = 0;
  #fenced = false;
  #maxFrameBytes = 1024 * 1024;
  #maxRecords = Infinity;
  #downSince: number | undefined;
  #closed = false;
  #throttle = false;
  #idle: (() => void)[] = [];
  #stats = { recorded: 0, acked: 0, rejected: 0, dropped: 0, reconnects: 0, lastError: undefined as string | undefined };
  #connectedBefore = false;

  constructor(options: RecorderOptions = {}) {
    this.#options = { maxQueue: 16_384, maxBytes: 32 * 1024 * 1024, gather: 5, ackTimeout: 60_000, app: "", ...options };
    const random = randomBytes(6).toString("hex");
    const name = `${this.#options.app || "node"}@${hostname()}-${process.pid}-${random}`;
    this.#producer = options.producer || name.slice(-128);
  }

  /** Records a call. Returns whether it was taken; if not, `onDrop` has it. Never throws, never waits. */
  record(record: UsageRecord): boolean {
    return this.#take(record, undefined) !== undefined;
  }

  /** Records a call, and resolves once it is durable. Rejects if the daemon refuses it, or it was not kept. */
  recordAndWait(record: UsageRecord): Promise<Durable> {
    return new Promise((resolve, reject) => {
      // Read now: the record is the application's, and may change before the answer is there.
      const own = ownId(record);
      const id = this.#take(record, (settled) => {
        if (settled.state === "durable") resolve({ id: format(own ?? id!), cost_usd: settled.cost_usd });
        else reject(new Error(settled.state === "refused" ? `${settled.code}: ${settled.message}` : settled.reason));
      });
      if (!id) reject(new Error(this.#stats.lastError ?? "the record was not kept"));
    });
  }

  /** Waits until all that was recorded is settled, at most so many milliseconds. Resolves to what is left. */
  async flush(timeout = 5_000): Promise<number> {
    this.#send();
    const end = Date.now() + timeout;
    while (this.inFlight > 0 && Date.now() < end) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, Math.max(1, end - Date.now()));
        this.#idle.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
    return this.inFlight;
  }

  /** Flushes, and ends the connection. What is left then goes to `onDrop`'s count; resolves to how many that are. */
  async close(timeout = 5_000): Promise<number> {
    const left = await this.flush(timeout);
    this.#closed = true;
    clearTimeout(this.#again);
    clearTimeout(this.#silent);
    clearTimeout(this.#gathering);
    this.#socket?.destroy();
    for (const { record, waiter } of this.#queue.splice(0)) this.#drop(record, "the recorder was closed", waiter);
    this.#stats.dropped += this.#window.drop("the recorder was closed before the daemon had acknowledged it");
    return left;
  }

  /** Whether the daemon's last ack said that a budget is used up, and paid calls should be held back. */
  get shouldThrottle(): boolean {
    return this.#throttle;
  }

  /** Records that are neither durable nor refused yet. */
  get inFlight(): number {
    return this.#queue.length + this.#window.records;
  }

  get stats(): Stats {
    return { ...this.#stats, inFlight: this.inFlight, connected: this.#ready };
  }

  #take(record: UsageRecord, waiter: Waiter | undefined): Uint8Array | undefined {
    const full = this.#queue.length >= this.#options.maxQueue;
    if (full || this.#closed) {
      this.#drop(record, this.#closed ? "the recorder is closed" : "the queue is full: the daemon is away, or too slow", undefined);
      return undefined;
    }
    const ms = Date.now();
    const id = v7(ms);
    // Copied: it is the application's, and may change before it is written.
    this.#queue.push({ record: within(currentContext(), record), id, us: ms * 1000, waiter });
    this.#stats.recorded += 1;
    this.#gathering ??= setTimeout(() => this.#send(), this.#options.gather);
    return id;
  }

  #drop(record: UsageRecord, reason: string, waiter: Waiter | undefined): void {
    this.#stats.dropped += 1;
    this.#stats.lastError = reason;
    waiter?.({ state: "dropped", reason });
    try {
      this.#options.onDrop?.(record, reason);
    } catch {
      // The callback's fault is not the request's.
    }
  }

  /** Queue to window, window to socket. */
  #send(): void {
    clearTimeout(this.#gathering);
    this.#gathering = undefined;
    let taken = 0;
    for (; taken < this.#queue.length && this.#window.bytes < this.#options.maxBytes; taken += 1) {
      const { record, id, us, waiter } = this.#queue[taken]!;
      try {
        const bytes = encodeRecord({ ...record, id: record.id ?? id, occurred_at: record.occurred_at ?? us, app: record.app || this.#options.app });
        if (bytes.length > this.#maxFrameBytes - 64) throw new TypeError(`a record of ${bytes.length} bytes, a frame holds ${this.#maxFrameBytes}`);
        this.#window.add(bytes, waiter, this.#maxRecords, this.#maxFrameBytes);
      } catch (error) {
        this.#drop(record, error instanceof Error ? error.message : String(error), waiter);
      }
    }
    this.#queue.splice(0, taken);
    if (this.#window.records > 0 && !this.#socket && !this.#again) this.#connect();
    this.#write();
    this.#settled();
  }

  #connect(): void {
    if (this.#closed) return;
    const { socket, host, port, token } = this.#options;
    const path = socket ?? (host ? undefined : process.env["TALLYD_SOCKET"] ?? "/run/tallyd/tallyd.sock");
    const link = path ? connect({ path }) : connect({ host: host!, port: port ?? 7421 });
    this.#socket = link;
    const inbox = new Inbox();
    const late = setTimeout(() => link.destroy(new Error("tallyd did not answer the handshake in time")), HANDSHAKE_TIMEOUT);
    late.unref();
    link.setNoDelay(true);
    link.on("connect", () => {
      const secret = token ?? process.env["TALLYD_TOKEN"];
      link.write(helloFrame({ protocol: PROTOCOL, producer: this.#producer, client: CLIENT, ...(secret ? { token: secret } : {}), want_costs: true }));
    });
    link.on("data", (piece) => {
      try {
        for (const message of inbox.push(piece)) this.#heard(message);
        if (this.#ready) clearTimeout(late);
      } catch (error) {
        link.destroy(error instanceof Error ? error : new Error(String(error)));
      }
    });
    link.on("drain", () => this.#write());
    link.on("error", (error) => (this.#stats.lastError = error.message));
    link.on("close", () => {
      clearTimeout(late);
      this.#down();
    });
  }

  #heard(message: ServerMessage): void {
    if ("error" in message) {
      this.#fenced = message.error.code === "fenced";
      throw new Error(`tallyd refused the connection (${message.error.code}): ${message.error.message}`);
    }
    if ("ack" in message) return this.#acknowledged(message.ack);
    const { welcome } = message;
    if (this.#ready || welcome.protocol !== PROTOCOL || welcome.max_records < 1 || welcome.max_frame_bytes < 1024) {
      throw new Error(`an impossible welcome: ${JSON.stringify(welcome)}`);
    }
    this.#maxFrameBytes = welcome.max_frame_bytes;
    this.#maxRecords = welcome.max_records;
    this.#window.fit(this.#maxRecords, this.#maxFrameBytes);
    this.#downSince = undefined;
    const before = this.#window.records;
    this.#window.welcome(welcome.last_seq);
    this.#stats.acked += before - this.#window.records;
    this.#ready = true;
    this.#fenced = false;
    if (this.#connectedBefore) this.#stats.reconnects += 1;
    this.#connectedBefore = true;
    this.#write();
    this.#settled();
  }

  #acknowledged(ack: Ack): void {
    if (!this.#window.knows(ack.seq)) throw new Error(`an ack for ${ack.seq}, which was never sent`);
    this.#failures = 0;
    if (ack.budget) this.#throttle = ack.budget.should_throttle;
    const refused = new Map((ack.rejected ?? []).map((one) => [one.seq, one]));
    const told: Rejection[] = [];
    const settled = this.#window.settle(ack.seq, (seq, index, last): Settled => {
      const one = refused.get(seq);
      if (one) {
        told.push(one);
        return { state: "refused", code: one.code, message: one.message, field: one.field };
      }
      return { state: "durable", cost_usd: last === ack.seq ? ack.costs?.[index] : undefined };
    });
    this.#stats.rejected += told.length;
    this.#stats.acked += settled.length - told.length;
    for (const one of told) {
      try {
        this.#options.onReject?.(one);
      } catch {
        // The callback's fault is not the record's.
      }
    }
    this.#watch();
    this.#send();
  }

  /** A daemon that owes an ack and says nothing is given up. */
  #watch(): void {
    clearTimeout(this.#silent);
    this.#silent = undefined;
    if (this.#window.awaitsAck && this.#ready) {
      this.#silent = setTimeout(() => this.#socket?.destroy(new Error("tallyd owes an ack and is silent")), this.#options.ackTimeout);
    }
  }

  #write(): void {
    const link = this.#socket;
    while (this.#ready && link && !link.destroyed && link.writableLength < WRITES_MAX) {
      const frame = this.#window.next();
      if (!frame) break;
      link.write(frame);
      if (!this.#silent) this.#watch();
    }
    // An idle connection does not keep the process; one that owes an answer does.
    if (this.#window.records > 0) link?.ref();
    else link?.unref();
  }

  #down(): void {
    this.#socket = undefined;
    this.#ready = false;
    clearTimeout(this.#silent);
    this.#silent = undefined;
    if (this.#closed) return;
    const base = this.#fenced ? FENCED_BACKOFF : Math.min(BACKOFF_MAX, BACKOFF_MIN * 2 ** Math.min(this.#failures, 10));
    this.#failures += 1;
    // Half of it at random, so that a fleet does not come back at one moment.
    this.#again = setTimeout(() => {
      this.#again = undefined;
      if (this.inFlight > 0) this.#connect();
    }, base / 2 + Math.random() * (base / 2));
    // A process that has nothing else to do waits a while for a daemon that is away, not for ever.
    this.#downSince ??= Date.now();
    if (Date.now() - this.#downSince > EXIT_GRACE) this.#again.unref();
  }

  #settled(): void {
    if (this.inFlight > 0) return;
    this.#socket?.unref();
    for (const resolve of this.#idle.splice(0)) resolve();
  }
}
