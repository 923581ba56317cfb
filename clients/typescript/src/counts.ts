// The counts of a vendor's usage object, with a mark on each that was read.
//
// A call's usage is understood whole, or the call is unpriced. What is left unmarked at the end and tells a quantity was not
// understood, and neither is a count that is no whole number. The first such name goes with the record, for the daemon to show.

export type Json = Record<string, unknown>;

export function object(value: unknown): Json {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : {};
}

export function list(value: unknown): Json[] {
  return Array.isArray(value) ? value.map(object) : [];
}

export function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

/** Words of names that tell no quantity that is billed: `queue_time`, `max_tokens`. A cost has a reader of its own. */
const NO_USAGE = new Set(["cost", "time", "latency", "duration", "ratio", "percent", "limit", "max", "remaining"]);

/** The first name that was not understood, of all that belongs to one answer. */
export class Doubts {
  first: string | undefined;

  add(name: string): void {
    this.first ??= name;
  }

  /** What the daemon looks for in a record's metadata. */
  get metadata(): Json {
    return this.first === undefined ? {} : { "tallyd.not_understood": this.first };
  }
}

export class Counts {
  readonly #read = new Set<string>();

  /** `at`: how names begin that are told. */
  constructor(readonly root: Json, readonly at: string, readonly doubts: Doubts) {}

  get(path: string): unknown {
    let value: unknown = this.root;
    for (const name of path.split(".")) value = object(value)[name];
    return value;
  }

  doubt(path: string): void {
    this.doubts.add(`${this.at}.${path}`);
  }

  /** A whole number; 0 where there is none. */
  count(path: string): number {
    const value = this.number(path);
    if (Number.isInteger(value)) return value;
    this.doubt(path);
    return 0;
  }

  /** A number from 0 on, within what every language counts exactly; 0 where there is none. */
  number(path: string): number {
    this.#read.add(path);
    const value = this.get(path) ?? 0;
    if (typeof value === "number" && value >= 0 && value <= Number.MAX_SAFE_INTEGER) return value;
    this.doubt(path);
    return 0;
  }

  /** One count that has several names. Those that differ are not understood. */
  one(...paths: string[]): number {
    let found = 0;
    for (const path of paths) {
      const count = this.count(path);
      if (found === 0) found = count;
      else if (count !== 0 && count !== found) this.doubt(path);
    }
    return found;
  }

  /** Counts that are parts of others, or cost nothing. */
  part(...paths: string[]): void {
    for (const path of paths) this.#read.add(path);
  }

  /** `whole` without its parts. Parts that are more than their whole are not understood. */
  less(path: string, whole: number, ...parts: number[]): number {
    const rest = parts.reduce((left, part) => left - part, whole);
    if (rest < 0) this.doubt(path);
    return Math.max(0, rest);
  }

  /** Doubts the first name, in their order, that tells a quantity and was not read. */
  rest(): void {
    const unread: string[] = [];
    const walk = (value: unknown, path: string): void => {
      if (this.#read.has(path)) return;
      if (Array.isArray(value)) for (const one of value) walk(one, path);
      else if (typeof value === "object" && value !== null) for (const [name, one] of Object.entries(value)) walk(one, path ? `${path}.${name}` : name);
      else if (tellsUsage(path, value)) unread.push(path);
    };
    walk(this.root, "");
    const [first] = unread.sort();
    if (first !== undefined) this.doubt(first);
  }
}

function tellsUsage(path: string, value: unknown): boolean {
  const name = path.toLowerCase();
  if (name.split(/[^a-z]+/).some((word) => NO_USAGE.has(word)) || /per_second|context_window|token_type/.test(name)) return false;
  if (typeof value === "number") return value !== 0;
  return typeof value === "string" && value !== "" && name.split(".").at(-1)!.includes("token");
}
