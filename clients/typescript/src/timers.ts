// The clock and timers as they were when this module was loaded. So fake ones that tests install later (vi, jest, sinon) neither stop the recorder
// nor change its records' times.

const { setTimeout: start, clearTimeout: stop, setInterval: repeat, clearInterval: stopRepeating } = globalThis;
const immediate: ((task: () => void) => unknown) | undefined = globalThis.setImmediate;
const RealDate = Date;
const clock = performance.now.bind(performance);

/** A timer: an object in Node, a number elsewhere. */
export type Timer = ReturnType<typeof setTimeout>;

export const now = (): number => RealDate.now();
/** Milliseconds of a clock that never goes back. */
export const elapsed = (): number => clock();
export const after = (milliseconds: number, task: () => void): Timer => start(task, milliseconds);
/** As {@link after}, but it does not keep the process alive. */
export const later = (milliseconds: number, task: () => void): Timer => released(start(task, milliseconds));
export const every = (milliseconds: number, task: () => void): Timer => released(repeat(task, milliseconds) as Timer);
export const cancel = (timer: Timer | undefined): void => stop(timer);
export const cancelEvery = (timer: Timer | undefined): void => stopRepeating(timer);

/** Runs the task once this turn of the event loop is over. */
export function soon(task: () => void): void {
  if (immediate) (immediate(task) as { unref?: () => void }).unref?.();
  else start(task, 0);
}

function released(timer: Timer): Timer {
  (timer as { unref?: () => void }).unref?.();
  return timer;
}
