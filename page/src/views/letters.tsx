// Dead letters: refused records, their reasons, and decisions about them.

import { useState } from "preact/hooks";
import { Failure, change, get, url } from "../api";
import { ago, bytes, count, instant, noun } from "../format";
import { useLive } from "../live";
import { amend, href, useRoute } from "../route";
import { useSession } from "../session";
import type { DeadLetter, LetterGroup, LetterGroups } from "../types";
import { Badge, Card, DownloadCsv, Empty, Head, Loaded, Problem } from "../ui/parts";
import { pickColumn, useSelection } from "../ui/select";
import { type Column, Pager, Table } from "../ui/table";

const PAGE = 50;
const DAYS = 7;
/** A filter's values from the address. */
const NAMES = ["kind", "code", "field", "producer"] as const;

type Which = Partial<Record<(typeof NAMES)[number], string>>;
/** Letters to decide about: those of a filter, or of numbers. */
type Letters = Which | { ids: number[] };

function chosen(query: URLSearchParams): Which {
  return Object.fromEntries(NAMES.flatMap((name) => (query.get(name) ? [[name, query.get(name)]] : [])));
}

export function Letters() {
  const { query } = useRoute();
  const { zone, mayChange } = useSession();
  const [before, setBefore] = useState<number[]>([]);
  const [open, setOpen] = useState<string | null>(null);
  const [done, setDone] = useState<string | null>(null);
  const which = chosen(query);
  const path = url("/api/v1/dead-letters", { ...which, before: before[before.length - 1], limit: PAGE });
  const groups = useLive<LetterGroups>("letter-groups", (signal) => get(url("/api/v1/dead-letters/groups", { days: DAYS }), signal), 10_000);
  const live = useLive<{ dead_letters: DeadLetter[]; next: number | null }>(path, (signal) => get(path, signal), 10_000);
  const shown = live.data?.dead_letters ?? [];
  const ids = shown.map(({ id }) => String(id));
  const selection = useSelection(ids);
  const picked = shown.filter(({ id }) => selection.has(String(id)));
  const settled = (text: string) => {
    setOpen(null);
    selection.clear();
    setDone(text);
    live.reload();
    groups.reload();
  };
  const columns: Column<DeadLetter>[] = [
    { key: "when", label: "When", cell: (letter) => <button type="button" class="sort when" aria-expanded={open === String(letter.id)} title={instant(letter.created_at, zone)} onClick={() => setOpen(open === String(letter.id) ? null : String(letter.id))}>{ago(letter.created_at)}</button> },
    { key: "code", label: "Reason", cell: (letter) => <Badge tone={letter.kind === "poison" ? "bad" : "warn"}>{letter.code}</Badge> },
    { key: "message", label: "Problem", cell: (letter) => <span class="breaks">{letter.field && <code>{letter.field}</code>} {letter.message}</span> },
    { key: "producer", label: "Sender", wide: true, cell: (letter) => letter.producer || "—" },
    { key: "size", label: "Size", number: true, wide: true, cell: (letter) => bytes(letter.payload_bytes) },
  ];
  if (mayChange) columns.unshift(pickColumn(selection, ids, (letter) => String(letter.id), (letter) => `letter ${letter.id}, ${letter.code}`));
  const set = (name: string) => (event: Event) => {
    setBefore([]);
    amend({ [name]: (event.currentTarget as HTMLInputElement).value.trim() || null });
  };
  return (
    <>
      <Head title="Dead letters" lead="Refused records that wait for a decision. Beyond the daily bound they are only counted." live={live}>
        <DownloadCsv path={url("/api/v1/dead-letters", { ...which, format: "csv" })} />
      </Head>
      {done && <p class="notice good" role="status">{done}</p>}
      <Loaded live={groups} rows={3}>{(found) => <Groups found={found} which={which} onSettled={settled} onPick={() => setBefore([])} />}</Loaded>
      <form class="filters" role="search" onSubmit={(event) => event.preventDefault()}>
        <input type="search" class="short" aria-label="Reason" placeholder="Reason" value={query.get("code") ?? ""} onChange={set("code")} />
        <input type="search" class="short" aria-label="Field" placeholder="Field" value={query.get("field") ?? ""} onChange={set("field")} />
        <input type="search" class="short" aria-label="Sender" placeholder="Sender" value={query.get("producer") ?? ""} onChange={set("producer")} />
      </form>
      <Loaded live={live}>
        {({ dead_letters, next }) => dead_letters.length === 0 ? (
          <Empty title="No dead letters">All records were accepted, or settled.</Empty>
        ) : (
          <Card>
            {picked.length > 0 ? (
              <Many key="picked" letters={{ ids: picked.map(({ id }) => id) }} field={common(picked.map(({ field }) => field))} which={noun(picked.length, "selected letter", "selected letters")} what={`${count(picked.length)} selected`} onSettled={settled} />
            ) : Object.keys(which).length > 0 && !isGroup(groups.data, which) && (
              <Many key="match" letters={which} field={which.field ?? common(dead_letters.map(({ field }) => field))} which="all letters that match" what="all that match" onSettled={settled} />
            )}
            <Table caption="Dead letters" columns={columns} rows={dead_letters} id={(letter) => String(letter.id)} open={open} detail={(letter) => <Letter key={letter.id} letter={letter} onSettled={settled} />} />
            <Pager text={`${count(dead_letters.length)} on this page, newest first`} onBack={before.length > 0 ? () => setBefore(before.slice(0, -1)) : undefined} onNext={next === null ? undefined : () => setBefore([...before, next])} />
          </Card>
        )}
      </Loaded>
    </>
  );
}

/** The value that all have; empty if they differ. */
const common = (values: string[]): string => (values.every((value) => value === values[0]) ? values[0] ?? "" : "");

const picks = (which: Which, group: LetterGroup): boolean => NAMES.every((name) => (which[name] ?? "") === group[name]);
/** Whether the filter is a group's, whose letters are decided about above. */
const isGroup = (found: LetterGroups | null, which: Which): boolean => found?.groups.some((group) => picks(which, group) && group.open > 0) ?? false;

/** The record indented. An incomplete record is shown as its text. */
function pretty(record: unknown): string {
  return typeof record === "string" ? record : JSON.stringify(record, null, 2);
}

/** Refusals by reason, field and sender. Picking a group shows its letters, and lets an admin decide about all of them. */
function Groups({ found, which, onSettled, onPick }: { found: LetterGroups; which: Which; onSettled: (text: string) => void; onPick: () => void }) {
  if (found.groups.length === 0) return null;
  const open = found.groups.find((group) => picks(which, group));
  const pick = (group: LetterGroup) => {
    onPick();
    amend(picks(which, group) ? { kind: null, code: null, field: null, producer: null } : { kind: group.kind, code: group.code, field: group.field, producer: group.producer });
  };
  const columns: Column<LetterGroup>[] = [
    { key: "code", label: "Reason", cell: (group) => <button type="button" class="quiet flush" aria-pressed={picks(which, group)} onClick={() => pick(group)}><Badge tone={group.kind === "poison" ? "bad" : "warn"}>{group.code}</Badge></button> },
    { key: "field", label: "Field", cell: (group) => (group.field ? <code>{group.field}</code> : "—") },
    { key: "producer", label: "Sender", wide: true, cell: (group) => group.producer || "—" },
    { key: "refused", label: "Refused", number: true, cell: (group) => count(group.refused) },
    { key: "counted", label: "Only counted", number: true, wide: true, cell: (group) => (group.only_counted > 0 ? <Badge tone="bad">{count(group.only_counted)}</Badge> : "—") },
    { key: "open", label: "Open", number: true, cell: (group) => count(group.open) },
    { key: "last", label: "Last", wide: true, cell: (group) => (group.last_seen ? ago(group.last_seen) : "—") },
  ];
  return (
    <Card title={`${count(found.refused)} refused in ${DAYS} days, ${count(found.open)} open`}>
      <Table caption="Refusals by reason, field and sender" columns={columns} rows={found.groups} id={(group) => NAMES.map((name) => group[name]).join("\n")} />
      {found.only_counted > 0 && <p class="footnote">{noun(found.only_counted, "record", "records")} came beyond the bound of a day: answered and counted, but not kept, and not to be retried.</p>}
      {open && open.open > 0 && <Many letters={groupOf(open)} field={open.field} which={noun(open.open, "letter", "letters")} what={`all ${count(open.open)}`} onSettled={onSettled} />}
    </Card>
  );
}

const groupOf = ({ kind, code, field, producer }: LetterGroup): Letters => ({ kind, code, field, producer });

/** One decision about many letters. `what` names them on a button, `which` where it asks; `field` is the one at fault, if all
 * have the same. The daemon processes them some hundreds at a time. */
function Many({ letters, field, what, which, onSettled }: { letters: Letters; field: string; what: string; which: string; onSettled: (text: string) => void }) {
  const { mayChange } = useSession();
  const [value, setValue] = useState("");
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<Failure | null>(null);
  if (!mayChange) return null;
  const act = async (task: () => Promise<string>) => {
    setBusy(true);
    try {
      onSettled(await task());
    } catch (error) {
      setFailure(error as Failure);
    }
    setBusy(false);
  };
  const retry = (corrections: object) => act(async () => {
    let [retried, refused, after] = [0, 0, null as number | null];
    const reasons = new Set<string>();
    do {
      const done = await change<{ retried: number; refused: number; reasons: string[]; next: number | null }>("POST", "/api/v1/dead-letters/retry", { letters: { ...letters, after }, corrections });
      retried += done?.retried ?? 0;
      refused += done?.refused ?? 0;
      done?.reasons.forEach((reason) => reasons.add(reason));
      after = done?.next ?? null;
    } while (after !== null);
    if (retried === 0 && refused > 0) throw new Failure(409, "refused_again", `${noun(refused, "record was", "records were")} refused again: ${[...reasons][0]}`, "Correct the field, or drop the letters.");
    return `${noun(retried, "record was", "records were")} accepted and loaded${refused > 0 ? `, ${noun(refused, "was", "were")} refused again: ${[...reasons].join("; ")}` : ""}.`;
  });
  const drop = () => {
    if (!confirm(`Drop ${which} for good? The records are deleted.`)) return;
    void act(async () => {
      let [dropped, after] = [0, null as number | null];
      do {
        const done = await change<{ dropped: number; next: number | null }>("POST", "/api/v1/dead-letters/drop", { ...letters, after });
        dropped += done?.dropped ?? 0;
        after = done?.next ?? null;
      } while (after !== null);
      return `${noun(dropped, "letter was", "letters were")} dropped.`;
    });
  };
  const submit = (event: Event) => {
    event.preventDefault();
    void retry(field && value !== "" ? { set: { [field]: value } } : {});
  };
  return (
    <>
      {failure && <Problem failure={failure} />}
      <form class="filters" onSubmit={submit}>
        {field && <label class="inline">Set <code>{field}</code> to <input class="short" placeholder="unchanged" value={value} onInput={(event) => setValue(event.currentTarget.value)} /></label>}
        <button type="submit" class="primary" disabled={busy}>Retry {what}</button>
        {field && <button type="button" disabled={busy} onClick={() => void retry({ unset: [field] })}>Retry {what.replace(/ [\d,]+$/, "")} without it</button>}
        <button type="button" class="danger" disabled={busy} onClick={drop}>Drop {what}</button>
      </form>
    </>
  );
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
    if (!confirm("Drop this letter for good? The record is deleted.")) return;
    void act(async () => {
      await change("POST", `/api/v1/dead-letters/${letter.id}/drop`);
      return "The letter was dropped.";
    });
  };
  return (
    <div class="letter">
      <pre class="payload" tabIndex={0}>{pretty(letter.record)}</pre>
      {failure && <Problem failure={failure} />}
      {mayChange && (
        <form class="filters" onSubmit={retry}>
          <label class="inline">Set <input class="short" aria-label="Field to set" placeholder="field" value={field} onInput={(event) => setField(event.currentTarget.value)} /></label>
          <label class="inline">to <input class="short" placeholder="value" disabled={remove} value={value} onInput={(event) => setValue(event.currentTarget.value)} /></label>
          <label class="check"><input type="checkbox" checked={remove} onChange={(event) => setRemove(event.currentTarget.checked)} /> or remove the field</label>
          <button type="submit" class="primary" disabled={busy || (field.trim() !== "" && !remove && value === "")}>Retry</button>
          <button type="button" class="danger" disabled={busy} onClick={discard}>Drop</button>
        </form>
      )}
      <p class="footnote">A retried record is loaded exactly once, with its original time. <a href={href("records")}>Records</a> shows it.</p>
    </div>
  );
}
