// Deploys of applications in a chart of costs: marks at their bars, and a list for those who do not see the chart.

import { useMemo, useState } from "preact/hooks";
import { type Failure, change, get, url } from "./api";
import type { History, Question } from "./costdata";
import { instant, noun } from "./format";
import { useLive } from "./live";
import { useSession } from "./session";
import type { ChartProps } from "./ui/chart";
import { Problem } from "./ui/parts";

interface Deploy {
  id: number;
  app: string;
  version: string;
  at: string;
  /** Empty if nothing was said. */
  by: string;
}

/** Deploys that a bar's tooltip names, and that the list shows. */
const NAMED = 4;
const LISTED = 50;

const NONE: Deploy[] = [];

export interface Marks {
  deploys: Deploy[];
  reload: () => void;
}

/** The deploys of a request's days, newest first; with a filter by application, its own alone. */
export function useDeploys({ range, filters }: Question): Marks {
  const path = url("/api/v1/deploys", { ...range, app: filters.app });
  const live = useLive<{ deploys: Deploy[] }>(path, (signal) => get(path, signal), 60_000);
  return { deploys: live.changing ? NONE : live.data?.deploys ?? NONE, reload: live.reload };
}

/** The bars, marked where something was deployed. `bars` begin with those of the history. */
export function useMarked(bars: ChartProps["bars"], { bars: keys, question: { bucket } }: History, { deploys }: Marks): ChartProps["bars"] {
  const { zone } = useSession();
  return useMemo(() => {
    const at = new Map<number, string[]>();
    for (const deploy of [...deploys].reverse()) {
      const when = instant(deploy.at, zone);
      const key = bucket === "hour" ? `${deploy.at.slice(0, 19)}Z` : when.slice(0, 10);
      // Bars follow one another without a gap: it lies in the last that has begun.
      let bar = keys.length - 1;
      while (bar >= 0 && (keys[bar]?.key ?? "") > key) bar -= 1;
      if (bar >= 0) at.set(bar, [...(at.get(bar) ?? []), `${deploy.app} ${deploy.version} (${when.slice(bucket === "hour" || bucket === "day" ? 11 : 5, 16)})`]);
    }
    if (at.size === 0) return bars;
    return bars.map((bar, index) => {
      const some = at.get(index);
      return some ? { ...bar, mark: `Deployed: ${some.slice(0, NAMED).join(", ")}${some.length > NAMED ? ` and ${some.length - NAMED} more` : ""}` } : bar;
    });
  }, [bars, keys, bucket, deploys, zone]);
}

/** The list beneath the chart; an admin removes a deploy that was told by mistake. */
export function Deploys({ marks }: { marks: Marks }) {
  const { zone, mayChange } = useSession();
  const [failure, setFailure] = useState<Failure | null>(null);
  const { deploys } = marks;
  if (deploys.length === 0) return null;
  const remove = async ({ id, app, version }: Deploy) => {
    if (!confirm(`Remove the mark of ${app} ${version}?`)) return;
    try {
      await change("DELETE", `/api/v1/deploys/${id}`);
      setFailure(null);
      marks.reload();
    } catch (error) {
      setFailure(error as Failure);
    }
  };
  return (
    <details class="footnote deploys">
      <summary>{noun(deploys.length, "deploy is", "deploys are")} marked</summary>
      {failure && <Problem failure={failure} slim />}
      <ul>
        {deploys.slice(0, LISTED).map((deploy) => (
          <li key={deploy.id}>
            <span class="breaks">{instant(deploy.at, zone).slice(0, 16)} <strong>{deploy.app}</strong> {deploy.version}{deploy.by && ` by ${deploy.by}`}</span>
            {mayChange && <button type="button" class="quiet" aria-label={`Remove the deploy ${deploy.app} ${deploy.version}`} onClick={() => void remove(deploy)}>Remove</button>}
          </li>
        ))}
      </ul>
      {deploys.length > LISTED && <p>These are the last {LISTED}.</p>}
    </details>
  );
}
