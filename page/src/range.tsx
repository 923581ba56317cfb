// The range of days: a number of days up to today, everything, or from one day to another.

import { amend } from "./route";
import { Choice } from "./ui/parts";

export interface Range {
  from: string;
  to: string;
}

const RANGES = [["7", "7 days"], ["30", "30 days"], ["90", "90 days"], ["all", "All"], ["custom", "Custom"]] as const;
type Name = (typeof RANGES)[number][0];

/** The range in the address. */
export function named(query: URLSearchParams, standard: Name = "30"): Name {
  const value = query.get("days");
  if (query.get("from")) return "custom";
  return RANGES.find(([name]) => name === value)?.[0] ?? standard;
}

export function RangePicker(props: { query: URLSearchParams; range: Range; today: string; standard?: Name; without?: Name[] }) {
  const standard = props.standard ?? "30";
  const name = named(props.query, standard);
  const options = RANGES.filter(([value]) => !props.without?.includes(value));
  const pick = (value: Name) => {
    if (value === "custom") amend({ days: null, from: props.range.from, to: props.range.to });
    else amend({ days: value === standard ? null : value, from: null, to: null });
  };
  const set = (part: "from" | "to") => (event: Event) => {
    const value = (event.currentTarget as HTMLInputElement).value;
    if (value) amend({ from: props.range.from, to: props.range.to, [part]: value });
  };
  return (
    <div class="range">
      <Choice label="Days" value={name} options={options} onPick={pick} />
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
