// Saved views: names for addresses of this page. They are kept in the browser, bounded in number and length.

const KEY = "tallyd.views";
export const VIEWS_MAX = 30;
export const NAME_MAX = 60;
const ADDRESS_MAX = 2_000;

export interface SavedView {
  name: string;
  /** The address within the page: `#/costs?by=model`. */
  to: string;
}

/** Reads the stored text. Entries of another form are left out, because other versions and other scripts may have written them. */
export function readViews(text: string | null): SavedView[] {
  try {
    const found: unknown = JSON.parse(text ?? "[]");
    if (!Array.isArray(found)) return [];
    return found.filter((one): one is SavedView => isName(one?.name) && typeof one.to === "string" && one.to.startsWith("#/") && one.to.length <= ADDRESS_MAX).slice(0, VIEWS_MAX);
  } catch {
    return [];
  }
}

const isName = (name: unknown): name is string => typeof name === "string" && name.trim() !== "" && name.length <= NAME_MAX;

/** Adds a view, or gives the one of this name another address. Throws with a sentence if that is not possible. */
export function withView(views: SavedView[], view: SavedView): SavedView[] {
  if (!isName(view.name)) throw new Error(`A name has 1 to ${NAME_MAX} characters.`);
  if (view.to.length > ADDRESS_MAX) throw new Error("This address is too long to be kept. Copy its link instead.");
  const others = views.filter(({ name }) => name !== view.name);
  if (others.length >= VIEWS_MAX) throw new Error(`There are ${VIEWS_MAX} saved views. Delete one first.`);
  return [...others, view].sort((a, b) => a.name.localeCompare(b.name));
}

/** Gives a view another name. Throws if a different view has it. */
export function renamed(views: SavedView[], from: string, to: string): SavedView[] {
  const view = views.find(({ name }) => name === from);
  if (!view || from === to) return views;
  if (views.some(({ name }) => name === to)) throw new Error(`A view with the name “${to}” is there already.`);
  return withView(views.filter((one) => one !== view), { ...view, name: to });
}

/** The views that this browser keeps. */
export function storedViews(): SavedView[] {
  try {
    return readViews(localStorage.getItem(KEY));
  } catch {
    return [];
  }
}

/** Throws with a sentence if the browser does not keep them. */
export function storeViews(views: SavedView[]): void {
  try {
    localStorage.setItem(KEY, JSON.stringify(views));
  } catch {
    throw new Error("This browser does not keep data of this page. Copy the link instead.");
  }
}

/** Calls `changed` when another tab has changed the views. Returns the end of it. */
export function onOtherTab(changed: () => void): () => void {
  const listener = (event: StorageEvent) => { if (event.key === KEY) changed(); };
  addEventListener("storage", listener);
  return () => removeEventListener("storage", listener);
}
