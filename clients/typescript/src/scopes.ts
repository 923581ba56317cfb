// The scopes of budgets, and those among them that a call counts towards.
//
// A scope has dimensions, each with a list of names. Many scopes have the same dimensions (each user of a team, say), so they share a tree whose
// depth is the number of dimensions. A lookup costs a step for each dimension, however many scopes there are.

/** A call with everything that budgets may be set for: the context's and the recorder's values are in it. */
export interface Scoped {
  provider: string | undefined;
  model: string | undefined;
  user: string | undefined;
  app: string | undefined;
  /** A tag's value as the daemon stores it. */
  tag(name: string): string | undefined;
}

/** A budget of a scope: its remaining USD as decimal text, undefined once it is used up. */
export interface Told { usd: string | undefined; dimensions: readonly Dimension[]; lists: readonly number[] }

/** `lists`: the numbers of the lists of names that have a name. `tag`: the tag's name, for a dimension that is one. */
interface Dimension { name: string; tag: string | undefined; lists: Map<string, number[]> }

interface Node { told?: Told; next: Map<number, Node> }
interface Tree { dimensions: Dimension[]; root: Node }

const PLAIN = new Set(["provider", "model", "user", "app"]);
const TAG = "tag:";

/** `-20250514`, `@20250514` or `-2025-05-14`: a year of this century, a month and a day that exist in some year. */
const DATE = /(?<=[^])(?:[-@]20\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])|-20\d\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01]))$/;

export class Scopes {
  readonly #dimensions = new Map<string, Dimension>();
  readonly #trees = new Map<string, Tree>();
  readonly #numbers = new Map<string, number>();

  /** Adds a budget. A scope with a dimension that this client does not know matches no call, and is left out: a newer daemon may know more. */
  add(scope: Record<string, string[]>, usd: string | undefined): void {
    const names = Object.keys(scope).sort();
    if (!names.every((name) => PLAIN.has(name) || name.startsWith(TAG))) return;
    const dimensions = names.map((name) => this.#dimension(name));
    const lists = dimensions.map((dimension) => this.#list(dimension, scope[dimension.name]!));
    const shape = names.join("\0");
    let tree = this.#trees.get(shape);
    if (!tree) this.#trees.set(shape, (tree = { dimensions, root: { next: new Map() } }));
    let node = tree.root;
    for (const list of lists) {
      let next = node.next.get(list);
      if (!next) node.next.set(list, (next = { next: new Map() }));
      node = next;
    }
    const told = { usd, dimensions, lists };
    node.told = node.told ? lesser(node.told, told) : told;
  }

  /** The budget that the call counts towards and that has the least left; undefined if it counts towards none. */
  least(call: Scoped): Told | undefined {
    let least: Told | undefined;
    for (const { dimensions, root } of this.#trees.values()) {
      least = descend(root, dimensions, 0, call, least);
      if (least && least.usd === undefined) return least;
    }
    return least;
  }

  #dimension(name: string): Dimension {
    let dimension = this.#dimensions.get(name);
    if (!dimension) this.#dimensions.set(name, (dimension = { name, tag: name.startsWith(TAG) ? name.slice(TAG.length) : undefined, lists: new Map() }));
    return dimension;
  }

  /** The number of a list of names. The same names in another scope are the same list. */
  #list(dimension: Dimension, names: string[]): number {
    const key = JSON.stringify([dimension.name, ...names]);
    let number = this.#numbers.get(key);
    if (number !== undefined) return number;
    this.#numbers.set(key, (number = this.#numbers.size));
    for (const name of new Set(names)) {
      const lists = dimension.lists.get(name);
      if (lists) lists.push(number);
      else dimension.lists.set(name, [number]);
    }
    return number;
  }
}

function descend(node: Node, dimensions: Dimension[], depth: number, call: Scoped, least: Told | undefined): Told | undefined {
  const dimension = dimensions[depth];
  if (!dimension) return node.told && least ? lesser(least, node.told) : (node.told ?? least);
  for (const name of namesOf(dimension, call)) {
    for (const list of dimension.lists.get(name) ?? NONE) {
      const next = node.next.get(list);
      if (next) least = descend(next, dimensions, depth + 1, call, least);
    }
  }
  return least;
}

const NONE: readonly never[] = [];

/** The call's names in a dimension: of a model also its family. */
function namesOf(dimension: Dimension, call: Scoped): readonly string[] {
  const name = valueOf(dimension, call);
  if (!name) return NONE;
  if (dimension.name !== "model") return [name];
  const family = name.replace(DATE, "");
  return family === name ? [name] : [name, family];
}

function valueOf({ name, tag }: Dimension, call: Scoped): string | undefined {
  if (name === "provider") return call.provider?.trim().toLowerCase();
  // The application is a tag, too.
  if (tag === "app") return call.app;
  return tag === undefined ? call[name as "model" | "user" | "app"] : call.tag(tag);
}

function lesser(one: Told, other: Told): Told {
  if (one.usd === undefined || other.usd === undefined) return one.usd === undefined ? one : other;
  return isAbove(one.usd, other.usd) ? other : one;
}

/** The names by which the call counts towards the budget, by dimension. */
export function namesIn({ dimensions, lists }: Told, call: Scoped): Record<string, string> {
  return Object.fromEntries(dimensions.map((dimension, at) => {
    const name = namesOf(dimension, call).find((name) => dimension.lists.get(name)?.includes(lists[at]!));
    return [dimension.name, name!];
  }));
}

/** A scope in words: `tag team "search" and user "u-42"`. */
export function inWords(scope: Record<string, string>): string {
  const said = Object.entries(scope).map(([name, value]) => `${name.replace(":", " ")} ${JSON.stringify(value)}`);
  return said.length === 0 ? "all spend" : said.join(" and ");
}

/** An amount as decimal text, without a sign or an exponent. */
const AMOUNT = /^(?:\d+\.?\d*|\.\d+)$/;

export function isAmount(text: unknown): text is string {
  return typeof text === "string" && AMOUNT.test(text);
}

/** Whether an amount is above another, compared to the last digit. */
export function isAbove(one: string, other: string): boolean {
  const [a, b] = [Number(one), Number(other)];
  // Rounding to a double keeps the order, except of amounts that become equal.
  if (a !== b) return a > b;
  const [[whole, part], [whole2, part2]] = [digits(one), digits(other)];
  return whole.length === whole2.length ? whole + part > whole2 + part2 : whole.length > whole2.length;
}

/** The digits before and after the point, without zeros that mean nothing. */
function digits(amount: string): [string, string] {
  const [whole = "", part = ""] = amount.split(".");
  return [whole.replace(/^0+/, ""), part.replace(/0+$/, "")];
}
