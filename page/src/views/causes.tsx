// Why spend changed: the difference from the range before, split by cause. The daemon splits it; the parts add up exactly.

import { get } from "../api";
import type { History } from "../costdata";
import { asCosts, path } from "../filter";
import { count, noun, percentage } from "../format";
import { useLive } from "../live";
import { type Attos, parse, percent, toFloat, usd } from "../money";
import { Empty, Loaded } from "../ui/parts";
import { type Column, Table } from "../ui/table";

type Cause = "volume" | "new_users" | "model_mix" | "errors" | "tokens_per_call" | "cache_share" | "price" | "tier" | "other";

interface Answer {
  before_usd: string;
  after_usd: string;
  difference_usd: string;
  before_calls: number;
  after_calls: number;
  parts: { cause: Cause; usd: string; note: string | null }[];
}

/** Each cause with its sentences: for a part that made the range dearer, and for one that made it cheaper. */
const CAUSES: Record<Cause, [string, string, string]> = {
  volume: ["Volume", "more calls", "fewer calls"],
  new_users: ["New users", "calls of users who had not called before", "calls of users who had not called before"],
  model_mix: ["Mix of models", "a larger share of dearer models", "a larger share of cheaper models"],
  errors: ["Errors", "fewer calls failed", "more calls failed"],
  tokens_per_call: ["Tokens per call", "more tokens per call", "fewer tokens per call"],
  cache_share: ["Cache share", "less was read from caches", "more was read from caches"],
  price: ["Price", "list prices rose", "list prices fell"],
  tier: ["Tier", "dearer service tiers or platforms", "cheaper service tiers or platforms"],
  other: ["Other", "the rest", "the rest"],
};

interface Step {
  name: string;
  why: string;
  usd: Attos;
  /** The difference before this step. */
  from: Attos;
  isSum?: boolean;
}

export function Causes({ data }: { data: History }) {
  const { range, before, filters } = data.question;
  const address = before && path("/api/v1/costs/change", { ...range, before_from: before.from, before_to: before.to }, asCosts(filters));
  const live = useLive<Answer | null>(address ?? "no range before", async (signal) => (address ? get<Answer>(address, signal) : null), 120_000);
  return <Loaded live={live} rows={6}>{(answer) => (answer ? <Split answer={answer} /> : <Empty title="Nothing to compare with">Choose a shorter range than all days.</Empty>)}</Loaded>;
}

function Split({ answer }: { answer: Answer }) {
  const steps: Step[] = [];
  let sum = 0n;
  for (const part of answer.parts) {
    const amount = parse(part.usd);
    const [name, dearer, cheaper] = CAUSES[part.cause] ?? [part.cause, "", ""];
    if (amount !== 0n || part.note) steps.push({ name, why: [amount > 0n ? dearer : amount < 0n ? cheaper : "", part.note].filter(Boolean).join(": "), usd: amount, from: sum });
    sum += amount;
  }
  steps.push({ name: "Difference", why: `${noun(answer.before_calls, "call", "calls")} before, ${count(answer.after_calls)} now`, usd: sum, from: 0n, isSum: true });
  const ends = steps.flatMap(({ from, usd }) => [toFloat(from), toFloat(from + usd)]);
  const [low, high] = [Math.min(0, ...ends), Math.max(0, ...ends)];
  const place = (step: Step) => {
    const [a, b] = [toFloat(step.from), toFloat(step.from + step.usd)];
    const of = (value: number) => (high > low ? (value / (high - low)) * 100 : 0);
    return { left: `${of(Math.min(a, b) - low)}%`, width: `max(2px, ${of(Math.abs(b - a))}%)` };
  };
  const before = parse(answer.before_usd);
  const columns: Column<Step>[] = [
    { key: "cause", label: "Cause", cell: (step) => (step.isSum ? <strong>{step.name}</strong> : step.name) },
    { key: "usd", label: "Change", number: true, cell: (step) => <span class={step.usd > 0n ? "up" : step.usd < 0n ? "down" : "fine"}>{step.usd > 0n ? "+" : ""}{usd(step.usd)}</span> },
    { key: "percent", label: "%", number: true, wide: true, cell: (step) => <span class="fine">{percentage(percent(step.usd, before), true)}</span> },
    { key: "bar", label: <span class="hidden">Drawn</span>, wide: true, cell: (step) => <span class="waterfall" aria-hidden="true"><span class={step.isSum ? "sum" : step.usd > 0n ? "dearer" : "cheaper"} style={place(step)} /></span> },
    { key: "why", label: "Because", cell: (step) => <span class="fine">{step.why}</span> },
  ];
  return (
    <>
      <Table caption="Causes of the difference" columns={columns} rows={steps} id={({ name }) => name} />
      <p class="footnote">From {usd(before)} to {usd(parse(answer.after_usd))}. The parts add up to the difference to the last digit. <a href="/docs/concepts/why-spend-changed.html">How it is split</a></p>
    </>
  );
}
