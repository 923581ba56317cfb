// Latencies of models. The daemon reads them from single calls, so of short ranges only.

import { type Failure, get } from "./api";
import type { Question } from "./costdata";
import { LOG_DAYS_MAX, asCosts, daysOf, path } from "./filter";
import { useLive } from "./live";
import type { Latency } from "./types";

export interface Latencies {
  /** By provider and model; null while they are loaded, or where there are none. */
  of: Map<string, Latency> | null;
  /** Why there are none; empty if there are, or if other groups than models are asked about. */
  why: string;
}

const NONE: Latencies = { of: null, why: "" };
const EVERY_MS = 300_000;

export const latencyKey = (row: { provider?: string; model?: string }): string => JSON.stringify([row.provider, row.model]);

export function useLatency({ by, range, filters }: Question): Latencies {
  const isLong = daysOf(range) > LOG_DAYS_MAX;
  const address = by === "model" && !isLong ? path("/api/v1/latency", { ...range, group_by: "provider,model" }, asCosts(filters)) : null;
  const live = useLive<Latencies>(address ?? "no latencies", async (signal) => {
    if (address === null) return NONE;
    try {
      const { rows } = await get<{ rows: Latency[] }>(address, signal);
      return { of: new Map(rows.map((row) => [latencyKey(row), row])), why: "" };
    } catch (error) {
      if (signal.aborted) throw error;
      // Reading many calls may take too long. It is not tried again at once.
      return { of: null, why: `No latencies: ${(error as Failure).message}` };
    }
  }, EVERY_MS);
  if (by === "model" && isLong) return { of: null, why: `Latency is read from single calls: choose at most ${LOG_DAYS_MAX} days to see it.` };
  return address === null || live.changing ? NONE : live.data ?? NONE;
}
