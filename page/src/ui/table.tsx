// Tables: columns with an alignment, headings that sort, a caption for screen readers.

import type { ComponentChildren, JSX } from "preact";

export interface Column<Row> {
  key: string;
  label: ComponentChildren;
  /** Numbers are aligned right, so that their digits line up. */
  number?: boolean;
  /** Whether pressing its heading sorts by it. */
  sort?: boolean;
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
