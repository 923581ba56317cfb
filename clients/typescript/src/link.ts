// A connection to the daemon, whatever it is made of: frames go in, messages come out.

import type { Endpoint } from "./options.js";
import type { ServerMessage } from "./wire.js";

export interface Link {
  /** Opens it. Events come from here on. */
  start(): void;
  /** Whether it takes another frame now; if not, it says `drained` when it does. */
  readonly takes: boolean;
  send(first: number, records: Uint8Array[]): void;
  /** Asks to be told where the budgets stand, of a daemon whose welcome has told it. */
  watch?(): void;
  close(error?: Error): void;
}

export interface LinkEvents {
  /** May throw: the connection then ends with that error. */
  heard(message: ServerMessage): void;
  drained(): void;
  /** It has ended. `wait`: milliseconds before it makes sense to come back; `slow`: soon would not help. */
  closed(error: Error | undefined, back?: { wait?: number; slow?: boolean }): void;
}

/** Who records. */
export interface Identity { producer: string; secret: string; client: string; timeout: number }

export type Connect = (endpoint: Endpoint, identity: Identity, events: LinkEvents) => Link;
