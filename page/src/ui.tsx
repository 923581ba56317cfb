// What views are made of.

import type { ComponentChildren, TargetedInputEvent } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { ApiError } from "./api";
import type { Live } from "./live";

export function Panel(props: { title: string; note?: ComponentChildren; action?: ComponentChildren; wide?: boolean; children: ComponentChildren }) {
  return (
    <section class={props.wide ? "panel wide" : "panel"}>
      <header>
        <h2>{props.title}</h2>
        {props.note && <p class="note">{props.note}</p>}
        {props.action && <div class="action">{props.action}</div>}
      </header>
      {props.children}
    </section>
  );
}

export function Problem(props: { error: ApiError; retry?: () => void }) {
  return (
    <div class="problem" role="alert">
      <strong>{props.error.message}</strong>
      <span>{props.error.hint}</span>
      {props.retry && <button type="button" onClick={props.retry}>Try again</button>}
    </div>
  );
}

export function Empty(props: { children: ComponentChildren }) {
  return <p class="empty">{props.children}</p>;
}

/** The states of an answer: loading, failed, and there, perhaps stale. */
export function Answer<T>(props: { of: Live<T>; lines?: number; children: (data: T) => ComponentChildren }) {
  const { data, error, loading, refresh } = props.of;
  if (loading) {
    return (
      <div class="loading" role="status" aria-label="Loading">
        {Array.from({ length: props.lines ?? 3 }, (_, at) => <div key={at} class="bone" />)}
      </div>
    );
  }
  if (data === undefined) return error ? <Problem error={error} retry={refresh} /> : null;
  return (
    <>
      {error && <p class="stale" role="status">What stands here is not current: {error.message} {error.hint}</p>}
      {props.children(data)}
    </>
  );
}

export interface Column<R> {
  title: string;
  /** The cell. */
  cell: (row: R) => ComponentChildren;
  number?: boolean;
  /** Sorts by this key of the API when its title is chosen. */
  sort?: string;
  /** Left out on narrow screens. */
  minor?: boolean;
}

export function Table<R>(props: {
  label: string; columns: Column<R>[]; rows: R[]; row: (row: R) => string | number;
  sort?: { key: string; descending: boolean; set: (key: string, descending: boolean) => void };
  foot?: ComponentChildren;
}) {
  const { sort } = props;
  const kind = (column: Column<R>) => [column.number ? "number" : "", column.minor ? "minor" : ""].filter(Boolean).join(" ");
  return (
    <div class="scroll" role="region" aria-label={props.label} tabIndex={0}>
      <table>
        <thead>
          <tr>
            {props.columns.map((column) => {
              const active = sort !== undefined && column.sort === sort.key;
              const order = active ? (sort.descending ? "descending" : "ascending") : undefined;
              return (
                <th key={column.title} scope="col" class={kind(column)} aria-sort={order}>
                  {sort && column.sort ? (
                    <button type="button" class="sort" onClick={() => sort.set(column.sort!, active ? !sort.descending : true)}>
                      {column.title}<span aria-hidden="true">{active ? (sort.descending ? " ↓" : " ↑") : ""}</span>
                    </button>
                  ) : column.title}
                </th>
              );
            })}
          </tr>
        </thead>
        <tbody>
          {props.rows.map((row) => (
            <tr key={props.row(row)}>
              {props.columns.map((column) => <td key={column.title} class={kind(column)}>{column.cell(row)}</td>)}
            </tr>
          ))}
        </tbody>
        {props.foot && <tfoot>{props.foot}</tfoot>}
      </table>
    </div>
  );
}

export function Choice<V extends string>(props: { label: string; value: V; options: [V, string][]; set: (value: V) => void }) {
  return (
    <div class="choice" role="group" aria-label={props.label}>
      {props.options.map(([value, text]) => (
        <button key={value} type="button" aria-pressed={value === props.value} onClick={() => props.set(value)}>{text}</button>
      ))}
    </div>
  );
}

export function Field(props: { label: string; hint?: string; children: (id: string) => ComponentChildren }) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{props.label}</label>
      {props.children(id)}
      {props.hint && <small>{props.hint}</small>}
    </div>
  );
}

/** A search that is asked for when one has stopped typing. */
export function Search(props: { label: string; value: string; set: (value: string) => void }) {
  const [text, setText] = useState(props.value);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);
  const typed = (event: TargetedInputEvent<HTMLInputElement>) => {
    const value = event.currentTarget.value;
    setText(value);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => props.set(value.trim()), 250);
  };
  return <input type="search" class="search" aria-label={props.label} placeholder={props.label} value={text} onInput={typed} />;
}

export function Dialog(props: { title: string; close: () => void; children: ComponentChildren }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} aria-labelledby={id} onClose={props.close}>
      <header>
        <h2 id={id}>{props.title}</h2>
        <button type="button" class="plain" aria-label="Close" onClick={() => dialog.current?.close()}>✕</button>
      </header>
      {props.children}
    </dialog>
  );
}

/** Does something that takes a moment and may fail. */
export function useAction(): { busy: boolean; error: ApiError | undefined; run: (task: () => Promise<void>) => Promise<void> } {
  const [state, setState] = useState<{ busy: boolean; error?: ApiError }>({ busy: false });
  const run = async (task: () => Promise<void>) => {
    setState({ busy: true });
    try {
      await task();
      setState({ busy: false });
    } catch (error) {
      setState({ busy: false, error: error instanceof ApiError ? error : new ApiError(0, "page", String(error), "Load the page anew.") });
    }
  };
  return { busy: state.busy, error: state.error, run };
}

/** A button that asks once more before it does what cannot be undone. */
export function Sure(props: { text: string; sure: string; run: () => void; disabled?: boolean }) {
  const [asked, setAsked] = useState(false);
  const clicked = () => {
    if (asked) props.run();
    setAsked(!asked);
  };
  return (
    <button type="button" class={asked ? "danger" : "plain"} disabled={props.disabled} onClick={clicked} onBlur={() => setAsked(false)}>
      {asked ? props.sure : props.text}
    </button>
  );
}

export function Badge(props: { kind: "good" | "warn" | "bad" | "calm"; children: ComponentChildren }) {
  return <span class={`badge ${props.kind}`}>{props.children}</span>;
}

export function Meter(props: { label: string; percent: number; mark?: number | undefined; kind: "good" | "warn" | "bad" }) {
  const width = (percent: number) => `${Math.min(100, Math.max(0, percent))}%`;
  return (
    <div class={`meter ${props.kind}`} role="img" aria-label={props.label}>
      <div style={{ width: width(props.percent) }} />
      {props.mark !== undefined && <span style={{ left: width(props.mark) }} />}
    </div>
  );
}
