// Calls that instrumented clients have recorded, so that a tracker does not record them again.
//
// An application that moves from `recordClaude` to `instrument` uses both for a while, and each would record the call. So a tracker looks here
// first. Two calls are the same if they went to the same daemon and have the same model and tokens, or the same path at RentCast. Each is found
// once, within ten minutes. Nothing is kept in a process without a tracker.

import type { Durable } from "./options.js";
import type { Recorder } from "./recorder.js";
import type { UsageRecord } from "./record.js";
import { elapsed } from "./timers.js";

interface Seen { at: number; record: UsageRecord; durable: Promise<Durable>; endpoint: string }

const KEPT = 1_024;
const MILLISECONDS = 600_000;
const CACHES = ["cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens"] as const;
/** A model's name without a platform's prefix and suffix, and without a date. */
const CLAUDE = /claude[a-z0-9.-]*?(?=([-@]\d{8})?(-v\d+)?(:\d+)?$)/;

const seen: Seen[] = [];
let watched = false;

/** Keeps calls from here on. */
export function watchTwice(): void {
  watched = true;
}

/** Records an instrumented call, and keeps it for a tracker. */
export function noteAndRecord(recorder: Recorder, record: UsageRecord): void {
  if (!watched || (record.status ?? 200) >= 400) return void recorder.record(record);
  const durable = recorder.recordAndWait(record);
  // The recorder reports a failure.
  durable.catch(() => {});
  seen.push({ at: elapsed(), record, durable, endpoint: recorder.endpoint });
  while (seen.length > KEPT || seen[0]!.at < elapsed() - MILLISECONDS) seen.shift();
}

/** Finds and removes the same call, if the daemon at `endpoint` got it. */
export function takeSeen(record: UsageRecord, endpoint: string): Seen | undefined {
  const since = elapsed() - MILLISECONDS;
  const at = seen.findIndex((one) => one.at >= since && one.endpoint === endpoint && isSame(one.record, record));
  return at < 0 ? undefined : seen.splice(at, 1)[0];
}

function isSame(one: UsageRecord, told: UsageRecord): boolean {
  if (told.provider === "rentcast") {
    const [a, b] = [one.endpoint ?? "", told.endpoint ?? ""];
    return one.provider === "rentcast" && b !== "" && (a.endsWith(b) || b.endsWith(a));
  }
  const input = one.input_tokens ?? 0;
  // Some callers count the whole prompt as input, caches included.
  const prompt = CACHES.reduce((sum, name) => sum + (one[name] ?? 0), input);
  const model = modelOf(one);
  return model !== undefined && model === modelOf(told) && (told.input_tokens === input || told.input_tokens === prompt) && told.output_tokens === (one.output_tokens ?? 0);
}

function modelOf({ model }: UsageRecord): string | undefined {
  return CLAUDE.exec((model ?? "").trim().toLowerCase())?.[0];
}
