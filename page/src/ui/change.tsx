// A figure compared with the range before: the difference and its percentage.

import { percentage } from "../format";
import { type Attos, percent, usd } from "../money";

/** The difference of two costs. Null if there is nothing to compare with. */
export function CostChange({ now, before, long }: { now: Attos; before: Attos | null; long?: boolean }) {
  if (before === null || (now === 0n && before === 0n)) return <span class="fine">—</span>;
  const by = now - before;
  if (by === 0n) return <span class="fine">unchanged</span>;
  return (
    <span class={by > 0n ? "up" : "down"}>
      {by > 0n ? "+" : ""}{usd(by)}{long ? `, ${share(by, before)}` : ""}
    </span>
  );
}

/** The difference in percent of the range before; "new" if it had no cost. */
export const share = (by: Attos, before: Attos): string => (before === 0n ? "new" : percentage(percent(by, before), true));

export function ShareChange({ now, before }: { now: Attos; before: Attos | null }) {
  if (before === null || (now === 0n && before === 0n)) return <span class="fine">—</span>;
  return <span class="fine">{share(now - before, before)}</span>;
}

/** The difference of two counts in percent, in a sentence. */
export function countChange(now: number, before: number): string {
  if (before === 0) return now === 0 ? "unchanged" : "none before";
  return `${percentage(((now - before) / before) * 100, true)} on the range before`;
}
