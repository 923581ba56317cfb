// Where one is: `#/costs?by=model&days=30`. What is looked at is in the address, so that it can be kept and shared.

import { useEffect, useState } from "preact/hooks";

export interface Route { view: string; id: string; query: URLSearchParams }

function read(): Route {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [view = "", id = ""] = path.split("/");
  return { view: view || "overview", id: decodeURIComponent(id), query: new URLSearchParams(query) };
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

export function link(view: string, query: Record<string, string | number | undefined> = {}, id = ""): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== undefined && value !== "") parameters.set(name, String(value));
  const text = parameters.toString();
  return `#/${view}${id ? `/${encodeURIComponent(id)}` : ""}${text ? `?${text}` : ""}`;
}

/** Changes parameters of the view one is on, without a step in the browser's history. */
export function change(route: Route, changes: Record<string, string | number | undefined>): void {
  const query = Object.fromEntries(route.query);
  location.replace(link(route.view, { ...query, ...changes }, route.id));
}
