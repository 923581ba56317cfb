// The parts of all views: headings, tiles, states, amounts.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { type Failure, download } from "../api";
import { instant, noun, today } from "../format";
import type { Live } from "../live";
import { type Attos, fitting, parts, usd } from "../money";
import { useSession } from "../session";
import { printLight } from "../theme";

/** A view's heading, and the tools beside it. */
export function Head(props: { title: string; lead?: ComponentChildren; live?: Live<unknown>; children?: ComponentChildren }) {
  useEffect(() => {
    document.title = `${props.title} · tallyd`;
  }, [props.title]);
  return (
    <header class="head">
      <div>
        <h1>{props.title}</h1>
        {props.lead && <p class="lead">{props.lead}</p>}
      </div>
      <div class="head-tools">
        {props.children}
        {props.live && <Freshness live={props.live} />}
      </div>
    </header>
  );
}

function Freshness({ live }: { live: Live<unknown> }) {
  const { zone } = useSession();
  const at = live.at === null ? null : instant(new Date(live.at).toISOString(), zone).slice(11);
  const stale = (live.failure !== null || live.late) && live.data !== null;
  return (
    <span class="state" title={`It is ${today(zone)}.`}>
      <span class={`fresh${stale ? " stale" : ""}`}>
        <span class="dot" aria-hidden="true" />
        {stale ? `Old: as of ${at}` : at ? `Live · ${at}` : live.late ? "No answer yet" : "Loading"}
      </span>
      <span class="zone">Days and times of {zone}</span>
    </span>
  );
}

/** Shows the loaded data, or the reason for their absence. Present data stay, under a notice that they are old. */
export function Loaded<T>(props: { live: Live<T>; children: (data: T) => ComponentChildren; rows?: number }) {
  const { data, failure } = props.live;
  if (data === null) {
    return failure ? <Problem failure={failure} retry={props.live.reload} /> : <Skeleton rows={props.rows ?? 6} />;
  }
  return (
    <>
      {failure && <Problem failure={failure} retry={props.live.reload} slim />}
      <div class={props.live.changing ? "changing" : undefined} aria-busy={props.live.changing}>{props.children(data)}</div>
    </>
  );
}

export function Problem(props: { failure: Failure; retry?: () => void; slim?: boolean }) {
  return (
    <div class={`notice bad${props.slim ? " slim" : ""}`} role="alert">
      <div>
        <strong>{props.failure.message}</strong> <span>{props.failure.hint}</span>
      </div>
      {props.retry && <button type="button" onClick={props.retry}>Try again</button>}
    </div>
  );
}

function Skeleton({ rows }: { rows: number }) {
  return (
    <div class="skeleton" role="status" aria-label="Loading">
      {Array.from({ length: rows }, (_, at) => <div key={at} class="bone" />)}
    </div>
  );
}

export function DownloadCsv({ path }: { path: string }) {
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<Failure | null>(null);
  const save = async () => {
    setBusy(true);
    setFailure(null);
    try {
      await download(path);
    } catch (error) {
      setFailure(error as Failure);
    }
    setBusy(false);
  };
  return (
    <>
      <button type="button" class="button" disabled={busy} onClick={() => void save()}>Download CSV</button>
      {failure && <span class="field-error" role="alert">{failure.message} {failure.hint}</span>}
    </>
  );
}

export function Empty(props: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <strong>{props.title}</strong>
      {props.children && <p>{props.children}</p>}
    </div>
  );
}

export function Card(props: { title?: ComponentChildren; tools?: ComponentChildren; class?: string; children: ComponentChildren }) {
  return (
    <section class={`card ${props.class ?? ""}`}>
      {(props.title || props.tools) && (
        <div class="card-head">
          {props.title && <h2>{props.title}</h2>}
          {props.tools && <div class="card-tools">{props.tools}</div>}
        </div>
      )}
      {props.children}
    </section>
  );
}

export function Tile(props: { label: string; value: ComponentChildren; note?: ComponentChildren; tone?: "good" | "warn" | "bad" }) {
  return (
    <div class={`tile ${props.tone ?? ""}`}>
      <div class="tile-label">{props.label}</div>
      <div class="tile-value">{props.value}</div>
      {props.note && <div class="tile-note">{props.note}</div>}
    </div>
  );
}

/** An amount with lighter digits beyond cents. In a column, `decimals` lines the points up. */
export function Money(props: { amount: Attos; decimals?: number }) {
  const decimals = props.decimals ?? fitting(props.amount);
  const { sign, whole, fraction } = parts(props.amount, decimals);
  const cents = fraction.slice(0, 2);
  const rest = fraction.slice(2);
  return (
    <span class="money" title={usd(props.amount, 6)}>
      {sign}${whole}{cents && `.${cents}`}{rest && <span class="fine">{rest}</span>}
    </span>
  );
}

/** The cost of calls: an amount, and the number of calls that it lacks. Without a priced call there is no amount. */
export function Cost(props: { amount: Attos; unpriced: number; decimals?: number; short?: boolean }) {
  if (props.amount === 0n && props.unpriced > 0) return <Badge tone="warn">unpriced</Badge>;
  const money = <Money amount={props.amount} {...(props.decimals === undefined ? {} : { decimals: props.decimals })} />;
  if (props.unpriced === 0 || props.short) return money;
  return <span class="with-unpriced">{money} <span class="plus">{lacking(props.unpriced)}</span></span>;
}

/** The calls that a sum lacks, in words. */
export const lacking = (unpriced: number): string => (unpriced === 0 ? "" : `plus ${noun(unpriced, "unpriced call", "unpriced calls")}`);

/** A name that may be long, on one line; its title has all of it. */
export const Name = ({ text }: { text: string }) => <span class="name" title={text}>{text}</span>;

export function Badge(props: { tone: "good" | "warn" | "bad" | "plain"; children: ComponentChildren }) {
  return <span class={`badge ${props.tone}`}>{props.children}</span>;
}

/** A choice of one value. `barred` gives the reason why a value is not available. */
export function Choice<T extends string>(props: { label: string; value: T | null; options: readonly (readonly [T, string])[]; barred?: Partial<Record<T, string>>; onPick: (value: T) => void }) {
  return (
    <div class="choice" role="group" aria-label={props.label}>
      {props.options.map(([value, label]) => (
        <button type="button" key={value} aria-pressed={value === props.value} disabled={props.barred?.[value] !== undefined} title={props.barred?.[value]} onClick={() => props.onPick(value)}>{label}</button>
      ))}
    </div>
  );
}

/** The browser's own dialog: it keeps the focus, and Escape closes it. */
export function Dialog(props: { title: string; onClose: () => void; children: ComponentChildren }) {
  const element = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    element.current?.showModal();
  }, []);
  return (
    <dialog ref={element} onClose={props.onClose} aria-labelledby="dialog-title">
      <div class="dialog-head">
        <h2 id="dialog-title">{props.title}</h2>
        <button type="button" class="quiet" aria-label="Close" onClick={() => element.current?.close()}>✕</button>
      </div>
      {props.children}
    </dialog>
  );
}

/** Prints the view in light colours, also in the dark theme: the chart is drawn anew before. */
export function PrintButton() {
  return <button type="button" class="button" onClick={printLight}>Print</button>;
}
