// Calls that were recorded by looking on, for a tracker that is told of the same calls once more.
//
// An application that moves from `recordClaude` to `instrument` has both for a while, and each would record the call. So a tracker looks here
// first. A call is the same if its model and its tokens are, or its path at RentCast, and the daemon that was told of it is the tracker's; each
// is found once, within ten minutes. Nothing is kept before the process has a tracker.

import type { Durable } from "./options.js";
import type { Recorder } from "./recorder.js";
import type { UsageRecord } from "./record.js";
import { elapsed } from "./timers.js";

interface Seen { at: number; record: UsageRecord; durable: Promise<Durable>; endpoint: string }

const KEPT = 1_024;
const MILLISECONDS = 600_000;
const CACHES = ["cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens"] as const;
/** A name without what a platform or a date adds. */
const CLAUDE = /claude[a-z0-9.-]*?(?=([-@]\d{8})?(-v\d+)?(:\d+)?$)/;

const seen: Seen[] = [];
let watched = false;

/** From here on calls are noted. */
export function watchTwice(): void {
  watched = true;
}

/** Records what was seen of a call, and notes it for a tracker. */
export function noteAndRecord(recorder: Recorder, record: UsageRecord): void {
  if (!watched || (record.status ?? 200) >= 400) return void recorder.record(record);
  const durable = recorder.recordAndWait(record);
  // Whether it is durable is the recorder's to tell.
  durable.catch(() => {});
  seen.push({ at: elapsed(), record, durable, endpoint: recorder.endpoint });
  while (seen.length > KEPT || seen[0]!.at < elapsed() - MILLISECONDS) seen.shift();
}

/** The same call as it was seen, which is then forgotten, if the daemon at this endpoint was told of it. */
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
  // People also tell the whole prompt, caches included.
  const prompt = CACHES.reduce((sum, name) => sum + (one[name] ?? 0), input);
  const model = modelOf(one);
  return model !== undefined && model === modelOf(told) && (told.input_tokens === input || told.input_tokens === prompt) && told.output_tokens === (one.output_tokens ?? 0);
}

function modelOf({ model }: UsageRecord): string | undefined {
  return CLAUDE.exec((model ?? "").trim().toLowerCase())?.[0];
}
