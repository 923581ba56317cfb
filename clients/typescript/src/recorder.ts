// The recorder: the API of an application that records calls.
//
// `record()` puts the call into a bounded queue and returns. A moment later the queue is encoded into frames, which go over one
// connection. With a spool, `record()` encodes the record and writes it to a file first. Frames stay in memory until the daemon's ack, and the next connection sends them again, byte for byte. Nothing here
// throws into the application. Only records that are not durable yet keep the process alive.

import type { BudgetStatus } from "./answers.js";
import { type CallScope, estimated, scoped } from "./call-scope.js";
import { currentContext, within } from "./context.js";
import { Drain } from "./drain.js";
import { connectHttp } from "./http-link.js";
import type { Connect, Link } from "./link.js";
import { DEFAULTS, type Durable, type Endpoint, endpoint, isOff, type RecorderOptions, type Stats } from "./options.js";
import { type Ending, platform, type Spool } from "./platform.js";
import { bytesOf, own, ownId, type Waiting } from "./queue.js";
import { encodeJsonWithin, encodeWithin, type UsageRecord } from "./record.js";
import { type Check, Standing, UNKNOWN } from "./standing.js";
import { after, cancel, later, now, soon, type Timer } from "./timers.js";
import { v7, format, randomHex } from "./uuid.js";
import { type Settled, type Waiter, Window } from "./window.js";
import type { Ack, Rejection, ServerMessage, Warning } from "./wire.js";

/** The protocol version of this client. */
const PROTOCOL = 2;
const BACKOFF_MIN = 50;
const BACKOFF_MAX = 5_000;
const SLOW_BACKOFF = 60_000;
/** Errors that repeat at once, so that the next attempt is after `SLOW_BACKOFF`. */
const SLOW_CODES = new Set(["fenced", "protocol_version", "producer", "secret", "reserved_name", "sequence", "unauthorized"]);
/** The free bytes that `room()` waits for: more than most records need. */
const ROOM_BYTES = 64 * 1024;
/** Attempts to connect at the end of a process, and the milliseconds between them. */
const [EXIT_ATTEMPTS, EXIT_PAUSE] = [4, 100];
const lost = (left: number, end: string, spool?: Spool): string => {
  const [records, are] = left === 1 ? ["1 record was", "is"] : [`${left} records were`, "are"];
  return `${records} not delivered before ${end}, and ${are} ${spool ? `in ${spool.folder} for the next start` : "lost"}`;
};
const HANDSHAKE_TIMEOUT = 10_000;
const CLIENT = "tallyd-ts/0.1.0";

/** Records calls in the background. Connects at once; the constructor throws a TypeError for an `endpoint` that is not a valid URL. */
export class Recorder implements Ending {
  readonly #options: typeof DEFAULTS & RecorderOptions;
  /** Disabled, for tests: nothing is kept, nothing is opened. */
  readonly #off: boolean;
  readonly #endpoint: Endpoint;
  readonly #connection: Connect | undefined;
  /** The producer's name and secret: new for each recorder, and kept while it may resend. Made at the first use: some runtimes do not have random
   * numbers before the first request. */
  #identity: { producer: string; secret: string } | undefined;
  readonly #window = new Window();
  readonly #spool: Spool | undefined;
  readonly #drain: Drain | undefined;
  #queue: Waiting[] = [];
  #queueBytes = 0;
  #gatherer: Timer | undefined;
  #hurried = false;
  #full = false;
  #link: Link | undefined;
  #ready = false;
  #silent: Timer | undefined;
  #again: Timer | undefined;
  /** The timer `#again` reconnects only to hear of budgets: no record waits. */
  #listening = false;
  #failures = 0;
  /** The last refusal will repeat (SLOW_CODES). */
  #slow = false;
  #maxFrameBytes = 1024 * 1024;
  #maxRecords = Infinity;
  #closed = false;
  readonly #told = new Set<string>();
  #roomless: (() => void)[] = [];
  readonly #standing: Standing;
  /** Whether the daemon sends the state of all budgets. If not, its acks have a part of it. */
  #isTold = false;
  #welcomed = false;
  #readies = new Set<() => void>();
  #flushes: { upTo: number; settled: () => void }[] = [];
  #leaving = new Set<() => void>();
  #stats = { recorded: 0, acked: 0, rejected: 0, dropped: 0, unread: 0, recovered: 0, reconnects: 0, lastError: undefined as string | undefined, lastWarning: undefined as string | undefined };
  #connectedBefore = false;

  constructor(options: RecorderOptions = {}) {
    // An option that is `undefined` counts as left out.
    const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
    this.#options = { ...DEFAULTS, ...given };
    this.#standing = new Standing(options.denyUnknown);
    this.#off = options.disabled ?? isOff(platform.env("TALLYD_DISABLED"));
    this.#endpoint = endpoint(this.#options);
    this.#connection = this.#endpoint.url === undefined ? platform.connect : connectHttp(platform.post);
    if (options.spool && this.#endpoint.url !== undefined) throw new TypeError("a spool needs the daemon's socket or TCP: over HTTP a record could count twice");
    if (options.spool && !this.#off && this.#connection) [this.#spool, this.#drain] = this.#spooling(options.spool, this.#connection);
    // Connects before the first record, because `check` needs the state of budgets.
    if (!this.#off && this.#endpoint.url === undefined && this.#connection) soon(() => this.#listen());
  }

  #identified(): { producer: string; secret: string } {
    const name = (): string => `${this.#options.app || "node"}@${platform.host()}-${randomHex(6)}`.slice(-128);
    const { producer, spool } = this.#options;
    // With a spool, producers of earlier processes may be connected at the same time.
    const chosen = producer && spool ? `${producer}-${randomHex(6)}`.slice(-128) : producer;
    return (this.#identity ??= { producer: chosen || name(), secret: randomHex(16) });
  }

  /** The spool, and the delivery of those that were left. Without a file, records are in memory; those that were left are delivered also then,
   * because a full disk may be full of them. */
  #spooling(folder: string, connect: Connect): [Spool | undefined, Drain | undefined] {
    let drain: Drain | undefined;
    try {
      if (!platform.spools) throw new Error("this runtime has no files");
      platform.spools.prepare(folder);
      drain = new Drain(folder, this.#endpoint, connect, CLIENT, this.#options.ack ?? "durable", this.#options.ackTimeout, {
        recovered: (records) => (this.#stats.recovered += records),
        refused: (rejection) => this.#refused(rejection),
        failed: (error) => (this.#stats.lastError = `records of an earlier process wait in ${folder}: ${error.message}`),
        left: (error) => this.#tell("spool", (this.#stats.lastError = error.message)),
      });
      const { producer, secret } = this.#identified();
      return [platform.spools.create(folder, this.#options.spoolBytes, producer, secret), drain];
    } catch (error) {
      this.#stats.lastError = `there is no spool in ${folder}, so records are in memory alone: ${(error as Error).message}`;
      this.#tell("spool", this.#stats.lastError);
      return [undefined, drain];
    }
  }

  /** Records a call. Returns whether the record was taken; if not, `onDrop` gets it. Never throws, never waits. */
  record(record: UsageRecord): boolean {
    return this.#take(record, undefined);
  }

  /** Records a call. Resolves once it is durable; rejects with an Error if the daemon refused the record or it was not kept. */
  recordAndWait(record: UsageRecord): Promise<Durable> {
    return new Promise((resolve, reject) => {
      const id = ownId(record) ?? v7(now());
      if (this.#off) return resolve({ id: format(id), cost_usd: undefined });
      const taken = this.#take(record.id === undefined || record.id === null ? { ...record, id } : record, (settled) => {
        if (settled.state === "durable") resolve({ id: format(id), cost_usd: settled.cost_usd });
        else reject(new Error(settled.state === "refused" ? `${settled.code}: ${settled.message}` : settled.reason));
      });
      if (!taken) reject(new Error(this.#stats.lastError ?? "the record was not kept"));
    });
  }

  /** Waits at most `timeout` milliseconds until all earlier records are durable or refused. Resolves to the number of those that are not. */
  async flush(timeout = 5_000): Promise<number> {
    const upTo = this.#stats.recorded;
    this.#send();
    if (this.#oldest > upTo) return 0;
    await new Promise<void>((resolve) => {
      const flush = { upTo, settled: () => {
        cancel(timer);
        resolve();
      } };
      const timer = after(Math.max(1, timeout), () => {
        this.#flushes.splice(this.#flushes.indexOf(flush), 1);
        resolve();
      });
      this.#flushes.push(flush);
    });
    return this.#window.upTo(upTo) + this.#queue.filter(({ order }) => order <= upTo).length;
  }

  /** Flushes for `timeout` milliseconds at most, then ends the connection. Resolves to the number of records left, which `stats.dropped` counts, or
   * which wait in the spool for the next start. */
  async close(timeout = 5_000): Promise<number> {
    for (const leave of [...this.#leaving, ...this.#readies]) leave();
    const end = now() + timeout;
    do await this.flush(end - now());
    while (this.inFlight > 0 && now() < end);
    await this.#drain?.stop(end - now());
    const left = this.inFlight;
    this.#closed = true;
    for (const timer of [this.#again, this.#silent, this.#gatherer]) cancel(timer);
    this.#link?.close();
    this.#queueBytes = 0;
    for (const resume of this.#roomless.splice(0)) resume();
    if (left > 0) this.#tell("end", lost(left, "the recorder was closed", this.#spool));
    for (const { record, context, waiter } of this.#queue.splice(0)) this.#drop(within(context, record), "the recorder was closed", waiter);
    const dropped = this.#window.drop("the recorder was closed before the daemon had acknowledged it");
    if (!this.#spool) this.#stats.dropped += dropped;
    else if (left > 0) this.#spool.release();
    else this.#spool.remove();
    this.#settled();
    return left;
  }

  /** Resolves as soon as the queue has room for a record, or the recorder is closed. For bursts that are larger than the queue. */
  async room(): Promise<void> {
    this.#send();
    const bytes = Math.min(ROOM_BYTES, this.#options.maxQueueBytes);
    while (!this.#closed && !this.#fits(bytes)) await new Promise<void>((resolve) => this.#roomless.push(resolve));
  }

  /** @internal How long the process waits at its end, in milliseconds. */
  get exitTimeout(): number {
    return this.#options.exitTimeout;
  }

  /** @internal Delivers at the end of the process, without the event loop, over another kind of connection. */
  finish(connect: Connect, pump: (milliseconds: number) => boolean, timeout: number): void {
    const end = now() + timeout;
    for (let attempt = 0; attempt < EXIT_ATTEMPTS && this.inFlight > 0 && now() < end; attempt += 1) {
      if (attempt > 0) pump(EXIT_PAUSE);
      for (const timer of [this.#again, this.#silent, this.#gatherer]) cancel(timer);
      this.#link = undefined;
      this.#ready = false;
      this.#connect(connect);
      this.#send();
      while (this.inFlight > 0 && this.#link && pump(end - now()));
    }
    if (this.inFlight === 0) this.#spool?.remove();
    this.#closed = true;
  }

  /** @internal Warns of the records that are left at the end of the process. */
  lost(): void {
    this.#tell("end", `${lost(this.inFlight, "the process ended", this.#spool)}: ${this.#stats.lastError ?? "there was no time"}`, true);
  }

  /**
   * Registers an answer that is being observed: `leave` is called when the recorder is closed. The returned function ends that; with `true` it
   * counts an answer that was not read.
   * @internal
   */
  lookOn(leave: () => void): (unread: boolean) => void {
    this.#leaving.add(leave);
    return (unread) => {
      if (!this.#leaving.delete(leave) || !unread) return;
      this.#stats.unread += 1;
      this.#tell("unread", "an answer of a paid call was never read: it is recorded with what it had told until then");
    };
  }

  /**
   * Whether a call may be made, by the budgets that it counts towards: of everything, its provider, model (or the model's family), user, application
   * and tags. User, application and tags that are left out come from the context and the recorder, as for {@link record}. Answers at once,
   * without the network, from the daemon's last message, which counts for 5 minutes. Before the first message ({@link ready}), and always over
   * HTTP, the state is not known: `denyUnknown` decides. Throws a RangeError for an `estimate` that is not an amount.
   */
  check(call: CallScope = {}): Check {
    const estimate = estimated(call);
    return this.#off ? UNKNOWN : this.#standing.check(scoped(call, currentContext(), this.#options), estimate);
  }

  /** State of the budgets of everything: `warning` from an alert threshold on. The daemon's last message counts for 5 minutes, then `normal`. */
  get budgetStatus(): BudgetStatus {
    return this.#standing.status();
  }

  /**
   * Resolves to true once the daemon has sent the state of budgets, and to false after `timeout` milliseconds. For programs that
   * check once whether to hold back, and end.
   */
  ready(timeout = 5_000): Promise<boolean> {
    if (this.#welcomed) return Promise.resolve(true);
    return new Promise((resolve) => {
      const ready = (): void => {
        cancel(timer);
        this.#readies.delete(ready);
        resolve(this.#welcomed);
      };
      const timer = after(Math.max(1, timeout), ready);
      this.#readies.add(ready);
      this.#listen();
    });
  }

  /** @internal The daemon's address, without the token. */
  get endpoint(): string {
    return this.#endpoint.name;
  }

  /** Whether the recorder is disabled. */
  get isOff(): boolean {
    return this.#off;
  }

  /** Records that are neither durable nor refused yet. */
  get inFlight(): number {
    return this.#queue.length + this.#window.records;
  }

  /** @internal Warns people, once per kind. */
  notice(kind: string, message: string): void {
    this.#tell(kind, message);
  }

  get stats(): Stats {
    return { ...this.#stats, inFlight: this.inFlight, connected: this.#ready };
  }

  #take(record: UsageRecord, waiter: Waiter | undefined): boolean {
    if (this.#off) return true;
    if (this.#spool && !this.#closed) return this.#put(this.#spool, record, waiter);
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
    if (!this.#connection) return this.#drop(within(context, copy), 'this runtime has no sockets: give endpoint: "https://…"', undefined);
    // Encoding a burst takes a fifth of its memory, so encode before refusing any of it.
    if (!this.#fits(bytes)) this.#encode();
    if (!this.#fits(bytes)) return this.#drop(within(context, copy), "the queue is full: the daemon is away, or too slow", undefined);
    if (this.inFlight === 0) platform.watchEnd(this);
    this.#stats.recorded += 1;
    this.#queueBytes += bytes;
    this.#queue.push({ record: copy, context, ms: now(), bytes, order: this.#stats.recorded, waiter });
    return this.#due(waiter);
  }

  /** Writes a record to the spool. From then on a kill of the process does not lose it. */
  #put(spool: Spool, record: UsageRecord, waiter: Waiter | undefined): boolean {
    const context = currentContext();
    let written: Uint8Array;
    let seq: number | undefined;
    try {
      written = encodeWithin(record, { context, ms: now(), app: this.#options.app, tags: this.#options.tags });
      if (written.length > this.#maxFrameBytes - 64) throw new TypeError(`a record of ${written.length} bytes, a frame holds ${this.#maxFrameBytes}`);
    } catch (error) {
      return this.#drop(record, error instanceof Error ? error.message : String(error), undefined);
    }
    try {
      seq = spool.put(written);
    } catch (error) {
      return this.#drop(within(context, record), `the spool cannot be written: ${(error as Error).message}`, undefined);
    }
    if (seq === undefined) return this.#drop(within(context, record), "the spool is full: the daemon is away, or too slow", undefined);
    if (this.inFlight === 0) platform.watchEnd(this);
    this.#stats.recorded += 1;
    this.#window.add(written, this.#stats.recorded, waiter, this.#maxRecords, this.#maxFrameBytes, seq);
    return this.#due(waiter);
  }

  /** Sees to it that records are sent soon. */
  #due(waiter: Waiter | undefined): true {
    if (waiter && !this.#hurried) {
      // A caller waits: send together with the other records of this turn of the event loop.
      this.#hurried = true;
      soon(() => {
        this.#hurried = false;
        if (!this.#closed) this.#send();
      });
    }
    this.#gatherer ??= later(this.#options.gather, () => this.#send());
    return true;
  }

  #fits(bytes: number): boolean {
    return this.#spool ? this.#spool.fits(bytes) : this.#queueBytes + bytes <= this.#options.maxQueueBytes;
  }

  #drop(record: UsageRecord, reason: string, waiter: Waiter | undefined): false {
    this.#stats.dropped += 1;
    this.#stats.lastError = reason;
    if (!this.#options.onDrop && !this.#closed) this.#tell(`drop ${reason.split(":")[0]}`, `a record was not kept: ${reason}. stats.dropped counts them`);
    waiter?.({ state: "dropped", reason });
    try {
      this.#options.onDrop?.(record, reason);
    } catch {
      // An error in the callback must not reach the application's request.
    }
    return false;
  }

  /** Warns people, once per kind. */
  #tell(kind: string, message: string, ending = false): void {
    if (this.#options.quiet || this.#told.has(kind)) return;
    this.#told.add(kind);
    try {
      platform.warn(`tallyd: ${message}`, ending);
    } catch {
      // The platform cannot show the message.
    }
  }

  /** Queue to window, window to connection. */
  #send(): void {
    cancel(this.#gatherer);
    this.#gatherer = undefined;
    this.#encode();
    if (this.#window.records > 0 && !this.#link) {
      if (this.#listening && !this.#slow) {
        // The timer was only for budgets. A record does not wait for it.
        cancel(this.#again);
        this.#again = undefined;
        this.#listening = false;
        this.#failures = 0;
      }
      if (!this.#again) this.#connect(this.#connection);
    }
    this.#write();
    this.#settled();
  }

  /** Queue to window. */
  #encode(): void {
    const encoded = this.#endpoint.url === undefined ? encodeWithin : encodeJsonWithin;
    let taken = 0;
    for (; taken < this.#queue.length && this.#window.bytes < this.#options.maxBytes; taken += 1) {
      const { record, context, ms, bytes, order, waiter } = this.#queue[taken]!;
      this.#queueBytes -= bytes;
      try {
        const written = encoded(record, { context, ms, app: this.#options.app, tags: this.#options.tags });
        if (written.length > this.#maxFrameBytes - 64) throw new TypeError(`a record of ${written.length} bytes, a frame holds ${this.#maxFrameBytes}`);
        this.#window.add(written, order, waiter, this.#maxRecords, this.#maxFrameBytes);
      } catch (error) {
        this.#drop(within(context, record), error instanceof Error ? error.message : String(error), waiter);
      }
    }
    // The rest waits for the next ack, which makes room in the window.
    this.#full = taken < this.#queue.length;
    this.#queue.splice(0, taken);
    if (taken > 0) for (const resume of this.#roomless.splice(0)) resume();
  }

  /** Connects without a record to send. Over HTTP the daemon sends nothing by itself. */
  #listen(): void {
    if (!this.#off && this.#endpoint.url === undefined && !this.#link && !this.#again) this.#connect(this.#connection);
  }

  #connect(connect: Connect | undefined): void {
    if (this.#closed || !connect) return;
    const late = later(HANDSHAKE_TIMEOUT, () => link.close(new Error("tallyd did not answer the handshake in time")));
    const link = connect(this.#endpoint, { ...this.#identified(), client: CLIENT, ack: this.#options.ack ?? "durable", timeout: this.#options.ackTimeout, ...(this.#options.ca === undefined ? {} : { ca: this.#options.ca }) }, {
      heard: (message) => {
        if (this.#link !== link) return;
        cancel(late);
        this.#heard(message);
      },
      drained: () => this.#write(),
      closed: (error, back) => {
        cancel(late);
        if (this.#link !== link) return;
        if (error) this.#stats.lastError = error.message;
        this.#down(back);
      },
    });
    this.#link = link;
    link.start();
  }

  #heard(message: ServerMessage): void {
    if ("error" in message) {
      this.#slow = SLOW_CODES.has(message.error.code);
      throw new Error(`tallyd refused the connection (${message.error.code}): ${message.error.message}`);
    }
    if ("ack" in message) return this.#acknowledged(message.ack);
    if ("budgets" in message) {
      this.#failures = 0;
      return this.#standing.hear(message.budgets);
    }
    const { welcome } = message;
    if (this.#ready || welcome.protocol !== PROTOCOL || welcome.max_records < 1 || welcome.max_frame_bytes < 1024) {
      throw new Error(`an impossible welcome: ${JSON.stringify(welcome)}`);
    }
    this.#maxFrameBytes = welcome.max_frame_bytes;
    this.#maxRecords = welcome.max_records;
    this.#window.fit(this.#maxRecords, this.#maxFrameBytes);
    const before = this.#window.records;
    this.#window.welcome(welcome.last_seq);
    this.#stats.acked += before - this.#window.records;
    this.#ready = true;
    this.#slow = false;
    this.#isTold = welcome.budgets !== undefined;
    if (welcome.budgets) {
      this.#standing.hear(welcome.budgets);
      this.#link?.watch?.();
    }
    this.#welcomed = true;
    for (const ready of [...this.#readies]) ready();
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
    if (ack.budget && !this.#isTold) this.#standing.hear({ budget: ack.budget });
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
    for (const one of told) this.#refused(one);
    this.#watch();
    if (this.#full) this.#send();
    this.#write();
    this.#settled();
  }

  #refused(one: Rejection): void {
    if (!this.#options.onReject) this.#tell("refused", `a record was refused: ${one.code}: ${one.message}. stats.rejected counts them`);
    try {
      this.#options.onReject?.(one);
    } catch {
      // An error in the callback must not end the connection.
    }
  }

  /** Keeps the daemon's warning in the statistics, and shows the first one. */
  #warned(warning: Warning | undefined): void {
    if (!warning) return;
    this.#stats.lastWarning = `${warning.code}: ${warning.message}`;
    this.#tell("warning", this.#stats.lastWarning);
  }

  /** Closes a connection on which an ack is overdue and nothing arrives. */
  #watch(): void {
    cancel(this.#silent);
    this.#silent = undefined;
    if (!this.#window.awaitsAck || !this.#ready) return;
    this.#silent = later(this.#options.ackTimeout, () => {
      if (this.#window.awaitsAck) this.#link?.close(new Error("tallyd owes an ack and is silent"));
    });
  }

  #write(): void {
    while (this.#ready && this.#link?.takes) {
      const owed = this.#window.awaitsAck;
      const frame = this.#window.next();
      if (!frame) break;
      this.#link.send(frame.first, frame.records);
      if (!owed) this.#watch();
    }
  }

  #down({ wait, slow = this.#slow }: { wait?: number; slow?: boolean } = {}): void {
    this.#link = undefined;
    this.#ready = false;
    cancel(this.#silent);
    this.#silent = undefined;
    if (this.#closed) return;
    if (this.inFlight > 0) this.#tell("away", `no connection to ${this.#endpoint.name}, records wait: ${this.#stats.lastError ?? "it was closed"}`);
    const base = wait ?? (slow ? SLOW_BACKOFF : Math.min(BACKOFF_MAX, BACKOFF_MIN * 2 ** Math.min(this.#failures, 10)));
    this.#failures += 1;
    // Half of it is random, so that many clients do not reconnect at one moment.
    this.#again = later(wait ?? base / 2 + Math.random() * (base / 2), () => {
      this.#again = undefined;
      this.#listening = false;
      if (this.inFlight > 0) this.#connect(this.#connection);
      else this.#listen();
    });
    this.#listening = this.inFlight === 0;
  }

  /** Gives the room of settled records in the spool away. A record's number in it is its order. */
  #settleSpool(): void {
    if (!this.#spool || this.#closed) return;
    try {
      this.#spool.settle((this.#window.oldest ?? this.#stats.recorded + 1) - 1);
      for (const resume of this.#roomless.splice(0)) resume();
    } catch (error) {
      this.#stats.lastError = `the spool cannot be written: ${(error as Error).message}`;
    }
  }

  /** The order of the oldest record that is neither durable nor refused. */
  get #oldest(): number {
    return this.#window.oldest ?? this.#queue[0]?.order ?? Infinity;
  }

  #settled(): void {
    const oldest = this.#oldest;
    this.#settleSpool();
    this.#flushes = this.#flushes.filter((flush) => {
      if (flush.upTo >= oldest) return true;
      flush.settled();
      return false;
    });
  }
}
