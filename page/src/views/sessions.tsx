// Sessions of the product's users: three numbers, each with its definition, and their samples over time.

import { useMemo } from "preact/hooks";
import { get, url } from "../api";
import { hours } from "../costdata";
import { addDays, count, instant, noun, short, shortDay, today } from "../format";
import { useLive } from "../live";
import { pick } from "../measures";
import { amend, useRoute } from "../route";
import { useSession } from "../session";
import type { Counted, SessionSample, SessionsAnswer } from "../types";
import { Chart, type Line } from "../ui/chart";
import { Card, Choice, DownloadCsv, Empty, Head, Loaded } from "../ui/parts";
import { Sorted } from "../ui/table";

export function Sessions() {
  const live = useLive<SessionsAnswer>("sessions", (signal) => get("/api/v1/sessions", signal));
  return (
    <>
      <Head title="Sessions" lead="Active users of the product, from Supabase’s tables." live={live} />
      <Loaded live={live} rows={3}>
        {({ sessions }) => sessions === null ? (
          <Empty title="No session tables">
            The database has no <code>auth.sessions</code> and <code>auth.users</code> that the daemon may read. On Supabase, run <code>tallyd migrate</code> as <code>postgres</code> once.
          </Empty>
        ) : (
          <>
            <div class="columns">
              <Figure title="Active sessions" counted={sessions.active} more={`${noun(sessions.active_users, "user has", "users have")} them.`} />
              <Figure title="Refreshed in the last 24 hours" counted={sessions.refreshed_24h} />
              <Figure title="Signed in in the last 24 hours" counted={sessions.signed_in_24h} />
            </div>
            <OverTime />
          </>
        )}
      </Loaded>
    </>
  );
}

function Figure({ title, counted, more }: { title: string; counted: Counted; more?: string }) {
  return (
    <Card title={title}>
      <div class="tile-value">{count(counted.count)}</div>
      <p class="footnote">{counted.definition} {more}</p>
    </Card>
  );
}

const LAST = [["1", "Today"], ["7", "7 days"], ["30", "30 days"], ["90", "90 days"]] as const;
const LINES = [
  ["active", "Active sessions", "--c1"], ["active_users", "Users with sessions", "--c2"],
  ["refreshed_24h", "Refreshed in 24 hours", "--c3"], ["signed_in_24h", "Signed in in 24 hours", "--c4"],
] as const;

/** The samples: a line a number. An hour without a sample is a gap. */
function OverTime() {
  const { query } = useRoute();
  const { zone } = useSession();
  const last = pick(LAST, query.get("last"), "7");
  const to = today(zone);
  const range = { from: addDays(to, 1 - Number(last)), to };
  const path = url("/api/v1/sessions/history", range);
  const live = useLive<{ samples: SessionSample[] }>(path, (signal) => get(path, signal), 60_000);
  const tools = (
    <>
      <Choice label="Range" value={last} options={LAST} onPick={(value) => amend({ last: value === "7" ? null : value })} />
      <DownloadCsv path={url("/api/v1/sessions/history", { ...range, format: "csv" })} />
    </>
  );
  return (
    <Card title="Over time" tools={tools}>
      <Loaded live={live} rows={4}>
        {({ samples }) => samples.length === 0 ? <Empty title="No samples yet">The daemon samples these numbers once an hour.</Empty> : <Samples samples={samples} range={range} />}
      </Loaded>
    </Card>
  );
}

function Samples({ samples, range }: { samples: SessionSample[]; range: { from: string; to: string } }) {
  const { zone } = useSession();
  const { bars, lines, gaps } = useMemo(() => {
    const known = new Map(samples.map((sample) => [`${sample.hour.slice(0, 19)}Z`, sample]));
    // The present hour has no sample for a moment, and the first sample begins the line.
    const bars = hours(range, zone).filter(({ key }) => key >= (samples[0]?.hour ?? "")).map((bar) => ({ ...bar, short: range.from === range.to ? bar.short : `${bar.short}\n${shortDay(bar.day)}` }));
    if (bars.length > 0 && !known.has(bars[bars.length - 1]?.key ?? "")) bars.pop();
    const lines = LINES.map(([key, name, color]): Line => ({ name, color, solid: true, values: bars.map((bar) => known.get(bar.key)?.[key] ?? null) }));
    return { bars, lines, gaps: bars.filter((bar) => !known.has(bar.key)).length };
  }, [samples, range.from, range.to, zone]);
  return (
    <>
      <Chart label="Sessions by hour" height={250} bars={bars} series={NONE} lines={lines} format={count} axis={short} />
      {gaps > 0 && <p class="footnote">{noun(gaps, "hour has", "hours have")} no sample: no daemon ran, or it could not read the tables. Such an hour is a gap, not zero.</p>}
      <Sorted caption="Sessions by hour" rows={samples} id={(row) => row.hour} first="hour" columns={[
        { key: "hour", label: "Hour", by: (row) => row.hour, cell: (row) => <span class="when">{instant(row.hour, zone).slice(0, 16)}</span> },
        ...LINES.map(([key, label], at) => ({ key, label, number: true, wide: at === 1 || at === 2, by: (row: SessionSample) => row[key], cell: (row: SessionSample) => count(row[key]) })),
      ]} />
    </>
  );
}

const NONE: never[] = [];
