// Every record that is not settled yet, encoded once, in order, in frames.
//
// A frame gets its sequence numbers when it is first written to a socket. From then on the daemon may have it, so the frame keeps its numbers and
// its bytes. The daemon recognises the numbers, which makes a resend safe.

/** Bytes around the records of a frame, at most. */
const FRAME_OVERHEAD = 48;

/** The outcome of one record. */
export type Settled =
  | { state: "durable"; cost_usd: string | null | undefined }
  | { state: "refused"; code: string; message: string; field: string | undefined }
  | { state: "dropped"; reason: string };

export type Waiter = (settled: Settled) => void;

interface Frame {
  /** The first record's sequence number; 0 until the frame is written to a socket, unless the records came with numbers. Numbers start at 1. */
  first: number;
  /** Whether it was given to a connection: it takes no more records. */
  closed: boolean;
  records: Uint8Array[];
  waiters: (Waiter | undefined)[];
  /** Each record's order (see queue.ts). */
  orders: number[];
  bytes: number;
}

const FRAME_RECORDS = 512;
const FRAME_BYTES = 64 * 1024;

export class Window {
  #frames: Frame[] = [];
  /** Index of the first frame that this connection has not sent. */
  #cursor = 0;
  #next = 1;
  #sent = 0;
  bytes = 0;
  records = 0;

  /** `seq`: the record's number, if it has one, as in a spool; 0 if not. */
  add(record: Uint8Array, order: number, waiter: Waiter | undefined, maxRecords: number, maxFrameBytes: number, seq = 0): void {
    let frame = this.#frames.at(-1);
    const full = Math.min(FRAME_BYTES, maxFrameBytes - FRAME_OVERHEAD);
    const goesOn = frame && !frame.closed && (seq === 0 || frame.first + frame.records.length === seq);
    if (!frame || !goesOn || frame.records.length >= Math.min(FRAME_RECORDS, maxRecords) || frame.bytes + record.length > full) {
      frame = { first: seq, closed: false, records: [], waiters: [], orders: [], bytes: 0 };
      this.#frames.push(frame);
    }
    frame.records.push(record);
    frame.waiters.push(waiter);
    frame.orders.push(order);
    frame.bytes += record.length;
    this.bytes += record.length;
    this.records += 1;
  }

  /** The next frame to give to the connection, if there is one. */
  next(): { first: number; records: Uint8Array[] } | undefined {
    const frame = this.#frames[this.#cursor];
    if (!frame) return undefined;
    frame.closed = true;
    if (frame.first === 0) {
      frame.first = this.#next;
      this.#next += frame.records.length;
    }
    this.#cursor += 1;
    this.#sent = Math.max(this.#sent, frame.first + frame.records.length - 1);
    return frame;
  }

  /** The order of the oldest record that is not settled; undefined without one. */
  get oldest(): number | undefined {
    return this.#frames[0]?.orders[0];
  }

  /** The number of records up to `order` that are not settled. */
  upTo(order: number): number {
    let count = 0;
    for (const frame of this.#frames) {
      if (frame.orders[0]! > order) break;
      count += frame.orders.filter((one) => one <= order).length;
    }
    return count;
  }

  /** Whether a correct daemon can acknowledge this number. */
  knows(seq: number): boolean {
    return seq <= this.#sent;
  }

  get awaitsAck(): boolean {
    return this.#cursor > 0;
  }

  /** A new connection: settles the frames that the daemon has, and sends the others again. */
  welcome(lastSeq: number): void {
    this.#cursor = 0;
    while (this.#frames[0] && this.#frames[0].first > 0 && this.#last(this.#frames[0]) <= lastSeq) {
      // The ack with the cost was lost.
      this.#shift((waiter) => waiter({ state: "durable", cost_usd: undefined }));
    }
    this.#next = Math.max(this.#next, lastSeq + 1);
    this.#sent = Math.max(this.#sent, lastSeq);
  }

  /** Splits frames that are larger than the daemon takes. Records keep their numbers. */
  fit(maxRecords: number, maxFrameBytes: number): void {
    const fits = (frame: Frame) => frame.records.length === 1 || (frame.records.length <= maxRecords && frame.bytes + FRAME_OVERHEAD <= maxFrameBytes);
    for (let at = 0; at < this.#frames.length; at += 1) {
      const frame = this.#frames[at]!;
      if (fits(frame)) continue;
      const half = frame.records.length >> 1;
      const part = (from: number, to?: number): Frame => {
        const records = frame.records.slice(from, to);
        const bytes = records.reduce((sum, record) => sum + record.length, 0);
        return { first: frame.first === 0 ? 0 : frame.first + from, closed: frame.closed, records, waiters: frame.waiters.slice(from, to), orders: frame.orders.slice(from, to), bytes };
      };
      this.#frames.splice(at, 1, part(0, half), part(half));
      at -= 1;
    }
  }

  /** Settles the records up to `seq`. `tell` gives the outcome of the record with a number, at an index in a frame that ends with `last`. */
  settle(seq: number, tell: (seq: number, index: number, last: number) => Settled): Settled[] {
    const settled: Settled[] = [];
    while (this.#cursor > 0 && this.#frames[0] && this.#last(this.#frames[0]) <= seq) {
      const { first } = this.#frames[0];
      const last = this.#last(this.#frames[0]);
      this.#shift((waiter, index) => {
        const one = tell(first + index, index, last);
        settled.push(one);
        waiter(one);
      });
      this.#cursor -= 1;
    }
    return settled;
  }

  /** Gives up all records. Returns their number. */
  drop(reason: string): number {
    const left = this.records;
    while (this.#frames.length > 0) this.#shift((waiter) => waiter({ state: "dropped", reason }));
    this.#cursor = 0;
    return left;
  }

  #last(frame: Frame): number {
    return frame.first + frame.records.length - 1;
  }

  #shift(each: (waiter: Waiter, index: number) => void): void {
    const frame = this.#frames.shift()!;
    this.bytes -= frame.bytes;
    this.records -= frame.records.length;
    frame.waiters.forEach((waiter, index) => each(waiter ?? (() => {}), index));
  }
}
