// A weekly or monthly budget as it burns down: its rest at the end of each day, and the day on which it will be used
// up at the present pace.

import { get } from "../api";
import { asCosts, path } from "../filter";
import { addDays, daysBetween, noun, percentage, shortDay, today } from "../format";
import { useLive } from "../live";
import { type Attos, parse, percent, usd } from "../money";
import { paceOf } from "../pace";
import { useSession } from "../session";
import type { BudgetState, Costs } from "../types";

/** The spend up to the end of each day of the period, until today. */
function useSpend(budget: BudgetState, now: string): Attos[] | null {
  const to = budget.period_end > now ? now : addDays(budget.period_end, -1);
  const address = path("/api/v1/costs", { from: budget.period_start, to, bucket: "day" }, asCosts(budget.scope));
  const live = useLive<Attos[]>(address, async (signal) => {
    const { rows } = await get<Costs>(address, signal);
    const days = new Map(rows.map((row) => [row.bucket, parse(row.cost_usd)]));
    let sum = 0n;
    return Array.from({ length: daysBetween(budget.period_start, to) + 1 }, (_, at) => (sum += days.get(addDays(budget.period_start, at)) ?? 0n));
  }, 60_000);
  return live.data;
}

const [WIDTH, HEIGHT] = [300, 56];

export function BurnDown({ budget }: { budget: BudgetState }) {
  const { zone } = useSession();
  const now = today(zone);
  const spend = useSpend(budget, now);
  const amount = parse(budget.amount_usd);
  if (spend === null || amount === 0n || budget.period === "day") return null;
  const { expected, usedUp, isPast } = paceOf(budget, spend, now);
  const days = daysBetween(budget.period_start, budget.period_end);
  const x = (at: number) => (at / days) * WIDTH;
  const y = (sum: Attos) => Math.min(1, Math.max(0, (percent(sum, amount) ?? 0) / 100)) * (HEIGHT - 2) + 1;
  const points = [0n, ...spend].map((sum, at) => `${x(at).toFixed(1)},${y(sum).toFixed(1)}`);
  const last = spend[spend.length - 1] ?? 0n;
  // The dashed line ends where the budget does.
  const gone = usedUp && !isPast ? daysBetween(budget.period_start, usedUp) + 1 : days;
  const text = usedUp
    ? isPast ? `Used up on ${shortDay(usedUp)}` : `At this pace used up on ${shortDay(usedUp)}`
    : `At this pace it lasts: ${percentage(percent(expected, amount))} used by ${shortDay(addDays(budget.period_end, -1))}`;
  return (
    <div class="burn">
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true">
        <line x1="0" y1="1" x2={WIDTH} y2={HEIGHT - 1} class="even" />
        <polyline points={points.join(" ")} class={usedUp ? "left over" : "left"} />
        {!isPast && <line x1={x(spend.length)} y1={y(last)} x2={x(gone)} y2={usedUp ? HEIGHT - 1 : y(expected)} class="pace" />}
      </svg>
      <p class="fine">{text}. {isPast ? "" : `${usd(amount - last, 2)} left for ${noun(daysBetween(now, budget.period_end), "day", "days")}.`} Expected for the period: {usd(expected, 2)}.</p>
    </div>
  );
}
