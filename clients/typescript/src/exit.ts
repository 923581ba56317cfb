// Delivery at the end of a Node process.
//
// * The process ends by itself: `beforeExit` waits `exitTimeout` at most for records in flight.
// * `process.exit()`: only the event `exit` follows, in which callbacks do not run. A worker thread then has the connection, and the main thread
//   blocks on its messages. This takes some 30 ms if the daemon is there, and ends at once if nobody listens.
// * A signal without a handler, or a kill: Node calls nothing. See `closeOnSignal`.

import { MessageChannel, receiveMessageOnPort, Worker } from "node:worker_threads";
import { connectHttp } from "./http-link.js";
import type { Answer, Ending } from "./platform.js";
import { connectSocket, type StreamEvents } from "./socket-link.js";
import { now } from "./timers.js";

/** The worker thread's program. It is text, so that bundlers include it. */
const THREAD = `
const { workerData: { port, flag } } = require("node:worker_threads");
const tell = (message) => { port.postMessage(message); Atomics.add(flag, 0, 1); Atomics.notify(flag, 0); };
let link;
port.on("message", ({ open, bytes, ask }) => {
  if (open) {
    link = require("node:net").connect(open);
    let said;
    link.on("connect", () => tell({ open: true })).on("data", (data) => tell({ data }));
    link.on("error", (error) => { said = error.message; }).on("close", () => tell({ closed: true, said }));
  } else if (bytes) link.write(bytes);
  else {
    const { url, headers, body, timeout } = ask;
    const asked = require(url.startsWith("https:") ? "node:https" : "node:http").request(url, { method: "POST", headers, timeout }, (answer) => {
      let text = "";
      answer.setEncoding("utf8").on("data", (piece) => { text += piece; });
      answer.on("end", () => tell({ answer: { status: answer.statusCode, text, retryAfter: null } }));
    });
    asked.on("timeout", () => asked.destroy(new Error("no answer in time"))).on("error", (error) => tell({ failed: error.message }));
    asked.end(body);
  }
});
`;

interface Said { open?: true; data?: Uint8Array; closed?: true; said?: string; answer?: Answer; failed?: string }

const live = new Set<Ending>();
let watching = false;
/** Recorders for which `beforeExit` has waited already. */
const waited = new Set<Ending>();

export function watchEnd(recorder: Ending): void {
  live.add(recorder);
  if (watching) return;
  watching = true;
  process.on("beforeExit", () => {
    for (const one of live) {
      if (one.inFlight === 0) {
        live.delete(one);
        waited.delete(one);
      } else if (!waited.has(one)) {
        waited.add(one);
        void one.flush(one.exitTimeout);
      }
    }
  });
  process.on("exit", () => {
    for (const one of live) {
      if (one.inFlight > 0 && !waited.has(one)) deliver(one);
      if (one.inFlight > 0) one.lost();
    }
  });
}

function deliver(recorder: Ending): void {
  const { port1: port, port2 } = new MessageChannel();
  const flag = new Int32Array(new SharedArrayBuffer(4));
  let thread: Worker | undefined;
  let stream: StreamEvents | undefined;
  let asked: { resolve: (answer: Answer) => void; reject: (error: Error) => void } | undefined;
  const say = (message: unknown): void => {
    thread ??= new Worker(THREAD, { eval: true, workerData: { port: port2, flag }, transferList: [port2], stdout: false, stderr: false, execArgv: [], env: {} });
    port.postMessage(message);
  };
  const hear = ({ open, data, closed, said, answer, failed }: Said): void => {
    if (open) stream?.open();
    if (data) stream?.data(Buffer.from(data));
    if (closed) stream?.closed(said === undefined ? undefined : new Error(said));
    if (answer) asked?.resolve(answer);
    if (failed !== undefined) asked?.reject(new Error(failed));
  };
  const socket = connectSocket((target, events) => {
    stream = events;
    say({ open: target });
    return { write: (bytes) => say({ bytes }), full: false, destroy: (error) => events.closed(error) };
  });
  const http = connectHttp((url, headers, body, timeout) => {
    say({ ask: { url, headers: { ...headers, "content-length": body.length }, body, timeout } });
    // Promises do not settle any more at this point, so callbacks are called directly.
    const answered = { then: (resolve: (answer: Answer) => void) => ({ catch: (reject: (error: Error) => void) => (asked = { resolve, reject }) }) };
    return answered as unknown as Promise<Answer>;
  });
  try {
    recorder.finish(
      (endpoint, identity, events) => (endpoint.url ? http : socket)(endpoint, identity, events),
      (milliseconds) => {
        const end = now() + milliseconds;
        for (let seen = Atomics.load(flag, 0); ; seen = Atomics.load(flag, 0)) {
          const one = receiveMessageOnPort(port) as { message: Said } | undefined;
          if (one) {
            hear(one.message);
            return true;
          }
          if (now() >= end || Atomics.wait(flag, 0, seen, Math.max(1, end - now())) === "timed-out") return false;
        }
      },
      recorder.exitTimeout,
    );
  } catch {
    // `lost()` reports the records that are left.
  }
  port.close();
  void thread?.terminate();
}
