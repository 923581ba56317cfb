// The usage record: what one paid call was, in the order of the protocol.

import type { Context } from "./context.js";
import { type Decimal, FIELDS, type UsageRecord } from "./fields.js";
import { format, MadeId, v7, v7Into } from "./uuid.js";
import { begin, taken, writeArrayHead, writeBin16, writeInteger, writeMadeId, writeMapHead, writeNil, writeText } from "./writer.js";

export type { Decimal, UsageRecord } from "./fields.js";

const NAMES = FIELDS.map(([name]) => name);
const KINDS = FIELDS.map(([, kind]) => kind);
const DEFAULTS: readonly (string | number | null)[] = FIELDS.map(([, , standard]) => standard);

const KNOWN: ReadonlySet<string> = new Set(NAMES);

/** A decimal as the wire has it: text, never a float. */
function decimal(value: Decimal): string {
  if (typeof value !== "number") return value.toString();
  if (!Number.isFinite(value)) throw new TypeError(`${value} is no amount`);
  // 1e-7 as 0.0000001: exponents are not decimal text.
  const text = value.toString();
  return text.includes("e") ? value.toFixed(18).replace(/\.?0+$/, "") : text;
}

/** An id as its 16 bytes. Throws a TypeError if it is none. */
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

/** What is written of the field: undefined if it is at its default. */
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

/** What the recorder says of a record that does not say it itself. */
export interface Standing { context: Context; app: string; tags: UsageRecord["tags"] | undefined; ms: number }

/** Kept from record to record: encoding makes no list of its own. */
const values: unknown[] = new Array(FIELDS.length);
const [ID, AT, APP, TAGS] = [NAMES.indexOf("id"), NAMES.indexOf("occurred_at"), NAMES.indexOf("app"), NAMES.indexOf("tags")];

/** The record's array form: trailing defaults are left off. Throws a TypeError that names the field, where one cannot be written. */
export function encodeRecord(record: UsageRecord): Uint8Array {
  return encodeWithin(record, undefined);
}

/** Checks each field and puts what is written of it into `values`. Returns how many are. */
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

/** The same, with an id, a time and what else holds where the record does not say it. */
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

/** The same as a JSON object, for the HTTP API. */
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
