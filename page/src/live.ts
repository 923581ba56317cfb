// Answers that stay current: asked again while the page is looked at, kept and marked stale while the daemon is away.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { ApiError, get } from "./api";

export interface Live<T> {
  /** The last answer, also while a newer one cannot be had. */
  data: T | undefined;
  /** Why there is no newer one. */
  error: ApiError | undefined;
  /** True until the first answer to this question. */
  loading: boolean;
  /** Asks at once. */
  refresh: () => void;
}

/** Asks with `question`, whose identity is `key`, and again every `seconds` while the page is visible. */
export function useAnswer<T>(key: string, question: (signal: AbortSignal) => Promise<T>, seconds = 15): Live<T> {
  const [state, setState] = useState<{ key: string; data?: T; error?: ApiError }>({ key });
  const asked = useRef(question);
  asked.current = question;
  const [round, setRound] = useState(0);
  useEffect(() => {
    const control = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const next = () => {
      clearTimeout(timer);
      if (!document.hidden) timer = setTimeout(run, seconds * 1000);
    };
    const run = async () => {
      try {
        const data = await asked.current(control.signal);
        if (!control.signal.aborted) setState({ key, data });
      } catch (error) {
        if (control.signal.aborted) return;
        const told = error instanceof ApiError ? error : new ApiError(0, "page", String(error), "Load the page anew.");
        setState((before) => (before.key === key && before.data !== undefined ? { key, data: before.data, error: told } : { key, error: told }));
      }
      if (!control.signal.aborted) next();
    };
    const shown = () => (document.hidden ? clearTimeout(timer) : void run());
    document.addEventListener("visibilitychange", shown);
    void run();
    return () => {
      control.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", shown);
    };
  }, [key, seconds, round]);
  const refresh = useCallback(() => setRound((round) => round + 1), []);
  const current = state.key === key ? state : { key };
  return { data: current.data, error: current.error, loading: current.data === undefined && current.error === undefined, refresh };
}

/** The answer of one path. */
export function useLive<T>(path: string, seconds = 15): Live<T> {
  return useAnswer<T>(path, (signal) => get<T>(path, signal), seconds);
}
