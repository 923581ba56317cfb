// Saved views in the filter bar: a list to open, rename and delete, the present view under a name, and its link.

import { useEffect, useRef, useState } from "preact/hooks";
import { useRoute } from "./route";
import { NAME_MAX, type SavedView, onOtherTab, renamed, storeViews, storedViews, withView } from "./savedviews";

export function SavedViews() {
  useRoute();
  const [views, setViews] = useState(storedViews);
  const [isOpen, setOpen] = useState(false);
  /** Whether the list opens to the left, because the button is far to the right. */
  const isRight = useRef(false);
  const frame = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const here = location.hash || "#/overview";
  const present = views.find(({ to }) => to === here);
  useEffect(() => onOtherTab(() => setViews(storedViews())), []);
  useEffect(() => {
    if (!isOpen) return;
    const outside = (event: Event) => { if (!frame.current?.contains(event.target as Node)) setOpen(false); };
    document.addEventListener("pointerdown", outside);
    return () => document.removeEventListener("pointerdown", outside);
  }, [isOpen]);
  const onKey = (event: KeyboardEvent) => {
    if (event.key !== "Escape") return;
    setOpen(false);
    button.current?.focus();
  };
  const open = () => {
    isRight.current = (frame.current?.getBoundingClientRect().left ?? 0) > innerWidth / 2;
    setOpen(!isOpen);
  };
  const close = () => setOpen(false);
  return (
    <div class="menu" ref={frame} onKeyDown={onKey}>
      <button type="button" ref={button} aria-expanded={isOpen} onClick={open}><span class="name">{present ? `View: ${present.name}` : "Saved views"}</span> <span aria-hidden="true">▾</span></button>
      {isOpen && <Panel isRight={isRight.current} views={views} here={here} present={present} onChange={setViews} onClose={close} />}
    </div>
  );
}

function Panel(props: { isRight: boolean; views: SavedView[]; here: string; present: SavedView | undefined; onChange: (views: SavedView[]) => void; onClose: () => void }) {
  const { views, here } = props;
  const [renaming, setRenaming] = useState<string | null>(null);
  const [said, setSaid] = useState<{ text: string; isWrong: boolean } | null>(null);
  /** Stores a change, or says why that is not possible. */
  const change = (make: () => SavedView[], text: string) => {
    try {
      const next = make();
      storeViews(next);
      props.onChange(next);
      setRenaming(null);
      setSaid({ text, isWrong: false });
    } catch (error) {
      setSaid({ text: (error as Error).message, isWrong: true });
    }
  };
  const named = (done: (name: string) => void) => (event: SubmitEvent) => {
    event.preventDefault();
    done(String(new FormData(event.currentTarget as HTMLFormElement).get("name") ?? "").trim());
  };
  // Another tab may have changed the views since they were read.
  const save = named((name) => change(() => withView(storedViews(), { name, to: here }), `Saved as “${name}”.`));
  const remove = (view: SavedView) => {
    if (confirm(`Delete the view “${view.name}”?`)) change(() => storedViews().filter(({ name }) => name !== view.name), `“${view.name}” was deleted.`);
  };
  return (
    <div class={props.isRight ? "panel right" : "panel"} role="group" aria-label="Saved views">
      {views.length === 0 ? <p class="fine">A saved view has the range, the filters and the table that you see now.</p> : (
        <ul>
          {views.map((view) => (
            <li key={view.name}>
              {renaming === view.name ? (
                <form onSubmit={named((name) => change(() => renamed(storedViews(), view.name, name), `Renamed to “${name}”.`))}>
                  <input name="name" aria-label={`New name of ${view.name}`} required maxLength={NAME_MAX} defaultValue={view.name} autoFocus />
                  <button type="submit">Rename</button>
                </form>
              ) : (
                <>
                  <a href={view.to} aria-current={view.to === here ? "true" : undefined} onClick={props.onClose}>{view.name}</a>
                  <button type="button" class="quiet" aria-label={`Rename ${view.name}`} onClick={() => setRenaming(view.name)}>Rename</button>
                  <button type="button" class="quiet" aria-label={`Delete ${view.name}`} onClick={() => remove(view)}>✕</button>
                </>
              )}
            </li>
          ))}
        </ul>
      )}
      {!props.present && (
        <form onSubmit={save}>
          <input name="name" aria-label="Name of this view" placeholder="Name of this view" required maxLength={NAME_MAX} autocomplete="off" />
          <button type="submit" class="primary">Save</button>
        </form>
      )}
      <CopyLink />
      {said && <p class={said.isWrong ? "field-error" : "fine"} role={said.isWrong ? "alert" : "status"}>{said.text}</p>}
    </div>
  );
}

/** Copies the address. Browsers offer the clipboard over TLS and on this machine only; elsewhere the address is shown, selected. */
function CopyLink() {
  const [state, setState] = useState<"" | "copied" | "shown">("");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(location.href);
      setState("copied");
    } catch {
      setState("shown");
    }
  };
  if (state === "shown") return <input aria-label="Link to this view" readOnly value={location.href} ref={(field) => { field?.focus(); field?.select(); }} />;
  return (
    <>
      <button type="button" onClick={() => void copy()}>Copy link to this view</button>
      {state === "copied" && <p class="fine" role="status">Link copied.</p>}
    </>
  );
}
