// A connection to the daemon over any transport: frames go in, messages come out.

import type { Endpoint } from "./options.js";
import type { AckMode, ServerMessage } from "./wire.js";

export interface Link {
  /** Opens the connection. Events begin here. */
  start(): void;
  /** Whether the link takes another frame now. If not, `drained` is called when it does. */
  readonly takes: boolean;
  send(first: number, records: Uint8Array[]): void;
  /** Asks for the state of budgets at each change. Only for a daemon whose welcome has `budgets`. */
  watch?(): void;
  close(error?: Error): void;
}

export interface LinkEvents {
  /** May throw: the connection then ends with that error. */
  heard(message: ServerMessage): void;
  drained(): void;
  /** The connection has ended. `wait`: milliseconds before the next attempt; `slow`: the refusal will repeat, so use the slow interval. */
  closed(error: Error | undefined, back?: { wait?: number; slow?: boolean }): void;
}

/** The producer's name and secret, the client's name and version, its mode of acks, the time limit of a request in milliseconds, and the file of trusted authorities. */
export interface Identity { producer: string; secret: string; client: string; ack: AckMode; timeout: number; ca?: string }

export type Connect = (endpoint: Endpoint, identity: Identity, events: LinkEvents) => Link;
