// The bounds of a sum: the range in which it lies with its unpriced calls at their cheapest and dearest known price, and
// streams that broke off before their usage was known.

import { get } from "../api";
import { type Filters, LOG_DAYS_MAX, type Range, asCosts, canAsk, path } from "../filter";
import { count, noun } from "../format";
import { useLive } from "../live";
import { parse, usd } from "../money";
import { href } from "../route";
import type { Bounds as Answer, BoundsReason } from "../types";
import { Badge } from "../ui/parts";
import { Table } from "../ui/table";

const REASONS: Record<BoundsReason["reason"], string> = { unpriced: "unpriced", incomplete: "broke off" };
const EVERY_MS = 300_000;

/** `isBrief`: only the range of unpriced calls, without reading single calls. */
export function Bounds({ range, filters, isBrief }: { range: Range; filters: Filters; isBrief?: boolean }) {
  const address = canAsk(["provider", "model"], filters, range) ? path("/api/v1/costs/bounds", { ...range, log: isBrief ? "false" : null }, asCosts(filters)) : null;
  const live = useLive<Answer | null>(address ?? "no bounds", async (signal) => {
    try {
      return address === null ? null : await get<Answer>(address, signal);
    } catch (error) {
      if (signal.aborted) throw error;
      // The sum itself is shown. The request is not repeated at once, because it takes long.
      return null;
    }
  }, EVERY_MS);
  const found = live.data;
  if (!found || live.changing) return null;
  if (found.exact) return isBrief ? null : <p class="bounds fine">This sum is exact: every call is priced, and no stream broke off.</p>;
  if (found.reasons.length === 0) {
    return isBrief || found.log_is_read ? null : <p class="bounds fine">Every call is priced. Streams that broke off are looked for in ranges of at most {LOG_DAYS_MAX} days.</p>;
  }
  return <Lacks found={found} />;
}

/** The range in a sentence. */
function inShort({ reasons, low_usd, high_usd }: Answer): string {
  const calls = (reason: BoundsReason["reason"]) => reasons.filter((row) => row.reason === reason).reduce((sum, row) => sum + row.calls, 0);
  const [unpriced, incomplete] = [calls("unpriced"), calls("incomplete")];
  const texts: string[] = [];
  if (unpriced > 0) texts.push(`With ${noun(unpriced, "unpriced call", "unpriced calls")} this sum is ${high_usd === null ? `at least ${usd(parse(low_usd))}` : `between ${usd(parse(low_usd))} and ${usd(parse(high_usd))}`}.`);
  if (incomplete > 0) texts.push(`${noun(incomplete, "stream", "streams")} broke off: the provider bills tokens that it did not report.`);
  return texts.join(" ");
}

function Lacks({ found }: { found: Answer }) {
  const by = (model: string | null) => (model ? <> <span class="fine">as {model}</span></> : null);
  return (
    <details class="bounds">
      <summary>{inShort(found)}</summary>
      <Table caption="What the sum lacks" rows={found.reasons} id={(row) => `${row.reason} ${row.provider} ${row.model}`} columns={[
        { key: "model", label: "Model", cell: (row) => <span>{row.model || "every call"} <span class="fine">{row.provider}</span></span> },
        { key: "reason", label: "Reason", cell: (row) => <Badge tone="warn">{REASONS[row.reason] ?? row.reason}</Badge> },
        { key: "calls", label: "Calls", number: true, cell: (row) => count(row.calls) },
        { key: "low", label: "Adds at least", number: true, cell: (row) => <span class="money">{usd(parse(row.low_usd))}{by(row.low_model)}</span> },
        { key: "high", label: "At most", number: true, cell: (row) => (row.high_usd === null ? <span class="fine">not known</span> : <span class="money">{usd(parse(row.high_usd))}{by(row.high_model)}</span>) },
        { key: "note", label: <span class="hidden">Note</span>, wide: true, cell: (row) => <span class="fine">{row.note}</span> },
      ]} />
      <p class="footnote">
        {found.reasons_left_off > 0 && `${noun(found.reasons_left_off, "further reason is", "further reasons are")} not listed. `}
        The range narrows once <a href={href("prices", { provider: null })}>prices</a> are set and <code>tallyd reprice</code> has run.
      </p>
    </details>
  );
}
