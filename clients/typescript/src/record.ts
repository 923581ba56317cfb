// The usage record: one paid call, with its fields in the protocol's order.

import type { Context } from "./context.js";
import { type Decimal, FIELDS, type UsageRecord } from "./fields.js";
import { format, MadeId, v7, v7Into } from "./uuid.js";
import { begin, taken, writeArrayHead, writeBin16, writeInteger, writeMadeId, writeMapHead, writeNil, writeText } from "./writer.js";

export type { Decimal, UsageRecord } from "./fields.js";

const NAMES = FIELDS.map(([name]) => name);
const KINDS = FIELDS.map(([, kind]) => kind);
const DEFAULTS: readonly (string | number | null)[] = FIELDS.map(([, , standard]) => standard);

const KNOWN: ReadonlySet<string> = new Set(NAMES);

/** The wire's form of a decimal: text, never a float. */
export function decimal(value: Decimal): string {
  if (typeof value !== "number") return value.toString();
  if (!Number.isFinite(value)) throw new TypeError(`${value} is not an amount`);
  // 1e-7 becomes 0.0000001: decimal text does not have exponents.
  const text = value.toString();
  return text.includes("e") ? value.toFixed(18).replace(/\.?0+$/, "") : text;
}

/** An id's 16 bytes. Throws a TypeError if it is not a UUID. */
export function idBytes(id: string | Uint8Array): Uint8Array {
  if (typeof id !== "string") {
    if (id.length !== 16) throw new TypeError(`an id of ${id.length} bytes is no UUID`);
    return Uint8Array.from(id);
  }
  const hex = id.replaceAll("-", "");
  if (!/^[0-9a-fA-F]{32}$/.test(hex)) throw new TypeError(`${JSON.stringify(id)} is no UUID`);
  return Uint8Array.from({ length: 16 }, (_, at) => parseInt(hex.slice(at * 2, at * 2 + 2), 16));
}

function integer(name: string, value: number): number {
  if (!Number.isSafeInteger(value)) throw new TypeError(`${name}: ${value} is no whole number`);
  return value;
}

/** The field's value to write; undefined for its default. Throws a TypeError if the value does not fit the field. */
function valueOf(index: number, value: unknown): unknown {
  const name = NAMES[index]!;
  if (value === undefined || value === null || value === DEFAULTS[index]) return undefined;
  switch (KINDS[index]!) {
    case "id": return value instanceof MadeId ? value : idBytes(value as string | Uint8Array);
    case "time": return integer(name, typeof value === "object" ? (value as Date).getTime() * 1000 : (value as number));
    case "decimal": return decimal(value as Decimal);
    case "json": return typeof value === "string" ? value : JSON.stringify(value);
    case "units": {
      const units = Object.entries(value as Record<string, Decimal>).sort(([a], [b]) => (a < b ? -1 : 1));
      return units.length === 0 ? undefined : units.map(([unit, quantity]) => [unit, decimal(quantity)]);
    }
    case "tags": {
      const given = Object.entries(value as Record<string, unknown>).filter(([, text]) => text !== undefined && text !== null);
      const tags = given.sort(([a], [b]) => (a < b ? -1 : 1));
      return tags.length === 0 ? undefined : tags.map(([tag, text]) => [tag, String(text)]);
    }
    case "count":
    case "status":
    case "latency": return integer(name, value as number);
    case "required":
    case "text":
      if (typeof value !== "string") throw new TypeError(`${name}: ${String(value)} is no text`);
      return value;
  }
}

/** True of a field that is a map: its entries are written. */
const isMap = (index: number): boolean => KINDS[index] === "units" || KINDS[index] === "tags";

function write(index: number, value: unknown): void {
  if (value === undefined) {
    const standard = DEFAULTS[index]!;
    if (isMap(index)) writeMapHead(0);
    else if (standard === null) writeNil();
    else if (typeof standard === "number") writeInteger(standard);
    else writeText(standard);
  } else if (typeof value === "string") writeText(value);
  else if (typeof value === "number") writeInteger(value);
  else if (value instanceof MadeId) writeMadeId((into, at) => into.set(value, at));
  else if (value instanceof Uint8Array) writeBin16((into, at) => into.set(value, at));
  else {
    const entries = value as [string, string][];
    writeMapHead(entries.length);
    for (const [name, text] of entries) {
      writeText(name);
      writeText(text);
    }
  }
}

/** Values of the recorder for fields that a record leaves out. */
export interface Standing { context: Context; app: string; tags: UsageRecord["tags"] | undefined; ms: number }

/** Reused for each record, so that encoding allocates no list. */
const values: unknown[] = new Array(FIELDS.length);
const [ID, AT, APP, TAGS] = [NAMES.indexOf("id"), NAMES.indexOf("occurred_at"), NAMES.indexOf("app"), NAMES.indexOf("tags")];

/** The record's array form in MessagePack, without trailing defaults. Throws a TypeError that names a field which cannot be written. */
export function encodeRecord(record: UsageRecord): Uint8Array {
  return encodeWithin(record, undefined);
}

/** Checks each field and puts its value into `values`. Returns the number of values. */
function check(record: UsageRecord, standing: Standing | undefined): number {
  for (const name of Object.keys(record)) {
    if (!KNOWN.has(name)) throw new TypeError(`no field is called ${JSON.stringify(name)}`);
  }
  let length = 0;
  for (let index = 0; index < FIELDS.length; index += 1) {
    const name = NAMES[index]!;
    let value: unknown = record[name];
    if (standing) {
      if (index === TAGS && (standing.tags || standing.context.tags)) value = { ...standing.tags, ...standing.context.tags, ...record.tags };
      if (value === undefined) value = standing.context[name as keyof Context];
      if (index === APP && !value) value = standing.app;
    }
    values[index] = valueOf(index, value);
    if (values[index] !== undefined) length = index + 1;
  }
  return length;
}

/** As {@link encodeRecord}, with an id, a time and the recorder's values where the record leaves them out. */
export function encodeWithin(record: UsageRecord, standing: Standing | undefined): Uint8Array {
  let length = check(record, standing);
  if (standing) length = Math.max(length, AT + 1);
  begin();
  writeArrayHead(length);
  for (let index = 0; index < length; index += 1) {
    if (standing && values[index] === undefined && index === ID) writeMadeId((into, at) => v7Into(standing.ms, into, at));
    else if (standing && values[index] === undefined && index === AT) writeInteger(standing.ms * 1000);
    else write(index, values[index]);
  }
  return taken();
}

const utf8 = new TextEncoder();

/** As {@link encodeWithin}, but a JSON object for the HTTP API. */
export function encodeJsonWithin(record: UsageRecord, standing: Standing): Uint8Array {
  const length = check(record, standing);
  const said: Record<string, unknown> = {};
  for (let index = 0; index < length; index += 1) {
    const value = values[index];
    if (value !== undefined) said[NAMES[index]!] = isMap(index) ? Object.fromEntries(value as [string, string][]) : value;
  }
  said["id"] = format((values[ID] as Uint8Array | undefined) ?? v7(standing.ms));
  said["occurred_at"] ??= standing.ms * 1000;
  return utf8.encode(JSON.stringify(said));
}
