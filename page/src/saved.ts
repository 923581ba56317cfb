// The saving by caching in a range.

import { get } from "./api";
import { type Filters, type Range, asCosts, path } from "./filter";
import { type Saved, savedAt } from "./rates";
import type { Costs, PriceRow } from "./types";

export async function saved(range: Range, filters: Filters, signal: AbortSignal): Promise<Saved> {
  const [{ rows }, { prices }] = await Promise.all([
    get<Costs>(path("/api/v1/costs", { ...range, bucket: "total", group_by: "provider,model", sort: "calls", limit: 1_000 }, asCosts(filters)), signal),
    get<{ prices: PriceRow[] }>("/api/v1/prices?in_force=true", signal),
  ]);
  return savedAt(rows, prices);
}
