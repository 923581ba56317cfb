// The end of a process that is told to end: what it has recorded becomes durable first.

/** A Recorder or a CostTracker. */
export interface Closable { close(timeout?: number): Promise<unknown> }

/**
 * On a signal, closes within so many milliseconds, then lets the signal end the process as it would have. Returns a function
 * that takes it back. An application with handlers of its own, that drain requests first, calls `close()` there instead.
 */
export function closeOnSignal(closable: Closable, timeout = 5_000, signals: NodeJS.Signals[] = ["SIGTERM"]): () => void {
  if (typeof process === "undefined" || typeof process.on !== "function") return () => {};
  let closing = false;
  const off = (): void => signals.forEach((signal) => process.off(signal, end));
  const end = (signal: NodeJS.Signals): void => {
    // A second signal does not cut the first one's time short.
    if (closing) return;
    closing = true;
    const leave = (): void => {
      off();
      process.kill(process.pid, signal);
    };
    closable.close(timeout).then(leave, leave);
  };
  signals.forEach((signal) => process.on(signal, end));
  return off;
}
