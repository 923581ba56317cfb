// Tables: columns with an alignment, headings that sort, a caption for screen readers. Headings of a long table stay in
// view while it is scrolled.

import type { ComponentChildren, JSX } from "preact";
import { useState } from "preact/hooks";
import { count } from "../format";

export interface Column<Row> {
  key: string;
  label: ComponentChildren;
  /** Numbers are aligned right, so that their digits line up. */
  number?: boolean;
  /** Whether pressing its heading sorts by it. */
  sort?: boolean;
  /** The value that a `Sorted` table sorts by; null is last. */
  by?: (row: Row) => bigint | number | string | null;
  /** Left out on a narrow screen. */
  wide?: boolean;
  cell: (row: Row) => ComponentChildren;
}

export interface Sorting {
  by: string;
  descending: boolean;
  onSort: (by: string, descending: boolean) => void;
}

export function Table<Row>(props: {
  caption: string;
  columns: Column<Row>[];
  rows: Row[];
  id: (row: Row) => string;
  sorting?: Sorting;
  foot?: ComponentChildren;
  detail?: (row: Row) => ComponentChildren;
  open?: string | null;
}) {
  const shown = props.columns;
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={props.caption}>
      <table>
        <caption class="hidden">{props.caption}</caption>
        <thead>
          <tr>{shown.map((column) => <Heading key={column.key} column={column} {...(props.sorting ? { sorting: props.sorting } : {})} />)}</tr>
        </thead>
        <tbody>
          {props.rows.map((row) => {
            const id = props.id(row);
            const open = props.detail && props.open === id;
            return [
              <tr key={id} class={open ? "open" : undefined}>
                {shown.map((column) => <td key={column.key} class={kind(column)}>{column.cell(row)}</td>)}
              </tr>,
              open && (
                <tr key={`${id} detail`} class="detail">
                  <td colSpan={shown.length}>{props.detail?.(row)}</td>
                </tr>
              ),
            ];
          })}
        </tbody>
        {props.foot && <tfoot>{props.foot}</tfoot>}
      </table>
    </div>
  );
}

const PAGE = 50;

/** A table that is sorted and paged in the browser. */
export function Sorted<Row>(props: {
  caption: string;
  columns: Column<Row>[];
  rows: Row[];
  id: (row: Row) => string;
  /** The column that sorts at first, largest first. */
  first: string;
  foot?: ComponentChildren;
}) {
  const [{ by, descending, page }, set] = useState({ by: props.first, descending: true, page: 0 });
  const value = props.columns.find((column) => column.key === by)?.by;
  const sorted = value ? [...props.rows].sort((a, b) => compared(value(a), value(b), descending)) : props.rows;
  const at = Math.min(page, Math.max(0, Math.ceil(sorted.length / PAGE) - 1));
  const shown = sorted.slice(at * PAGE, (at + 1) * PAGE);
  const columns = props.columns.map((column) => ({ ...column, sort: column.by !== undefined }));
  const turn = (page: number) => () => set({ by, descending, page });
  return (
    <>
      <Table caption={props.caption} columns={columns} rows={shown} id={props.id} foot={props.foot}
        sorting={{ by, descending, onSort: (by, descending) => set({ by, descending, page: 0 }) }} />
      {sorted.length > PAGE && (
        <Pager text={`${count(at * PAGE + 1)}–${count(at * PAGE + shown.length)} of ${count(sorted.length)}`}
          onBack={at > 0 ? turn(at - 1) : undefined} onNext={(at + 1) * PAGE < sorted.length ? turn(at + 1) : undefined} />
      )}
    </>
  );
}

function compared(a: bigint | number | string | null, b: bigint | number | string | null, descending: boolean): number {
  if (a === null || b === null) return a === b ? 0 : a === null ? 1 : -1;
  const order = a < b ? -1 : a > b ? 1 : 0;
  return descending ? -order : order;
}

export function kind(column: { number?: boolean; wide?: boolean }): string {
  return `${column.number ? "number" : ""}${column.wide ? " wide" : ""}`.trim();
}

function Heading<Row>({ column, sorting }: { column: Column<Row>; sorting?: Sorting }): JSX.Element {
  if (!column.sort || !sorting) return <th scope="col" class={kind(column)}>{column.label}</th>;
  const active = sorting.by === column.key;
  // The first press shows the largest numbers, or the first names.
  const next = active ? !sorting.descending : column.number === true;
  return (
    <th scope="col" class={kind(column)} aria-sort={active ? (sorting.descending ? "descending" : "ascending") : "none"}>
      <button type="button" class="sort" onClick={() => sorting.onSort(column.key, next)}>
        {column.label}
        <span aria-hidden="true" class="arrow">{active ? (sorting.descending ? "↓" : "↑") : ""}</span>
      </button>
    </th>
  );
}

/** "1–50 of 3,200", with buttons for other pages. */
export function Pager(props: { text: string; onBack?: (() => void) | undefined; onNext?: (() => void) | undefined }) {
  return (
    <nav class="pager" aria-label="Pages">
      <span>{props.text}</span>
      <span>
        <button type="button" disabled={!props.onBack} onClick={props.onBack}>Back</button>
        <button type="button" disabled={!props.onNext} onClick={props.onNext}>Next</button>
      </span>
    </nav>
  );
}
