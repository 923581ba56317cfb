// Data that stay current without a reload: they are requested at intervals while the page is visible, and at once when
// it becomes visible again. A failure keeps the present data and marks them as old.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { Failure } from "./api";

export interface Live<T> {
  /** The last answer; null before the first. */
  data: T | null;
  /** Why there is no newer answer. */
  failure: Failure | null;
  /** When the last answer came. */
  at: number | null;
  /** True while an overdue answer is waited for: the shown data are older than their interval. */
  late: boolean;
  /** True while the previous request's answer is shown and the next one is on its way. */
  changing: boolean;
  reload: () => void;
}

/** An answer takes longer than this when the daemon, its database or the network hangs. */
const LATE_MS = 5_000;

/** The last answers, so that going back to a view shows it at once. */
const kept = new Map<string, { data: unknown; at: number }>();
const KEPT_MAX = 40;

function keep(key: string, data: unknown): void {
  kept.delete(key);
  kept.set(key, { data, at: Date.now() });
  const oldest = kept.keys().next().value;
  if (kept.size > KEPT_MAX && oldest !== undefined) kept.delete(oldest);
}

/** Forgets every answer, because another user may sign in. */
export function forget(): void {
  kept.clear();
}

interface State<T> {
  key: string;
  data: T | null;
  failure: Failure | null;
  at: number | null;
}

function initial<T>(key: string): State<T> {
  const known = kept.get(key) as { data: T; at: number } | undefined;
  return { key, data: known?.data ?? null, failure: null, at: known?.at ?? null };
}

/** Loads `key` with `load`, and again every `everyMs`. */
export function useLive<T>(key: string, load: (signal: AbortSignal) => Promise<T>, everyMs = 15_000): Live<T> {
  const [state, setState] = useState<State<T>>(() => initial<T>(key));
  const [late, setLate] = useState(false);
  const latest = useRef(load);
  latest.current = load;
  const again = useRef<() => void>(() => {});

  useEffect(() => {
    const known = kept.get(key) as { data: T; at: number } | undefined;
    if (known) setState({ key, data: known.data, failure: null, at: known.at });
    let timer: ReturnType<typeof setTimeout> | undefined;
    let running: AbortController | null = null;
    let pause = everyMs;

    const run = async () => {
      clearTimeout(timer);
      running?.abort();
      const mine = new AbortController();
      running = mine;
      const patience = setTimeout(() => { if (!mine.signal.aborted) setLate(true); }, LATE_MS);
      try {
        const data = await latest.current(mine.signal);
        if (mine.signal.aborted) return;
        keep(key, data);
        setState({ key, data, failure: null, at: Date.now() });
        pause = everyMs;
      } catch (error) {
        if (mine.signal.aborted) return;
        const failure = error instanceof Failure ? error : new Failure(0, "page", `This page failed: ${String(error)}`, "Reload it.");
        setState((before) => (before.key === key ? { ...before, failure } : { key, data: null, failure, at: null }));
        // A wrong request stays wrong. After an outage the pauses are long, so that many pages do not overload a
        // returning daemon.
        pause = failure.status >= 400 && failure.status < 500 ? everyMs : Math.min(Math.max(pause, 2_000) * 1.5, 30_000);
      }
      clearTimeout(patience);
      setLate(false);
      running = null;
      schedule();
    };
    const schedule = () => {
      clearTimeout(timer);
      if (!document.hidden) timer = setTimeout(run, pause);
    };
    const onVisibility = () => {
      if (document.hidden) clearTimeout(timer);
      else if (!running) void run();
    };
    again.current = () => void run();
    void run();
    document.addEventListener("visibilitychange", onVisibility);
    return () => {
      clearTimeout(timer);
      running?.abort();
      setLate(false);
      document.removeEventListener("visibilitychange", onVisibility);
    };
  }, [key, everyMs]);

  const reload = useCallback(() => again.current(), []);
  return { data: state.data, failure: state.failure, at: state.at, late, changing: state.key !== key, reload };
}
