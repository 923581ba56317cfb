// The route: `#/costs?by=model&days=30`. The address has everything that a view shows, so that it can be sent to
// somebody, and so that the browser's back button works.

import { useEffect, useState } from "preact/hooks";

export interface Route {
  /** "costs", or "users" with one user's id as `rest`. */
  view: string;
  rest: string;
  query: URLSearchParams;
}

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

export function href(view: string, query: Record<string, string | null> = {}, rest = ""): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value) search.set(name, value);
  const text = search.toString();
  return `#/${view}${rest ? `/${encodeURIComponent(rest)}` : ""}${text ? `?${text}` : ""}`;
}

/** Changes parameters of the address in place; those set to null are removed. */
export function amend(changes: Record<string, string | null>): void {
  const { view, rest, query } = read();
  for (const [name, value] of Object.entries(changes)) {
    if (value) query.set(name, value);
    else query.delete(name);
  }
  const next = href(view, Object.fromEntries(query), rest);
  if (next === location.hash) return;
  history.replaceState(null, "", next);
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
