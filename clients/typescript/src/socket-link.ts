// The framed protocol over a stream of bytes: a Unix socket, or TCP.

import type { Connect, Link } from "./link.js";
import { helloFrame, Inbox, PROTOCOL, recordsFrame, watchFrame } from "./wire.js";

/** A stream of bytes, which a socket is. */
export interface Stream {
  write(bytes: Uint8Array): void;
  readonly full: boolean;
  destroy(error?: Error): void;
}

export interface StreamEvents { open(): void; data(piece: Buffer): void; drained(): void; closed(error: Error | undefined): void }

export type Open = (target: { path: string } | { host: string; port: number }, events: StreamEvents) => Stream;

export const connectSocket = (open: Open): Connect => (endpoint, identity, events) => {
  let stream: Stream;
  let closed = false;
  const inbox = new Inbox();
  const { producer, secret, client, ack } = identity;
  const { token } = endpoint;
  const link: Link = {
    start() {
      stream = open(endpoint.path ? { path: endpoint.path } : { host: endpoint.host!, port: endpoint.port! }, {
        open: () => stream.write(helloFrame({ protocol: PROTOCOL, producer, secret, client, ...(token ? { token } : {}), want_costs: true, ack })),
        data(piece) {
          try {
            for (const message of inbox.push(piece)) events.heard(message);
          } catch (error) {
            stream.destroy(error instanceof Error ? error : new Error(String(error)));
          }
        },
        drained: () => events.drained(),
        closed(error) {
          if (closed) return;
          closed = true;
          events.closed(error);
        },
      });
    },
    get takes() {
      return !closed && !stream.full;
    },
    send: (first, records) => stream.write(recordsFrame(first, records)),
    watch: () => stream.write(watchFrame()),
    close: (error) => stream?.destroy(error),
  };
  return link;
};
