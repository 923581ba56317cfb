// The state of the daemon: records accepted, on disk, and in PostgreSQL.

import { get } from "../api";
import { bytes, count, noun, seconds } from "../format";
import { useLive } from "../live";
import type { Health, Part, Status } from "../types";
import { Badge, Card, Head, Loaded, Tile } from "../ui/parts";
import { Table } from "../ui/table";

const TONES: Record<Health, "good" | "warn" | "bad"> = { ok: "good", degraded: "warn", failing: "bad" };
const WORDS: Record<Health, string> = { ok: "Healthy", degraded: "Degraded (retrying)", failing: "Needs attention" };

export function Pipeline() {
  const live = useLive<Status>("pipeline", (signal) => get("/api/v1/pipeline", signal), 3_000);
  return (
    <>
      <Head title="Pipeline" lead="Records from the socket to PostgreSQL: accepted, durable, loaded." live={live} />
      <Loaded live={live}>{(status) => <Found status={status} />}</Loaded>
    </>
  );
}

function Found({ status }: { status: Status }) {
  const { wal, database, health } = status;
  const parts: [string, string, Part][] = [
    ["Accepting records", "the sockets", health.ingest],
    ["Write-ahead log", "acknowledged records on disk", health.wal],
    ["Loading", "into PostgreSQL", health.flusher],
  ];
  const waits = wal.unflushed_records > 0;
  return (
    <>
      <div class="tiles">
        <Tile label="In PostgreSQL" value={database.committed_records === null ? "—" : count(database.committed_records)} note={database.connected ? "calls, all daemons" : "the database does not answer"} {...(database.connected ? {} : { tone: "bad" as const })} />
        <Tile label="Since this start" value={count(database.committed_since_start)} note={`up ${seconds(status.uptime_seconds)}`} />
        <Tile label="On disk, not loaded yet" value={count(wal.unflushed_records)} note={waits ? "acknowledged, safe" : "everything is loaded"} />
        <Tile label="Oldest unloaded record" value={waits ? seconds(wal.oldest_unflushed_seconds) : "—"} {...(wal.oldest_unflushed_seconds > 60 ? { tone: "warn" as const } : {})} note="since it was acknowledged" />
        <Tile label="Write-ahead log" value={bytes(wal.bytes)} note={noun(wal.segments, "segment", "segments")} {...(wal.damaged ? { tone: "bad" as const } : {})} />
      </div>
      <Card title="Health">
        <Table caption="Health" rows={parts} id={([name]) => name} columns={[
          { key: "part", label: "Part", cell: ([name, what]) => <span>{name} <span class="fine">{what}</span></span> },
          { key: "state", label: "State", cell: ([, , part]) => <Badge tone={TONES[part.status]}>{WORDS[part.status]}</Badge> },
          { key: "why", label: "Details", cell: ([, , part]) => part.message ?? "—" },
        ]} />
      </Card>
      <Card title="Lanes">
        <Table caption="Lanes" rows={database.lanes.map((lane, number) => ({ ...lane, number }))} id={(lane) => String(lane.number)} columns={[
          { key: "lane", label: "Lane", cell: (lane) => String(lane.number) },
          { key: "key", label: "Loaded up to", number: true, cell: (lane) => count(lane.committed_key) },
          { key: "state", label: "State", cell: (lane) => <Badge tone={lane.hold ? "bad" : lane.trouble ? "warn" : "good"}>{lane.hold ? "On hold" : lane.trouble ? "Retrying" : "Loading"}</Badge> },
          { key: "why", label: "Details", cell: (lane) => lane.trouble ?? "—" },
        ]} />
        <p class="footnote">On disk up to key {count(wal.durable_key)}; {bytes(wal.channel_bytes)} wait to be written.</p>
      </Card>
      <Card title="This daemon">
        <dl class="facts">
          <dt>Version</dt><dd>{status.version}, process {status.pid}</dd>
          <dt>Socket</dt><dd class="mono">{status.socket}</dd>
          <dt>Data</dt><dd class="mono">{status.data_dir}</dd>
          <dt>Database</dt><dd class="mono">{database.url ?? "not started yet"}</dd>
        </dl>
      </Card>
    </>
  );
}
