// The filter of all views as controls: ranges, one chip a filter, and a form that suggests the names that calls have.

import { useState } from "preact/hooks";
import { get } from "./api";
import { DIMENSIONS, RANGES, type Range, type RangeName, asCosts, filtersOf, nameOf, path, rangeChanges, rangeName, wordOf } from "./filter";
import { amend, href } from "./route";
import { SavedViews } from "./savedbar";
import type { Costs, Dimension } from "./types";
import { Choice } from "./ui/parts";

export function RangePicker(props: { query: URLSearchParams; range: Range; today: string; without?: RangeName[] }) {
  const name = rangeName(props.query);
  const options = RANGES.filter(([value]) => !props.without?.includes(value));
  const set = (part: "from" | "to") => (event: Event) => {
    const value = (event.currentTarget as HTMLInputElement).value;
    if (value) amend({ from: props.range.from, to: props.range.to, [part]: value });
  };
  return (
    <div class="range">
      <Choice label="Days" value={name} options={options} onPick={(value) => amend(rangeChanges(value, props.range))} />
      {name === "custom" && (
        <span class="dates">
          <input type="date" aria-label="First day" value={props.range.from} max={props.range.to} onChange={set("from")} />
          <span aria-hidden="true">–</span>
          <input type="date" aria-label="Last day" value={props.range.to} min={props.range.from} max={props.today} onChange={set("to")} />
        </span>
      )}
    </div>
  );
}

/** The filters in force, and the form for another one. */
export function Filters({ query, range, tags }: { query: URLSearchParams; range: Range; tags: string[] }) {
  const filters = filtersOf(query);
  const [isOpen, setOpen] = useState(false);
  const inForce = Object.entries(filters) as [Dimension, string][];
  return (
    <div class="chips">
      {inForce.map(([by, value]) => (
        <span key={by} class="chip">
          <span>{wordOf(by)}: <strong>{nameOf(by, value)}</strong></span>
          {by === "user" && value && <a href={href("users", {}, value)}>Profile</a>}
          <button type="button" class="quiet" aria-label={`Remove the filter ${wordOf(by)} ${nameOf(by, value)}`} onClick={() => amend({ [by]: null })}>✕</button>
        </span>
      ))}
      {isOpen ? <AddFilter range={range} tags={tags} onDone={() => setOpen(false)} /> : <button type="button" onClick={() => setOpen(true)}>Add a filter</button>}
      {inForce.length > 1 && <button type="button" class="quiet" onClick={() => amend(Object.fromEntries(inForce.map(([by]) => [by, null])))}>Remove all</button>}
      <SavedViews />
    </div>
  );
}

const SUGGESTED = 200;

function AddFilter({ range, tags, onDone }: { range: Range; tags: string[]; onDone: () => void }) {
  const [by, setBy] = useState<Dimension>("provider");
  const [names, setNames] = useState<{ by: Dimension; names: string[] } | null>(null);
  const suggest = async (dimension: Dimension) => {
    setBy(dimension);
    try {
      const { rows } = await get<Costs>(path("/api/v1/costs", { ...range, bucket: "total", group_by: dimension, sort: "cost", limit: SUGGESTED }, asCosts({})));
      setNames({ by: dimension, names: rows.map((row) => row[dimension] ?? "").filter(Boolean) });
    } catch {
      // Without suggestions the name is typed.
      setNames({ by: dimension, names: [] });
    }
  };
  const known = names?.by === by ? names.names : [];
  const apply = (value: string) => {
    amend({ [by]: by === "provider" ? value.toLowerCase() : value });
    onDone();
  };
  const options: (readonly [Dimension, string])[] = [...DIMENSIONS, ...tags.map((tag) => [`tag:${tag}`, tag] as const)];
  return (
    <form class="add-filter" onSubmit={(event) => { event.preventDefault(); apply(String(new FormData(event.currentTarget).get("value") ?? "").trim()); }}>
      <select aria-label="Filter by" value={by} onChange={(event) => void suggest(event.currentTarget.value as Dimension)}>
        {options.map(([value, label]) => <option key={value} value={value}>{label}</option>)}
      </select>
      <input name="value" type="search" aria-label={`Name of the ${wordOf(by)}`} list="suggestions" autocomplete="off" autoFocus placeholder="Name"
        onFocus={() => { if (names?.by !== by) void suggest(by); }}
        onInput={(event) => { if ((event as InputEvent).inputType !== "insertText" && known.includes(event.currentTarget.value)) apply(event.currentTarget.value); }} />
      <datalist id="suggestions">{known.map((name) => <option key={name} value={name} />)}</datalist>
      <button type="submit">Apply</button>
      <button type="button" class="quiet" onClick={onDone}>Cancel</button>
    </form>
  );
}
