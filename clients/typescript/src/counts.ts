// The counts of a vendor's usage object, with a mark on each count that was read.
//
// A call's usage is understood completely, or the call is unpriced. Not understood are: a quantity that is unmarked at the end, and a count
// that is not a whole number. The first such name goes into the record's metadata, where the daemon shows it.

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

/** Words in names of values that are not billed: `queue_time`, `max_tokens`. A cost is read elsewhere. */
const NO_USAGE = new Set(["cost", "time", "latency", "duration", "ratio", "percent", "limit", "max", "remaining"]);

/** The first name of an answer that was not understood. */
export class Doubts {
  first: string | undefined;

  add(name: string): void {
    this.first ??= name;
  }

  /** The mark in a record's metadata by which the daemon leaves the call unpriced. */
  get metadata(): Json {
    return this.first === undefined ? {} : { "tallyd.not_understood": this.first };
  }
}

export class Counts {
  readonly #read = new Set<string>();

  /** `at`: the prefix of the names in `doubts`. */
  constructor(readonly root: Json, readonly at: string, readonly doubts: Doubts) {}

  get(path: string): unknown {
    let value: unknown = this.root;
    for (const name of path.split(".")) value = object(value)[name];
    return value;
  }

  doubt(path: string): void {
    this.doubts.add(`${this.at}.${path}`);
  }

  /** A whole number; 0 if it is missing. Doubts any other value. */
  count(path: string): number {
    const value = this.number(path);
    if (Number.isInteger(value)) return value;
    this.doubt(path);
    return 0;
  }

  /** A number from 0 to 2^53 - 1, which every client's language represents exactly; 0 if it is missing. Doubts any other value. */
  number(path: string): number {
    this.#read.add(path);
    const value = this.get(path) ?? 0;
    if (typeof value === "number" && value >= 0 && value <= Number.MAX_SAFE_INTEGER) return value;
    this.doubt(path);
    return 0;
  }

  /** One count that vendors give different names. Doubts two that differ. */
  one(...paths: string[]): number {
    let found = 0;
    for (const path of paths) {
      const count = this.count(path);
      if (found === 0) found = count;
      else if (count !== 0 && count !== found) this.doubt(path);
    }
    return found;
  }

  /** Marks counts that are parts of others, or cost nothing. */
  part(...paths: string[]): void {
    for (const path of paths) this.#read.add(path);
  }

  /** `whole` minus `parts`, not below 0. Doubts parts that exceed their whole. */
  less(path: string, whole: number, ...parts: number[]): number {
    const rest = parts.reduce((left, part) => left - part, whole);
    if (rest < 0) this.doubt(path);
    return Math.max(0, rest);
  }

  /** Doubts the alphabetically first unread name that holds a quantity. */
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
