// Vendor bills: each day of a vendor compared with its own reports, and the parts of the difference.

import { useState } from "preact/hooks";
import { get, url } from "../api";
import { addDays, count, instant, longDay, noun, sentence } from "../format";
import { useLive } from "../live";
import { parse, sum, usd } from "../money";
import { useSession } from "../session";
import type { Closing, Closings } from "../types";
import { Badge, Card, Empty, Head, Loaded, Money } from "../ui/parts";
import { type Column, Table } from "../ui/table";

const DAYS = 35;
const TONES = { matched: "good", differs: "bad", open: "warn" } as const;
const CAUSES: Record<string, string> = {
  late_calls: "late calls", calls_removed: "calls were removed", repriced: "costs were changed", amended: "a call was amended or voided",
  bill_corrected: "the bill was corrected",
};

/** A vendor's day; `closing` is null if it was never closed. */
interface Day {
  day: string;
  closing: Closing | null;
}

export function Bills() {
  const path = url("/api/v1/closings", { days: DAYS });
  const live = useLive<Closings>(path, (signal) => get(path, signal), 60_000);
  return (
    <>
      <Head title="Vendor bills" lead="Each day (UTC) compared with the vendor’s own bill" live={live} />
      <Loaded live={live} rows={10}>{(found) => <Found found={found} />}</Loaded>
    </>
  );
}

function Found({ found }: { found: Closings }) {
  const failed = found.fetches.filter(({ error }) => error !== "");
  const vendors = [...new Set(found.closings.map(({ vendor }) => vendor))];
  return (
    <>
      {failed.map(({ vendor, error }) => <p key={vendor} class="notice warn" role="status">The last look at {vendor} failed: {error}</p>)}
      {vendors.length === 0 && <Empty title="No day is closed">Days are closed by the vendors’ reports. <a href="/docs/guide/closing.html">An admin key of the vendor</a> is needed.</Empty>}
      {vendors.map((vendor) => <Vendor key={vendor} vendor={vendor} closings={found.closings.filter((one) => one.vendor === vendor)} />)}
    </>
  );
}

/** The days from a vendor's first closed day up to yesterday, newest first. */
function daysOf(closings: Closing[]): Day[] {
  const byDay = new Map(closings.map((closing) => [closing.day, closing]));
  const first = [...byDay.keys()].sort()[0] ?? "";
  const days: Day[] = [];
  for (let day = addDays(new Date().toISOString().slice(0, 10), -1); day >= first; day = addDays(day, -1)) days.push({ day, closing: byDay.get(day) ?? null });
  return days;
}

const difference = ({ recorded_usd, billed_usd }: Closing) => parse(recorded_usd) - parse(billed_usd);
const kinds = ({ residues }: Closing): string => [...new Set(residues.map(({ kind }) => kind.replaceAll("_", " ")))].join(", ");

function Vendor({ vendor, closings }: { vendor: string; closings: Closing[] }) {
  const [open, setOpen] = useState<string | null>(null);
  const days = daysOf(closings);
  const differing = closings.filter(({ state }) => state === "differs");
  const closed = closings.filter(({ state }) => state !== "open").length;
  const differs = differing.length > 0 && `, ${noun(differing.length, "differs", "differ")} by ${usd(sum(differing.map(difference)), 2)}`;
  const money = (amount: (closing: Closing) => bigint) => (row: Day) => (row.closing ? <Money amount={amount(row.closing)} decimals={2} /> : <span class="none">—</span>);
  const columns: Column<Day>[] = [
    { key: "day", label: "Day", cell: ({ day, closing }) => (closing ? <button type="button" class="sort when" aria-expanded={open === day} onClick={() => setOpen(open === day ? null : day)}>{longDay(day)}</button> : longDay(day)) },
    { key: "state", label: "State", cell: ({ closing }) => <Badge tone={closing ? TONES[closing.state] : "plain"}>{closing?.state ?? "not closed"}</Badge> },
    { key: "billed", label: "Billed", number: true, wide: true, cell: money(({ billed_usd }) => parse(billed_usd)) },
    { key: "recorded", label: "Recorded", number: true, wide: true, cell: money(({ recorded_usd }) => parse(recorded_usd)) },
    { key: "difference", label: "Difference", number: true, cell: money(difference) },
    { key: "why", label: "Why", cell: ({ closing }) => (closing?.cause ? CAUSES[closing.cause] ?? closing.cause : closing ? kinds(closing) : "") },
  ];
  return (
    <Card title={<>{sentence(vendor)}: {count(closed)} of {noun(days.length, "day", "days")} closed{differs}</>}>
      <Table caption={`Days of ${vendor}`} columns={columns} rows={days} id={({ day }) => day} open={open} detail={({ closing }) => closing && <Detail closing={closing} />} />
    </Card>
  );
}

function Detail({ closing }: { closing: Closing }) {
  const { zone } = useSession();
  return (
    <>
      <p class="fine">{noun(closing.calls, "call", "calls")}, {closing.state} since {instant(closing.at, zone)}, entry {closing.number} of the record</p>
      {closing.residues.length > 0 && (
        <Table caption="Parts of the difference" rows={closing.residues} id={({ kind, model, workspace }) => `${kind} ${model} ${workspace}`} columns={[
          { key: "kind", label: "Part", cell: ({ kind }) => kind.replaceAll("_", " ") },
          { key: "model", label: "Model", cell: ({ model }) => model || "—" },
          { key: "workspace", label: "Workspace", wide: true, cell: ({ workspace }) => workspace || "—" },
          { key: "amount", label: "Difference", number: true, cell: ({ difference_usd }) => <Money amount={parse(difference_usd)} decimals={2} /> },
          { key: "note", label: "Evidence", wide: true, cell: ({ note }) => note },
        ]} />
      )}
    </>
  );
}
