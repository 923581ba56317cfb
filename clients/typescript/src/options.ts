// What a recorder is told at its start, and what it tells of itself.

import type { UsageRecord } from "./record.js";
import type { Rejection } from "./wire.js";

export interface RecorderOptions {
  /** The daemon's Unix socket. `TALLYD_ENDPOINT`, `TALLYD_SOCKET`, or `/run/tallyd/tallyd.sock`, if neither this nor `host` is given. */
  socket?: string;
  /** The daemon's TCP listener, with `port` and `token`. */
  host?: string;
  port?: number;
  /** The access token: needed over TCP. `TALLYD_TOKEN`, if it is left out. */
  token?: string;
  /** The application's name, for records that have none. */
  app?: string;
  /** A name for this recorder's records, for people. Two processes of one name lose nothing, and both are warned. The default is a new one for each recorder, and right. */
  producer?: string;
  /** Records that may wait to be encoded. */
  maxQueue?: number;
  /** Bytes of memory that they may take: 512 a record and two for each character of its text, which is more than V8 needs. */
  maxQueueBytes?: number;
  /** Encoded bytes that may wait for the daemon. */
  maxBytes?: number;
  /** How long records are gathered before they are sent, in milliseconds. */
  gather?: number;
  /** How long a daemon may owe an ack in silence, in milliseconds. */
  ackTimeout?: number;
  /** Gets each record that is not kept, and why. */
  onDrop?: (record: UsageRecord, reason: string) => void;
  /** Gets each record that the daemon refused; it is in the daemon's dead letters. */
  onReject?: (rejection: Rejection) => void;
}

/** What holds where an option is left out. README.md has the same list, and a test compares the two. */
export const DEFAULTS = {
  port: 7421,
  app: "",
  maxQueue: 16_384,
  maxQueueBytes: 64 * 1024 * 1024,
  maxBytes: 32 * 1024 * 1024,
  gather: 20,
  ackTimeout: 60_000,
};

/** Where the daemon is: a Unix socket's path, or a host with its port. */
export interface Endpoint { path?: string; host?: string; port?: number; token: string | undefined }

/** By the options, else by `TALLYD_ENDPOINT` (`unix:/path`, a path, or `tcp://[token@]host:port`, as the other clients read it) or `TALLYD_SOCKET`. */
export function endpoint({ socket, host, port, token = process.env["TALLYD_TOKEN"] }: RecorderOptions): Endpoint {
  if (socket) return { path: socket, token };
  if (host) return { host, port: port ?? DEFAULTS.port, token };
  const text = process.env["TALLYD_ENDPOINT"] || process.env["TALLYD_SOCKET"] || "/run/tallyd/tallyd.sock";
  if (!text.startsWith("tcp://")) return { path: text.replace(/^unix:/, ""), token };
  const url = new URL(text);
  return { host: url.hostname, port: Number(url.port || DEFAULTS.port), token: url.username ? decodeURIComponent(url.username) : token };
}

export interface Stats {
  recorded: number;
  /** Durable. */
  acked: number;
  rejected: number;
  /** Not kept: the queue was full, the record could not be written, or the time was up at the end. */
  dropped: number;
  /** Answers of a vendor that were looked on at and that the application left unread: recorded with what they had told until then. */
  unread: number;
  /** Recorded, and neither durable nor refused yet. */
  inFlight: number;
  connected: boolean;
  reconnects: number;
  lastError: string | undefined;
  /** What the daemon last warned of: `name_in_use`, where another process uses this producer's name. */
  lastWarning: string | undefined;
}

/** What became of a record that was waited for. `cost_usd` is null where no price is known, undefined where the answer was lost. */
export interface Durable { id: string; cost_usd: string | null | undefined }
