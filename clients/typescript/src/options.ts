// What a recorder is told at its start, and what it tells of itself.

import { platform } from "./platform.js";
import type { UsageRecord } from "./record.js";
import type { Rejection } from "./wire.js";

export interface RecorderOptions {
  /** Where the daemon is: `unix:/path`, `tcp://[token@]host:port`, or the `https://` address of its HTTP API. In the place of `socket` and `host`. */
  endpoint?: string;
  /** The daemon's Unix socket. `TALLYD_ENDPOINT`, `TALLYD_SOCKET`, or `/run/tallyd/tallyd.sock`, if neither `endpoint`, this nor `host` is given. */
  socket?: string;
  /** The daemon's TCP listener, with `port` and `token`. */
  host?: string;
  port?: number;
  /** The access token: needed over TCP and HTTP. `TALLYD_TOKEN`, if it is left out. */
  token?: string;
  /** The application's name, for records that have none. */
  app?: string;
  /** Tags of every record, such as `{ environment: "production" }`. Those of the context and of the record come before them. */
  tags?: UsageRecord["tags"];
  /** A name for this recorder's records, for people. Two processes of one name lose nothing, and both are warned. The default is a new one for each recorder, and right. */
  producer?: string;
  /** Bytes of memory that records may take before they are encoded: 512 a record and two for each character of its text, which is more than V8 needs. */
  maxQueueBytes?: number;
  /** Encoded bytes that may wait for the daemon. */
  maxBytes?: number;
  /** How long records are gathered before they are sent, in milliseconds. */
  gather?: number;
  /** How long a daemon may owe an ack in silence, in milliseconds. */
  ackTimeout?: number;
  /** How long the process waits at its end for what is in flight, in milliseconds. */
  exitTimeout?: number;
  /** Tells nothing on standard error: neither losses nor refusals nor a daemon that is not there. */
  quiet?: boolean;
  /** Keeps nothing and opens nothing, for tests. `TALLYD_DISABLED=1`, if it is left out. */
  disabled?: boolean;
  /** Gets each record that is not kept, and why. */
  onDrop?: (record: UsageRecord, reason: string) => void;
  /** Gets each record that the daemon refused; it is in the daemon's dead letters. */
  onReject?: (rejection: Rejection) => void;
}

/** What holds where an option is left out. README.md has the same list, and a test compares the two. */
export const DEFAULTS = {
  port: 7421,
  app: "",
  maxQueueBytes: 64 * 1024 * 1024,
  maxBytes: 32 * 1024 * 1024,
  gather: 20,
  ackTimeout: 60_000,
  exitTimeout: 5_000,
};

/** Where the daemon is: a Unix socket's path, a host with its port, or the URL of its HTTP API. `name` has no secret. */
export interface Endpoint { path?: string; host?: string; port?: number; url?: string; token: string | undefined; name: string }

/** By the options, else by `TALLYD_ENDPOINT` (as the other clients read it) or `TALLYD_SOCKET`. */
export function endpoint({ endpoint, socket, host, port, token = platform.env("TALLYD_TOKEN") }: RecorderOptions): Endpoint {
  if (!endpoint && socket) return { path: socket, token, name: `unix:${socket}` };
  const at = (host: string, port: number, token: string | undefined): Endpoint => ({ host, port, token, name: `tcp://${host}:${port}` });
  if (!endpoint && host) return at(host, port ?? DEFAULTS.port, token);
  const text = endpoint || platform.env("TALLYD_ENDPOINT") || platform.env("TALLYD_SOCKET") || "/run/tallyd/tallyd.sock";
  const scheme = /^(tcp|https?):\/\//.exec(text)?.[1];
  if (!scheme) {
    const path = text.replace(/^unix:/, "");
    return { path, token, name: `unix:${path}` };
  }
  const url = new URL(text);
  const own = url.username ? decodeURIComponent(url.username) : token;
  if (scheme === "tcp") return at(url.hostname, Number(url.port || DEFAULTS.port), own);
  const base = `${url.protocol}//${url.host}${url.pathname}`.replace(/\/+$/, "");
  return { url: base, token: own, name: base };
}

/** Whether `TALLYD_DISABLED` says so. */
export function isOff(text: string | undefined): boolean {
  return ["1", "true", "yes", "on"].includes((text ?? "").trim().toLowerCase());
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
