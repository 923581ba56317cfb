// A recorder's options and statistics.

import { platform } from "./platform.js";
import type { UsageRecord } from "./record.js";
import type { AckMode, Rejection } from "./wire.js";

export interface RecorderOptions {
  /** The daemon: `unix:/path`, `tcp://[token@]host:port`, or the `https://` address of its HTTP API. Wins over `socket` and `host`. */
  endpoint?: string;
  /** The daemon's Unix socket. Without `endpoint`, `socket` and `host`: `TALLYD_ENDPOINT`, `TALLYD_SOCKET`, or `/run/tallyd/tallyd.sock`. */
  socket?: string;
  /** The host of the daemon's TCP listener; needs `token`. */
  host?: string;
  /** The port of the TCP listener. Default 7421. */
  port?: number;
  /** The access token, which TCP and HTTP need. Default: `TALLYD_TOKEN`. */
  token?: string;
  /** A PEM file with the authorities that an `https://` endpoint's certificate is proven by, in Node, Bun and Deno. Default: the runtime's own. */
  ca?: string;
  /** The application's name, for records without one. */
  app?: string;
  /** Tags of every record, such as `{ environment: "production" }`. Those of the context and of the record come before them. */
  tags?: UsageRecord["tags"];
  /** Deny calls in `check` while the state of budgets is not known: the daemon has not been heard of for 5 minutes, or yet. Default: allow. */
  denyUnknown?: boolean;
  /** A name for this recorder, for people to read. Two processes with one name lose nothing, but both are warned. Default: a new name each. */
  producer?: string;
  /** Bound of memory for records before they are encoded, in bytes: 512 a record and 2 a character of its text, which is more than V8 needs. */
  maxQueueBytes?: number;
  /** Bound of encoded records that wait for the daemon, in bytes. */
  maxBytes?: number;
  /**
   * A folder for spools. The record is then written to a file before `record()` returns, and survives a SIGKILL of the process: the next recorder
   * with this folder delivers it, exactly once. For a socket or TCP, not HTTP; on Linux, with the program `flock`. Default: none.
   */
  spool?: string;
  /** Room of the spool, in bytes. It takes the place of `maxQueueBytes` and `maxBytes`, and bounds the memory as well. */
  spoolBytes?: number;
  /** How long to collect records before sending them, in milliseconds. */
  gather?: number;
  /**
   * When records are acknowledged: after the sync of the daemon's disk (`"durable"`), or after PostgreSQL's COMMIT (`"committed"`), so that nothing
   * acknowledged is lost with that disk. The daemon's own setting holds if it is stricter, and always over HTTP. Default: `"durable"`.
   */
  ack?: AckMode;
  /** How long to wait for an ack without hearing anything before reconnecting, in milliseconds. */
  ackTimeout?: number;
  /** How long the process waits at its end for records in flight, in milliseconds. */
  exitTimeout?: number;
  /** No messages on standard error: not of losses, refusals, or a daemon that is away. */
  quiet?: boolean;
  /** Keeps nothing and opens nothing, for tests. Default: whether `TALLYD_DISABLED` is `1`, `true`, `yes` or `on`. */
  disabled?: boolean;
  /** Called with each record that is not kept, and the reason. */
  onDrop?: (record: UsageRecord, reason: string) => void;
  /** Called for each record that the daemon refused. The daemon keeps it as a dead letter. */
  onReject?: (rejection: Rejection) => void;
}

/** The options' defaults. README.md has the same list, and a test compares the two. */
export const DEFAULTS = {
  port: 7421,
  app: "",
  maxQueueBytes: 64 * 1024 * 1024,
  maxBytes: 32 * 1024 * 1024,
  spoolBytes: 64 * 1024 * 1024,
  gather: 20,
  ackTimeout: 60_000,
  exitTimeout: 5_000,
};

/** The daemon: a Unix socket's path, a host and port, or the URL of its HTTP API. `name` does not contain the token. */
export interface Endpoint { path?: string; host?: string; port?: number; url?: string; token: string | undefined; name: string }

/** From the options, else from `TALLYD_ENDPOINT` (in the form of the other clients) or `TALLYD_SOCKET`. Throws a TypeError for an invalid URL. */
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

/** Whether the text of `TALLYD_DISABLED` means yes. */
export function isOff(text: string | undefined): boolean {
  return ["1", "true", "yes", "on"].includes((text ?? "").trim().toLowerCase());
}

export interface Stats {
  /** Records that `record()` took. */
  recorded: number;
  /** Records that are durable. */
  acked: number;
  /** Records that the daemon refused. */
  rejected: number;
  /** Records not kept: the queue was full, the record could not be encoded, or the time at the end was over. */
  dropped: number;
  /** Instrumented answers that the application did not read. They are recorded with their usage so far. */
  unread: number;
  /** Records that are neither durable nor refused yet. */
  inFlight: number;
  /** Records that were delivered from the spools of processes that had ended. */
  recovered: number;
  connected: boolean;
  /** Connections after the first one. */
  reconnects: number;
  /** Reason of the last lost record, or of the last connection's end. */
  lastError: string | undefined;
  /** The daemon's last warning, such as `name_in_use`: another process uses this producer's name. */
  lastWarning: string | undefined;
}

/** A durable record's id (a UUID) and cost: USD as decimal text, null if unpriced, undefined if the answer with the cost was lost. */
export interface Durable { id: string; cost_usd: string | null | undefined }
