// The route: `#/costs?by=model&days=30`. The address has everything that a view shows, so that it can be sent to
// somebody, and so that the browser's Back button works.
//
// Some parameters belong to all views: the range, the filters, the dimension to group by. A link within the page keeps
// them, so that going from costs to records and back asks about the same calls.

import { useEffect, useState } from "preact/hooks";

export interface Route {
  /** "costs", or "users" with one user's id as `rest`. */
  view: string;
  rest: string;
  query: URLSearchParams;
}

/** Parameters to set. Null removes one; an empty text is a value: the calls without a name. */
export type Changes = Record<string, string | null | undefined>;

export function read(): Route {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [view = "", ...rest] = path.split("/");
  return { view: view || "overview", rest: decoded(rest.join("/")), query: new URLSearchParams(query) };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Whether a parameter belongs to all views. */
const isShared = (name: string): boolean => name.startsWith("tag:") || SHARED.has(name);
const SHARED = new Set(["days", "from", "to", "provider", "model", "endpoint", "user", "app", "by", "split"]);

function written(view: string, rest: string, query: URLSearchParams, changes: Changes): string {
  for (const [name, value] of Object.entries(changes)) {
    if (value === null) query.delete(name);
    else if (value !== undefined) query.set(name, value);
  }
  const text = query.toString().replaceAll("%3A", ":");
  return `#/${view}${rest ? `/${encodeURIComponent(rest)}` : ""}${text ? `?${text}` : ""}`;
}

/** The address of a view, with the parameters of all views, and with changes. */
export function href(view: string, changes: Changes = {}, rest = ""): string {
  return written(view, rest, new URLSearchParams([...read().query].filter(([name]) => isShared(name))), changes);
}

/** Changes parameters of the address. Back returns to the former ones, unless a text is being typed. */
export function amend(changes: Changes, how: "push" | "replace" = "push"): void {
  const { view, rest, query } = read();
  go(written(view, rest, query, changes), how);
}

/** Goes to an address of the page. */
export function go(next: string, how: "push" | "replace" = "push"): void {
  if (next === location.hash) return;
  if (how === "push") history.pushState(null, "", next);
  else history.replaceState(null, "", next);
  dispatchEvent(new HashChangeEvent("hashchange"));
}

export function useRoute(): Route {
  const [route, setRoute] = useState(read);
  useEffect(() => {
    const changed = () => setRoute(read());
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return route;
}
