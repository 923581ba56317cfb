// What was refused: looked at, corrected and retried, or dropped.

import type { TargetedSubmitEvent } from "preact";
import { useState } from "preact/hooks";
import { send, url } from "../api";
import { ago, instant } from "../format";
import { useLive } from "../live";
import type { ViewProps } from "../main";
import { change } from "../route";
import type { DeadLetter, DeadLetters } from "../types";
import { Answer, Badge, Dialog, Empty, Field, Panel, Problem, Sure, Table, useAction } from "../ui";

export function DeadLettersView(props: ViewProps) {
  const { route } = props;
  const before = route.query.get("before") ?? "";
  const answer = useLive<DeadLetters>(url("/api/v1/dead-letters", { before, limit: 50 }), 10);
  const [shown, setShown] = useState<DeadLetter>();
  return (
    <>
      <div class="controls"><a class="button" href={url("/api/v1/dead-letters", { format: "csv" })} download>CSV</a></div>
      <Answer of={answer}>
        {(data) => (
          <Panel wide title="Waiting for a decision" note="Records that the daemon refused, or that PostgreSQL would not take. None is counted anywhere until it is retried.">
            {data.dead_letters.length === 0 ? <Empty>There is none: every record that arrived was taken.</Empty> : (
              <Table label="Dead letters" rows={data.dead_letters} row={(row) => row.id} columns={[
                { title: "When", cell: (row) => <button type="button" class="sort" onClick={() => setShown(row)}><time dateTime={row.created_at} title={instant(row.created_at)}>{ago(row.created_at)}</time></button> },
                { title: "Why", cell: (row) => <><Badge kind={row.kind === "poison" ? "bad" : "warn"}>{row.code}</Badge> {row.message}</> },
                { title: "Field", cell: (row) => row.field, minor: true },
                { title: "Producer", cell: (row) => row.producer, minor: true },
              ]} />
            )}
            {(before || data.next !== null) && (
              <div class="pages">
                <button type="button" disabled={!before} onClick={() => change(route, { before: undefined })}>Newest</button>
                <button type="button" disabled={data.next === null} onClick={() => change(route, { before: data.next ?? undefined })}>Earlier</button>
              </div>
            )}
          </Panel>
        )}
      </Answer>
      {shown && <Letter of={shown} admin={props.session.role === "admin"} close={() => setShown(undefined)} done={() => { setShown(undefined); answer.refresh(); }} />}
    </>
  );
}

interface Retried { retried: boolean; record_id: string | null; reason: string | null }

function Letter(props: { of: DeadLetter; admin: boolean; close: () => void; done: () => void }) {
  const letter = props.of;
  const whole = useLive<{ record: unknown }>(`/api/v1/dead-letters/${letter.id}`, 3600);
  const [field, setField] = useState(letter.field);
  const [value, setValue] = useState("");
  const [refused, setRefused] = useState("");
  const action = useAction();
  const retry = (corrections: unknown) => void action.run(async () => {
    const outcome = await send<Retried>("POST", `/api/v1/dead-letters/${letter.id}/retry`, corrections);
    if (outcome.retried) props.done();
    else setRefused(outcome.reason ?? "It was refused again.");
  });
  const submit = (event: TargetedSubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    retry(field === "" ? {} : value === "" ? { unset: [field] } : { set: { [field]: value } });
  };
  const drop = () => void action.run(async () => {
    await send("POST", `/api/v1/dead-letters/${letter.id}/drop`);
    props.done();
  });
  return (
    <Dialog title={`Dead letter ${letter.id}`} close={props.close}>
      <p><Badge kind={letter.kind === "poison" ? "bad" : "warn"}>{letter.code}</Badge> {letter.message}</p>
      <p class="note">Written {instant(letter.created_at)}{letter.producer && `, sent by ${letter.producer}`}.</p>
      <Answer of={whole}>{(data) => <pre tabIndex={0} aria-label="The record as it was received">{JSON.stringify(data.record, null, 2)}</pre>}</Answer>
      {props.admin && (
        <form class="form" onSubmit={submit}>
          <div class="pair">
            <Field label="Correct the field">{(id) => <input id={id} value={field} onInput={(event) => setField(event.currentTarget.value)} />}</Field>
            <Field label="to" hint="Empty: the field goes">{(id) => <input id={id} value={value} onInput={(event) => setValue(event.currentTarget.value)} />}</Field>
          </div>
          {refused && <div class="problem" role="alert"><strong>It was refused again.</strong><span>{refused}</span></div>}
          {action.error && <Problem error={action.error} />}
          <div class="buttons">
            <button type="submit" class="primary" disabled={action.busy}>{field === "" ? "Retry as it is" : "Correct and retry"}</button>
            <Sure text="Drop" sure="Delete it for good?" run={drop} disabled={action.busy} />
          </div>
        </form>
      )}
    </Dialog>
  );
}
