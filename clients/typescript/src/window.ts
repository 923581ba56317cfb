// Every record that is not settled yet, encoded once, in order, in frames.
//
// A frame gets its numbers when it is first given to a socket, and keeps them: from then on the daemon may have it. What is
// sent again is the same bytes under the same numbers, which is what makes sending again safe.

/** Bytes around the records of a frame, at most. */
const FRAME_OVERHEAD = 48;

/** What became of one record. */
export type Settled =
  | { state: "durable"; cost_usd: string | null | undefined }
  | { state: "refused"; code: string; message: string; field: string | undefined }
  | { state: "dropped"; reason: string };

export type Waiter = (settled: Settled) => void;

interface Frame {
  /** 0 until it was given to a socket: numbers start at 1. */
  first: number;
  records: Uint8Array[];
  waiters: (Waiter | undefined)[];
  /** How many records the application had recorded with each. */
  orders: number[];
  bytes: number;
}

const FRAME_RECORDS = 512;
const FRAME_BYTES = 64 * 1024;

export class Window {
  #frames: Frame[] = [];
  /** The first frame that this connection was not given. */
  #cursor = 0;
  #next = 1;
  #sent = 0;
  bytes = 0;
  records = 0;

  add(record: Uint8Array, order: number, waiter: Waiter | undefined, maxRecords: number, maxFrameBytes: number): void {
    let frame = this.#frames.at(-1);
    const full = Math.min(FRAME_BYTES, maxFrameBytes - FRAME_OVERHEAD);
    if (!frame || frame.first !== 0 || frame.records.length >= Math.min(FRAME_RECORDS, maxRecords) || frame.bytes + record.length > full) {
      frame = { first: 0, records: [], waiters: [], orders: [], bytes: 0 };
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
    if (frame.first === 0) {
      frame.first = this.#next;
      this.#next += frame.records.length;
    }
    this.#cursor += 1;
    this.#sent = Math.max(this.#sent, frame.first + frame.records.length - 1);
    return frame;
  }

  /** The order of the oldest that is not settled. */
  get oldest(): number | undefined {
    return this.#frames[0]?.orders[0];
  }

  /** How many of those up to that order are not settled. */
  upTo(order: number): number {
    let count = 0;
    for (const frame of this.#frames) {
      if (frame.orders[0]! > order) break;
      count += frame.orders.filter((one) => one <= order).length;
    }
    return count;
  }

  /** Whether a daemon can rightly acknowledge that number. */
  knows(seq: number): boolean {
    return seq <= this.#sent;
  }

  get awaitsAck(): boolean {
    return this.#cursor > 0;
  }

  /** A new connection: what the daemon has is settled, what it may not have is sent again. */
  welcome(lastSeq: number): void {
    this.#cursor = 0;
    while (this.#frames[0] && this.#frames[0].first > 0 && this.#last(this.#frames[0]) <= lastSeq) {
      // The ack was lost, and the cost with it.
      this.#shift((waiter) => waiter({ state: "durable", cost_usd: undefined }));
    }
    this.#next = Math.max(this.#next, lastSeq + 1);
    this.#sent = Math.max(this.#sent, lastSeq);
  }

  /** Cuts frames that are larger than the daemon takes. Numbers stay with their records. */
  fit(maxRecords: number, maxFrameBytes: number): void {
    const fits = (frame: Frame) => frame.records.length === 1 || (frame.records.length <= maxRecords && frame.bytes + FRAME_OVERHEAD <= maxFrameBytes);
    for (let at = 0; at < this.#frames.length; at += 1) {
      const frame = this.#frames[at]!;
      if (fits(frame)) continue;
      const half = frame.records.length >> 1;
      const part = (from: number, to?: number): Frame => {
        const records = frame.records.slice(from, to);
        const bytes = records.reduce((sum, record) => sum + record.length, 0);
        return { first: frame.first === 0 ? 0 : frame.first + from, records, waiters: frame.waiters.slice(from, to), orders: frame.orders.slice(from, to), bytes };
      };
      this.#frames.splice(at, 1, part(0, half), part(half));
      at -= 1;
    }
  }

  /** Settles what `seq` covers. `tell` says what became of the record with that number, at that place in a frame that ends with `last`. */
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

  /** Gives up all that is left. */
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
