// The audit log: changes over the API and the command line.

import { useState } from "preact/hooks";
import { get, url } from "../api";
import { instant } from "../format";
import { useLive } from "../live";
import { useSession } from "../session";
import type { AuditEntry } from "../types";
import { Card, DownloadCsv, Empty, Head, Loaded } from "../ui/parts";
import { type Column, Pager, Table } from "../ui/table";

const PAGE = 50;

export function Audit() {
  const { zone } = useSession();
  const [before, setBefore] = useState<number[]>([]);
  const path = url("/api/v1/audit", { limit: PAGE, before: before[before.length - 1] });
  const live = useLive<{ entries: AuditEntry[]; next: number | null }>(path, (signal) => get(path, signal), 30_000);
  const columns: Column<AuditEntry>[] = [
    { key: "at", label: "When", cell: (entry) => <span class="when">{instant(entry.at, zone)}</span> },
    { key: "actor", label: "Author", cell: (entry) => entry.actor },
    { key: "action", label: "Change", cell: (entry) => <span>{entry.action} <span class="fine">{entry.object}</span></span> },
    { key: "old", label: "Before", wide: true, cell: (entry) => <Value value={entry.old_value} /> },
    { key: "new", label: "After", wide: true, cell: (entry) => <Value value={entry.new_value} /> },
    { key: "address", label: "From", wide: true, cell: (entry) => entry.address || "command line" },
  ];
  return (
    <>
      <Head title="Audit log" lead="Changes over the API and the command line, with their author." live={live}>
        <DownloadCsv path={url("/api/v1/audit", { format: "csv" })} />
      </Head>
      <Loaded live={live} rows={10}>
        {({ entries, next }) => entries.length === 0 ? <Empty title="No changes yet" /> : (
          <Card>
            <Table caption="Audit log" columns={columns} rows={entries} id={(entry) => String(entry.id)} />
            <Pager text="Newest first" onBack={before.length > 0 ? () => setBefore(before.slice(0, -1)) : undefined} onNext={next === null ? undefined : () => setBefore([...before, next])} />
          </Card>
        )}
      </Loaded>
    </>
  );
}

function Value({ value }: { value: unknown }) {
  if (value === null || value === undefined) return <span class="fine">—</span>;
  const text = typeof value === "object" ? Object.entries(value).filter(([, one]) => one !== null).map(([name, one]) => `${name}: ${typeof one === "object" ? JSON.stringify(one) : String(one)}`).join(", ") : String(value);
  return <span class="fine">{text}</span>;
}
