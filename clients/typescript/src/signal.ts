// Delivery before a signal ends the process.

/** A Recorder or a CostTracker. */
export interface Closable { close(timeout?: number): Promise<unknown> }

/**
 * On a signal, closes within `timeout` milliseconds, then lets the signal end the process as usual. Returns a function that removes the
 * handlers. An application that has its own handlers, to drain requests first, calls `close()` in them instead.
 */
export function closeOnSignal(closable: Closable, timeout = 5_000, signals: NodeJS.Signals[] = ["SIGTERM"]): () => void {
  if (typeof process === "undefined" || typeof process.on !== "function") return () => {};
  let closing = false;
  const off = (): void => signals.forEach((signal) => process.off(signal, end));
  const end = (signal: NodeJS.Signals): void => {
    // A second signal does not shorten the wait of the first one.
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
