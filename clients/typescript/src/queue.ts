// What waits to be encoded: copies, and how much memory they may take.

import type { Context } from "./context.js";
import { idBytes, type UsageRecord } from "./record.js";
import type { Waiter } from "./window.js";

/** A record that waits, with what held when it was recorded. `order` counts the records before it, and itself. */
export interface Waiting { record: UsageRecord; context: Context; ms: number; bytes: number; order: number; waiter: Waiter | undefined }

/** What V8 needs for a record and its place in the queue, and for one character of text, at most. */
const RECORD_BYTES = 512;
const CHARACTER_BYTES = 2;

/** The id that the caller gave. One that is none is dropped when it is written, like any other field that cannot be. */
export function ownId({ id }: UsageRecord): Uint8Array | undefined {
  try {
    return id === undefined || id === null ? undefined : idBytes(id);
  } catch {
    return undefined;
  }
}

/** A copy: the record is the application's, and may change before it is written. */
export function own(record: UsageRecord): UsageRecord {
  const copy = { ...record };
  if (typeof copy.metadata === "object" && copy.metadata !== null) copy.metadata = JSON.stringify(copy.metadata);
  if (copy.extra_units) copy.extra_units = { ...copy.extra_units };
  if (copy.tags) copy.tags = { ...copy.tags };
  return copy;
}

/** What a record may take of the memory, at most. */
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
