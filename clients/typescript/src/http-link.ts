// Records over HTTP: `POST /api/v1/records`, one request at a time. A request's idempotency key is made of its sequence numbers, so a
// request that is sent again because its answer was lost counts once.

import type { Connect, Link } from "./link.js";
import { type Answer, platform } from "./platform.js";
import type { Rejection } from "./wire.js";

interface Result { ok: boolean; cost_usd?: string; error?: { code: string; message: string; field?: string } }

const FRAME_BYTES_MAX = 1024 * 1024;
const RECORDS_MAX = 4096;
/** Statuses of temporary refusals. Any other refusal lasts until somebody changes something. */
const PASSING = new Set([408, 409, 425, 429]);
const [OPEN, COMMA, CLOSE] = [0x5b, 0x2c, 0x5d];

export const connectHttp = (post: typeof platform.post): Connect => (endpoint, identity, events) => {
  const headers: Record<string, string> = { "content-type": "application/json", "user-agent": identity.client };
  if (endpoint.token) headers["authorization"] = `Bearer ${endpoint.token}`;
  let [busy, closed] = [false, false];
  const end = (error?: Error, back?: { wait?: number; slow?: boolean }): void => {
    if (closed) return;
    closed = true;
    events.closed(error, back);
  };
  const answered = (answer: Answer, first: number, count: number): void => {
    if (closed) return;
    busy = false;
    const seq = first + count - 1;
    const said = read(answer.text);
    if ((answer.status === 200 || answer.status === 422) && said.results?.length === count) {
      const rejected = said.results.flatMap((result, at): Rejection[] => (result.error ? [{ seq: first + at, ...result.error }] : []));
      return events.heard({ ack: { seq, rejected, costs: said.results.map(({ cost_usd }) => cost_usd ?? null) } });
    }
    const reason = said.error?.message ?? answer.text.slice(0, 200);
    // Sent again it would be refused again, for ever, and hold up the records behind it.
    if (answer.status === 422 || (answer.status === 413 && count === 1)) {
      const refused = { code: said.error?.code ?? `http_${answer.status}`, message: reason };
      return events.heard({ ack: { seq, rejected: Array.from({ length: count }, (_, at) => ({ seq: first + at, ...refused })) } });
    }
    const passes = answer.status >= 500 || PASSING.has(answer.status);
    const wait = Number(answer.retryAfter) * 1000;
    end(new Error(`tallyd answered ${answer.status}: ${reason}`), { slow: !passes, ...(passes && wait > 0 ? { wait: Math.min(wait, 60_000) } : {}) });
  };
  const link: Link = {
    // There is no handshake: the daemon recognises an earlier request by its key.
    start: () => events.heard({ welcome: { protocol: 2, last_seq: 0, max_frame_bytes: FRAME_BYTES_MAX, max_records: RECORDS_MAX } }),
    get takes() {
      return !busy && !closed;
    },
    send(first, records) {
      busy = true;
      const key = `${identity.producer}-${identity.secret}-${first}-${records.length}`.replace(/[^!-~]/g, "_").slice(-255);
      post(`${endpoint.url}/api/v1/records`, { ...headers, "idempotency-key": key }, array(records), identity.timeout, identity.ca)
        .then((answer) => answered(answer, first, records.length))
        .catch((error: unknown) => end(error instanceof Error ? error : new Error(String(error))));
    },
    close: end,
  };
  return link;
};

/** A JSON array of encoded records. */
function array(records: Uint8Array[]): Uint8Array {
  const body = new Uint8Array(records.reduce((sum, record) => sum + record.length + 1, 1));
  let at = 0;
  for (const record of records) {
    body[at] = at === 0 ? OPEN : COMMA;
    body.set(record, at + 1);
    at += 1 + record.length;
  }
  body[at] = CLOSE;
  return body;
}

function read(text: string): { results?: Result[]; error?: { code: string; message: string } } {
  try {
    return JSON.parse(text) as { results?: Result[] };
  } catch {
    // Not JSON: the answer comes from a proxy.
    return {};
  }
}
