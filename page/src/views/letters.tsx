// Dead letters: records that were refused, why, and what becomes of them.

import { useState } from "preact/hooks";
import { Failure, change, get, url } from "../api";
import { ago, bytes, count, instant } from "../format";
import { useLive } from "../live";
import { amend, href, useRoute } from "../route";
import { useSession } from "../session";
import type { DeadLetter } from "../types";
import { Badge, Card, DownloadCsv, Empty, Head, Loaded, Problem } from "../ui/parts";
import { type Column, Pager, Table } from "../ui/table";

const PAGE = 50;

export function Letters() {
  const { query } = useRoute();
  const { zone } = useSession();
  const [before, setBefore] = useState<number[]>([]);
  const [open, setOpen] = useState<string | null>(null);
  const [done, setDone] = useState<string | null>(null);
  const path = url("/api/v1/dead-letters", { code: query.get("code"), producer: query.get("producer"), before: before[before.length - 1], limit: PAGE });
  const live = useLive<{ dead_letters: DeadLetter[]; next: number | null }>(path, (signal) => get(path, signal), 10_000);
  const settled = (text: string) => {
    setOpen(null);
    setDone(text);
    live.reload();
  };
  const columns: Column<DeadLetter>[] = [
    { key: "when", label: "When", cell: (letter) => <button type="button" class="sort when" aria-expanded={open === String(letter.id)} title={instant(letter.created_at, zone)} onClick={() => setOpen(open === String(letter.id) ? null : String(letter.id))}>{ago(letter.created_at)}</button> },
    { key: "code", label: "Reason", cell: (letter) => <Badge tone={letter.kind === "poison" ? "bad" : "warn"}>{letter.code}</Badge> },
    { key: "message", label: "What is wrong", cell: (letter) => <span>{letter.field && <code>{letter.field}</code>} {letter.message}</span> },
    { key: "producer", label: "Producer", wide: true, cell: (letter) => letter.producer || "—" },
    { key: "size", label: "Size", number: true, wide: true, cell: (letter) => bytes(letter.payload_bytes) },
  ];
  const set = (name: string) => (event: Event) => {
    setBefore([]);
    amend({ [name]: (event.currentTarget as HTMLInputElement).value.trim() || null });
  };
  return (
    <>
      <Head title="Dead letters" lead="Records that could not be accepted. They are kept until somebody decides." live={live}>
        <DownloadCsv path={url("/api/v1/dead-letters", { code: query.get("code"), producer: query.get("producer"), format: "csv" })} />
      </Head>
      {done && <p class="notice good" role="status">{done}</p>}
      <form class="filters" role="search" onSubmit={(event) => event.preventDefault()}>
        <input type="search" class="short" aria-label="Reason" placeholder="Reason" value={query.get("code") ?? ""} onChange={set("code")} />
        <input type="search" class="short" aria-label="Producer" placeholder="Producer" value={query.get("producer") ?? ""} onChange={set("producer")} />
      </form>
      <Loaded live={live}>
        {({ dead_letters, next }) => dead_letters.length === 0 ? (
          <Empty title="No dead letters">Everything that was sent has been accepted, or decided about.</Empty>
        ) : (
          <Card>
            <Table caption="Dead letters" columns={columns} rows={dead_letters} id={(letter) => String(letter.id)} open={open} detail={(letter) => <Letter key={letter.id} letter={letter} onSettled={settled} />} />
            <Pager text={`${count(dead_letters.length)} on this page, newest first`} onBack={before.length > 0 ? () => setBefore(before.slice(0, -1)) : undefined} onNext={next === null ? undefined : () => setBefore([...before, next])} />
          </Card>
        )}
      </Loaded>
    </>
  );
}

/** The payload indented, if it is JSON. */
function pretty(payload: string): string {
  try {
    return JSON.stringify(JSON.parse(payload), null, 2);
  } catch {
    return payload;
  }
}

function Letter({ letter, onSettled }: { letter: DeadLetter; onSettled: (text: string) => void }) {
  const { mayChange } = useSession();
  const [field, setField] = useState(letter.field);
  const [value, setValue] = useState("");
  const [remove, setRemove] = useState(false);
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<Failure | null>(null);
  const act = async (task: () => Promise<string>) => {
    setBusy(true);
    try {
      onSettled(await task());
    } catch (error) {
      setFailure(error as Failure);
      setBusy(false);
    }
  };
  const retry = (event: Event) => {
    event.preventDefault();
    const name = field.trim();
    const body = { set: name && !remove ? { [name]: value } : {}, unset: name && remove ? [name] : [] };
    void act(async () => {
      const made = await change<{ retried: boolean; record_id: string | null; reason: string | null }>("POST", `/api/v1/dead-letters/${letter.id}/retry`, body);
      if (!made?.retried) throw new Failure(409, "refused_again", `It was refused again: ${made?.reason}.`, "Correct it, or drop the letter.");
      return `The record was accepted and loaded as ${made.record_id}.`;
    });
  };
  const discard = () => {
    if (!confirm("Drop this letter for good? What the record said is deleted.")) return;
    void act(async () => {
      await change("POST", `/api/v1/dead-letters/${letter.id}/drop`);
      return "The letter was dropped.";
    });
  };
  return (
    <div class="letter">
      <pre class="payload" tabIndex={0}>{letter.payload === null ? `${bytes(letter.payload_bytes)} of ${letter.payload_format}, no text` : pretty(letter.payload)}</pre>
      {failure && <Problem failure={failure} />}
      {mayChange && (
        <form class="filters" onSubmit={retry}>
          <label class="inline">Correct <input class="short" placeholder="field" value={field} onInput={(event) => setField(event.currentTarget.value)} /></label>
          <label class="inline">to <input class="short" placeholder="value" disabled={remove} value={value} onInput={(event) => setValue(event.currentTarget.value)} /></label>
          <label class="check"><input type="checkbox" checked={remove} onChange={(event) => setRemove(event.currentTarget.checked)} /> or take it out</label>
          <button type="submit" class="primary" disabled={busy || (field.trim() !== "" && !remove && value === "")}>Retry</button>
          <button type="button" class="danger" disabled={busy} onClick={discard}>Drop</button>
        </form>
      )}
      <p class="footnote">A retried record is loaded exactly once, as of when it was sent. <a href={href("records")}>Records</a> shows it.</p>
    </div>
  );
}
