// Records that wait to be encoded: their copies, and a bound of their memory.

import type { Context } from "./context.js";
import { idBytes, type UsageRecord } from "./record.js";
import type { Waiter } from "./window.js";

/** A waiting record, with its context and time (`ms`). `order` is its number among the recorder's records, from 1. */
export interface Waiting { record: UsageRecord; context: Context; ms: number; bytes: number; order: number; waiter: Waiter | undefined }

/** Upper bounds of V8's memory: for a record with its place in the queue, and for one character of text. */
const RECORD_BYTES = 512;
const CHARACTER_BYTES = 2;

/** The id that the caller gave. An invalid id is found when the record is encoded, like any other invalid field. */
export function ownId({ id }: UsageRecord): Uint8Array | undefined {
  try {
    return id === undefined || id === null ? undefined : idBytes(id);
  } catch {
    return undefined;
  }
}

/** A copy, since the application may change its record before it is encoded. */
export function own(record: UsageRecord): UsageRecord {
  const copy = { ...record };
  if (typeof copy.metadata === "object" && copy.metadata !== null) copy.metadata = JSON.stringify(copy.metadata);
  if (copy.extra_units) copy.extra_units = { ...copy.extra_units };
  if (copy.tags) copy.tags = { ...copy.tags };
  return copy;
}

/** An upper bound of a record's memory, in bytes. */
export function bytesOf(record: UsageRecord): number {
  let characters = 0;
  for (const name in record) {
    const value = record[name as keyof UsageRecord];
    if (typeof value === "string") characters += value.length;
  }
  for (const unit in record.extra_units) characters += RECORD_BYTES + unit.length;
  for (const [tag, value] of Object.entries(record.tags ?? {})) characters += RECORD_BYTES + tag.length + String(value).length;
  return RECORD_BYTES + CHARACTER_BYTES * characters;
}
