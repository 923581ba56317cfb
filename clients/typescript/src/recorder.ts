// The recorder: what an application calls.
//
// `record()` puts the call into a bounded queue and returns. A moment later the queue is encoded into frames and given to
// one connection; frames stay until the daemon has acknowledged them, and are sent again, byte for byte, to the next
// connection. Nothing here throws into the application, and nothing keeps the process alive but what is not durable yet.

import { randomBytes } from "node:crypto";
import { connect, type Socket } from "node:net";
import { hostname } from "node:os";
import type { BudgetStatus } from "./answers.js";
import { currentContext, within } from "./context.js";
import { DEFAULTS, type Durable, endpoint, type RecorderOptions, type Stats } from "./options.js";
import { bytesOf, own, ownId, type Waiting } from "./queue.js";
import { encodeWithin, type UsageRecord } from "./record.js";
import { v7, format } from "./uuid.js";
import { type Settled, type Waiter, Window } from "./window.js";
import { type Ack, helloFrame, Inbox, PROTOCOL, type Rejection, type ServerMessage, type Warning } from "./wire.js";

const BACKOFF_MIN = 50;
const BACKOFF_MAX = 5_000;
const SLOW_BACKOFF = 60_000;
/** Coming back soon would not help. */
const SLOW_CODES = new Set(["fenced", "protocol_version", "producer", "secret", "reserved_name", "sequence", "unauthorized"]);
const EXIT_GRACE = 5_000;
const HANDSHAKE_TIMEOUT = 10_000;
const WRITES_MAX = 1024 * 1024;
const CLIENT = "tallyd-ts/0.1.0";

export class Recorder {
  readonly #options: typeof DEFAULTS & RecorderOptions;
  readonly #producer: string;
  /** What makes the name this recorder's own: new for each, and kept for as long as it may send records again. */
  readonly #secret = randomBytes(16).toString("hex");
  readonly #window = new Window();
  #queue: Waiting[] = [];
  #queueBytes = 0;
  /** One timer for good, which is set anew. */
  #gatherer: NodeJS.Timeout | undefined;
  #gathering = false;
  #hurried: NodeJS.Immediate | undefined;
  #full = false;
  #socket: Socket | undefined;
  #ready = false;
  #silent: NodeJS.Timeout | undefined;
  #again: NodeJS.Timeout | undefined;
  #failures = 0;
  /** Refused for what will be refused again. */
  #slow = false;
  #maxFrameBytes = 1024 * 1024;
  #maxRecords = Infinity;
  #downSince: number | undefined;
  #closed = false;
  #throttle = false;
  #budgetStatus: BudgetStatus = "normal";
  #flushes: { upTo: number; settled: () => void }[] = [];
  #leaving = new Set<() => void>();
  #stats = { recorded: 0, acked: 0, rejected: 0, dropped: 0, unread: 0, reconnects: 0, lastError: undefined as string | undefined, lastWarning: undefined as string | undefined };
  #connectedBefore = false;

  constructor(options: RecorderOptions = {}) {
    // What is undefined is left out.
    const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
    this.#options = { ...DEFAULTS, ...given };
    const random = randomBytes(6).toString("hex");
    const name = `${this.#options.app || "node"}@${hostname()}-${process.pid}-${random}`;
    this.#producer = options.producer || name.slice(-128);
  }

  /** Records a call. Returns whether it was taken; if not, `onDrop` has it. Never throws, never waits. */
  record(record: UsageRecord): boolean {
    return this.#take(record, undefined);
  }

  /** Records a call, and resolves once it is durable. Rejects if the daemon refuses it, or it was not kept. */
  recordAndWait(record: UsageRecord): Promise<Durable> {
    return new Promise((resolve, reject) => {
      const id = ownId(record) ?? v7(Date.now());
      const taken = this.#take(record.id === undefined || record.id === null ? { ...record, id } : record, (settled) => {
        if (settled.state === "durable") resolve({ id: format(id), cost_usd: settled.cost_usd });
        else reject(new Error(settled.state === "refused" ? `${settled.code}: ${settled.message}` : settled.reason));
      });
      if (!taken) reject(new Error(this.#stats.lastError ?? "the record was not kept"));
    });
  }

  /** Waits until all that was recorded before the call is settled, at most so many milliseconds. Resolves to how many of it are left. */
  async flush(timeout = 5_000): Promise<number> {
    const upTo = this.#stats.recorded;
    this.#send();
    if (this.#oldest > upTo) return 0;
    await new Promise<void>((resolve) => {
      const flush = { upTo, settled: () => {
        clearTimeout(timer);
        resolve();
      } };
      const timer = setTimeout(() => {
        this.#flushes.splice(this.#flushes.indexOf(flush), 1);
        resolve();
      }, Math.max(1, timeout));
      this.#flushes.push(flush);
    });
    return this.#window.upTo(upTo) + this.#queue.filter(({ order }) => order <= upTo).length;
  }

  /** Flushes what is recorded until nothing is left, or the time is up, and ends the connection. What is left goes to `onDrop`'s count; resolves to how many that are. */
  async close(timeout = 5_000): Promise<number> {
    for (const leave of [...this.#leaving]) leave();
    const end = Date.now() + timeout;
    do await this.flush(end - Date.now());
    while (this.inFlight > 0 && Date.now() < end);
    const left = this.inFlight;
    this.#closed = true;
    clearTimeout(this.#again);
    clearTimeout(this.#silent);
    clearTimeout(this.#gatherer);
    clearImmediate(this.#hurried);
    this.#socket?.destroy();
    this.#queueBytes = 0;
    for (const { record, context, waiter } of this.#queue.splice(0)) this.#drop(within(context, record), "the recorder was closed", waiter);
    this.#stats.dropped += this.#window.drop("the recorder was closed before the daemon had acknowledged it");
    this.#settled();
    return left;
  }

  /**
   * Calls `leave` when the recorder is closed, for what is still looked on at. Returns what ends that: told `true`, it counts an answer
   * that was left unread.
   * @internal
   */
  lookOn(leave: () => void): (unread: boolean) => void {
    this.#leaving.add(leave);
    return (unread) => {
      if (!this.#leaving.delete(leave) || !unread) return;
      this.#stats.unread += 1;
      if (this.#stats.unread === 1) process.emitWarning("an answer of a paid call was never read: it is recorded with what it had told until then", "TallydWarning");
    };
  }

  /** Whether the daemon's last ack said that a budget is used up, and paid calls should be held back. */
  get shouldThrottle(): boolean {
    return this.#throttle;
  }

  /** How the daemon's last ack said that the budgets stand: `warning` from an alert threshold on. */
  get budgetStatus(): BudgetStatus {
    return this.#budgetStatus;
  }

  /** Records that are neither durable nor refused yet. */
  get inFlight(): number {
    return this.#queue.length + this.#window.records;
  }

  get stats(): Stats {
    return { ...this.#stats, inFlight: this.inFlight, connected: this.#ready };
  }

  #take(record: UsageRecord, waiter: Waiter | undefined): boolean {
    const { maxQueue, maxQueueBytes, gather } = this.#options;
    let copy: UsageRecord;
    let bytes: number;
    try {
      copy = own(record);
      bytes = bytesOf(copy);
    } catch (error) {
      return this.#drop(record, `the record cannot be read: ${String(error)}`, undefined);
    }
    const context = currentContext();
    if (this.#closed) return this.#drop(within(context, copy), "the recorder is closed", undefined);
    if (this.#queue.length >= maxQueue || this.#queueBytes + bytes > maxQueueBytes) {
      return this.#drop(within(context, copy), "the queue is full: the daemon is away, or too slow", undefined);
    }
    this.#stats.recorded += 1;
    this.#queueBytes += bytes;
    this.#queue.push({ record: copy, context, ms: Date.now(), bytes, order: this.#stats.recorded, waiter });
    if (waiter) {
      // Somebody waits: it goes out with what else this turn of the event loop records.
      this.#hurried ??= setImmediate(() => {
        this.#hurried = undefined;
        this.#send();
      });
    } else if (!this.#gathering) {
      this.#gathering = true;
      if (this.#gatherer) this.#gatherer.refresh();
      else this.#gatherer = setTimeout(() => this.#send(), gather);
    }
    return true;
  }

  #drop(record: UsageRecord, reason: string, waiter: Waiter | undefined): false {
    this.#stats.dropped += 1;
    this.#stats.lastError = reason;
    waiter?.({ state: "dropped", reason });
    try {
      this.#options.onDrop?.(record, reason);
    } catch {
      // The callback's fault is not the request's.
    }
    return false;
  }

  /** Queue to window, window to socket. */
  #send(): void {
    this.#gathering = false;
    let taken = 0;
    for (; taken < this.#queue.length && this.#window.bytes < this.#options.maxBytes; taken += 1) {
      const { record, context, ms, bytes, order, waiter } = this.#queue[taken]!;
      this.#queueBytes -= bytes;
      try {
        const written = encodeWithin(record, { context, ms, app: this.#options.app });
        if (written.length > this.#maxFrameBytes - 64) throw new TypeError(`a record of ${written.length} bytes, a frame holds ${this.#maxFrameBytes}`);
        this.#window.add(written, order, waiter, this.#maxRecords, this.#maxFrameBytes);
      } catch (error) {
        this.#drop(within(context, record), error instanceof Error ? error.message : String(error), waiter);
      }
    }
    // What the window has no room for waits for the next ack.
    this.#full = taken < this.#queue.length;
    this.#queue.splice(0, taken);
    if (this.#window.records > 0 && !this.#socket && !this.#again) this.#connect();
    this.#write();
    this.#settled();
  }

  #connect(): void {
    if (this.#closed) return;
    const { path, host, port, token } = endpoint(this.#options);
    const link = path ? connect({ path }) : connect({ host: host!, port: port! });
    this.#socket = link;
    const inbox = new Inbox();
    const late = setTimeout(() => link.destroy(new Error("tallyd did not answer the handshake in time")), HANDSHAKE_TIMEOUT);
    late.unref();
    link.setNoDelay(true);
    link.on("connect", () => {
      link.write(helloFrame({
        protocol: PROTOCOL, producer: this.#producer, secret: this.#secret, client: CLIENT, ...(token ? { token } : {}), want_costs: true,
      }));
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
      this.#slow = SLOW_CODES.has(message.error.code);
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
    this.#slow = false;
    this.#warned(welcome.warning);
    if (this.#connectedBefore) this.#stats.reconnects += 1;
    this.#connectedBefore = true;
    if (this.#full) this.#send();
    this.#write();
    this.#settled();
  }

  #acknowledged(ack: Ack): void {
    if (!this.#window.knows(ack.seq)) throw new Error(`an ack for ${ack.seq}, which was never sent`);
    this.#failures = 0;
    if (ack.budget) {
      this.#throttle = ack.budget.should_throttle;
      this.#budgetStatus = ack.budget.status;
    }
    this.#warned(ack.warning);
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
    if (this.#full) this.#send();
    this.#write();
    this.#settled();
  }

  /** What the daemon warns of is in the statistics, and on the process's standard error once. */
  #warned(warning: Warning | undefined): void {
    if (!warning) return;
    if (this.#stats.lastWarning === undefined) process.emitWarning(`${warning.code}: ${warning.message}`, "TallydWarning");
    this.#stats.lastWarning = `${warning.code}: ${warning.message}`;
  }

  /** A daemon that owes an ack and says nothing is given up. */
  #watch(): void {
    if (!this.#window.awaitsAck || !this.#ready) return;
    // Set anew with each ack, and never taken back: where nothing is owed it says nothing.
    this.#silent ??= setTimeout(() => {
      if (this.#window.awaitsAck) this.#socket?.destroy(new Error("tallyd owes an ack and is silent"));
    }, this.#options.ackTimeout).unref();
    this.#silent.refresh();
  }

  #write(): void {
    const link = this.#socket;
    while (this.#ready && link && !link.destroyed && link.writableLength < WRITES_MAX) {
      const owed = this.#window.awaitsAck;
      const frame = this.#window.next();
      if (!frame) break;
      link.write(frame);
      if (!owed) this.#watch();
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
    const base = this.#slow ? SLOW_BACKOFF : Math.min(BACKOFF_MAX, BACKOFF_MIN * 2 ** Math.min(this.#failures, 10));
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

  /** The order of the oldest record that is not settled. */
  get #oldest(): number {
    return this.#window.oldest ?? this.#queue[0]?.order ?? Infinity;
  }

  #settled(): void {
    const oldest = this.#oldest;
    this.#flushes = this.#flushes.filter((flush) => {
      if (flush.upTo >= oldest) return true;
      flush.settled();
      return false;
    });
    if (this.inFlight === 0) this.#socket?.unref();
  }
}
