// Rows that are picked one by one, or all of a page, for one decision about all of them.

import { useState } from "preact/hooks";
import type { Column } from "./table";

export interface Selection {
  /** The picked rows that are shown now. */
  picked: string[];
  has: (id: string) => boolean;
  toggle: (id: string) => void;
  /** Picks all of these, or none if all are picked. */
  all: (ids: string[]) => void;
  clear: () => void;
}

/** A selection among the rows that are shown. A row that has left the page is not in it. */
export function useSelection(shown: string[]): Selection {
  const [chosen, set] = useState<ReadonlySet<string>>(new Set());
  const picked = shown.filter((id) => chosen.has(id));
  const toggle = (id: string) => {
    const next = new Set(chosen);
    if (!next.delete(id)) next.add(id);
    set(next);
  };
  const all = (ids: string[]) => set(new Set(ids.every((id) => chosen.has(id)) ? [] : ids));
  return { picked, has: (id) => chosen.has(id), toggle, all, clear: () => set(new Set()) };
}

/** The column that picks rows. `ids` are those that can be picked, and `nameOf` names a row for screen readers. */
export function pickColumn<Row>(selection: Selection, ids: string[], idOf: (row: Row) => string, nameOf: (row: Row) => string): Column<Row> {
  const [some, every] = [selection.picked.length > 0, ids.length > 0 && ids.every(selection.has)];
  return {
    key: "pick",
    label: <input type="checkbox" class="pick" aria-label="Select all on this page" checked={every} disabled={ids.length === 0} ref={(box) => { if (box) box.indeterminate = some && !every; }} onChange={() => selection.all(ids)} />,
    cell: (row) => ids.includes(idOf(row)) && <input type="checkbox" class="pick" aria-label={`Select ${nameOf(row)}`} checked={selection.has(idOf(row))} onChange={() => selection.toggle(idOf(row))} />,
  };
}
