// Frames of the protocol: a length, then one MessagePack value. See protocol/README.md.

import { Decoder, encode } from "@msgpack/msgpack";
import { begin, taken, writeArrayHead, writeInteger, writeMapHead, writeRaw, writeText } from "./writer.js";

export const PROTOCOL = 2;
/** Bound of a daemon's frame, in bytes. */
const SERVER_FRAME_BYTES = 8 * 1024 * 1024;

/** When records are acknowledged: after the sync of the daemon's disk, or after PostgreSQL's COMMIT. */
export type AckMode = "durable" | "committed";
export interface Hello { protocol: number; producer: string; secret: string; client: string; token?: string; want_costs: boolean; ack?: AckMode }
/** A problem that does not cost a record. */
export interface Warning { code: string; message: string }
export interface Welcome { protocol: number; last_seq: number; max_frame_bytes: number; max_records: number; warning?: Warning; budgets?: Budgets }
export interface Rejection { seq: number; code: string; message: string; field?: string }
export interface Budget { should_throttle: boolean; status: "normal" | "warning" | "exceeded" }
/** The state of all budgets. A call counts towards a scope if it has, in each of its dimensions, one of the names. `left`: USD that remain. */
export interface Budgets { budget?: Budget; used_up?: Record<string, string[]>[]; left?: { scope: Record<string, string[]>; usd: string }[]; left_off?: number }
export interface Ack { seq: number; costs?: (string | null)[]; rejected?: Rejection[]; budget?: Budget; warning?: Warning }
export interface ServerError { code: string; message: string }
export type ServerMessage = { welcome: Welcome } | { ack: Ack } | { budgets: Budgets } | { error: ServerError };

function framed(body: Uint8Array): Uint8Array {
  const frame = new Uint8Array(4 + body.length);
  new DataView(frame.buffer).setUint32(0, body.length);
  frame.set(body, 4);
  return frame;
}

export function helloFrame(hello: Hello): Uint8Array {
  const { protocol, producer, secret, client, token, want_costs, ack } = hello;
  // A daemon that does not know the key refuses the message, so the default is left out.
  const asked = ack === undefined || ack === "durable" ? {} : { ack };
  return framed(encode({ hello: { protocol, producer, secret, client, ...(token === undefined ? {} : { token }), want_costs, ...asked } }));
}

/** Asks for the state of budgets at each change. Only for a daemon whose welcome has `budgets`. */
export function watchFrame(): Uint8Array {
  return framed(encode({ watch: {} }));
}

/** A `records` frame. `records` are encoded already. */
export function recordsFrame(firstSeq: number, records: Uint8Array[]): Uint8Array {
  begin();
  writeRaw(LENGTH);
  writeMapHead(1);
  writeText("records");
  writeMapHead(2);
  writeText("first_seq");
  writeInteger(firstSeq);
  writeText("records");
  writeArrayHead(records.length);
  for (const record of records) writeRaw(record);
  const frame = taken();
  new DataView(frame.buffer).setUint32(0, frame.length - LENGTH.length);
  return frame;
}

/** A placeholder for the frame's length. */
const LENGTH = new Uint8Array(4);

/** The daemon's bytes violate the protocol, or a number is beyond 2^53 - 1. */
export class ProtocolError extends Error {}

/** A number from the daemon. 64-bit ones arrive as bigint. */
function count(value: unknown, name: string): number {
  const number = typeof value === "bigint" ? Number(value) : value;
  if (typeof number !== "number" || !Number.isSafeInteger(number) || number < 0) throw new ProtocolError(`${name} is ${String(value)}`);
  return number;
}

function warning(fields: Record<string, unknown>): { warning?: Warning } {
  const said = fields["warning"] as Record<string, unknown> | null | undefined;
  return said ? { warning: { code: String(said["code"]), message: String(said["message"]) } } : {};
}

function budgets(fields: Record<string, unknown>): Budgets {
  const told: Budgets = {};
  if (fields["budget"]) told.budget = fields["budget"] as Budget;
  if (Array.isArray(fields["used_up"])) told.used_up = fields["used_up"].filter(isScope);
  if (Array.isArray(fields["left"])) told.left = fields["left"].filter((one: { scope?: unknown } | null) => isScope(one?.scope));
  if (fields["left_off"]) told.left_off = count(fields["left_off"], "left_off");
  return told;
}

function isScope(scope: unknown): scope is Record<string, string[]> {
  return typeof scope === "object" && scope !== null && Object.values(scope).every((names) => Array.isArray(names));
}

/** Finds complete messages in a stream's pieces. Memory grows with the bytes that arrived, not with the length that a frame claims. */
export class Inbox {
  #bytes: Buffer = Buffer.alloc(0);
  readonly #decoder = new Decoder({ useBigInt64: true });

  *push(piece: Buffer): Generator<ServerMessage> {
    this.#bytes = this.#bytes.length === 0 ? piece : Buffer.concat([this.#bytes, piece]);
    while (this.#bytes.length >= 4) {
      const length = this.#bytes.readUInt32BE(0);
      if (length === 0 || length > SERVER_FRAME_BYTES) throw new ProtocolError(`a frame of ${length} bytes`);
      if (this.#bytes.length < 4 + length) return;
      const body = this.#bytes.subarray(4, 4 + length);
      this.#bytes = this.#bytes.subarray(4 + length);
      yield this.#read(body);
    }
  }

  #read(body: Buffer): ServerMessage {
    let value: unknown;
    try {
      value = this.#decoder.decode(body);
    } catch (error) {
      throw new ProtocolError(`a frame that is no MessagePack (${String(error)})`);
    }
    const [name, inner] = Object.entries(value as object)[0] ?? [];
    if (typeof inner !== "object" || inner === null) throw new ProtocolError("a message without a body");
    const fields = inner as Record<string, unknown>;
    switch (name) {
      case "welcome":
        return { welcome: {
          protocol: count(fields["protocol"], "protocol"), last_seq: count(fields["last_seq"], "last_seq"),
          max_frame_bytes: count(fields["max_frame_bytes"], "max_frame_bytes"), max_records: count(fields["max_records"], "max_records"),
          ...warning(fields),
          ...(fields["budgets"] ? { budgets: budgets(fields["budgets"] as Record<string, unknown>) } : {}),
        } };
      case "budgets":
        return { budgets: budgets(fields) };
      case "ack": {
        const ack: Ack = { seq: count(fields["seq"], "seq"), ...warning(fields) };
        if (fields["costs"]) ack.costs = fields["costs"] as (string | null)[];
        if (fields["budget"]) ack.budget = fields["budget"] as Budget;
        if (fields["rejected"]) {
          ack.rejected = (fields["rejected"] as Record<string, unknown>[]).map((one) => ({
            seq: count(one["seq"], "seq"), code: String(one["code"]), message: String(one["message"]),
            ...(typeof one["field"] === "string" ? { field: one["field"] } : {}),
          }));
        }
        return { ack };
      }
      case "error":
        return { error: { code: String(fields["code"]), message: String(fields["message"]) } };
      default:
        throw new ProtocolError(`an unknown message ${JSON.stringify(name)}`);
    }
  }
}
