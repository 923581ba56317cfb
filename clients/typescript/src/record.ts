// The usage record: what one paid call was, in the order of the protocol.

import { encode } from "@msgpack/msgpack";

/** A quantity or an amount: decimal text keeps every digit; an integer is taken as it is. */
export type Decimal = string | bigint | number;

/** One paid API call. Only `provider` is needed. */
export interface UsageRecord {
  /** UUID of the call; made here if it is left out. */
  id?: string | Uint8Array;
  /** When it was made: microseconds since 1970 UTC, or a Date. Now, if it is left out. */
  occurred_at?: number | Date;
  /** `claude`, `rentcast`, `openai` … */
  provider: string;
  /** The model, as the vendor names it. */
  model?: string;
  /** The endpoint's path, or the route of your own application. */
  endpoint?: string;
  /** On whose behalf. */
  user_id?: string;
  /** Which application. */
  app?: string;
  /** The vendor's own id of the request. */
  request_id?: string;
  /** Prompt tokens at the full rate: those from a cache are not among them. */
  input_tokens?: number;
  output_tokens?: number;
  cache_read_tokens?: number;
  cache_write_5m_tokens?: number;
  cache_write_1h_tokens?: number;
  /** Billable requests of an API that is priced by the request. 1, if it is left out. */
  requests?: number;
  /** Other billable units: `{ web_search: 2 }`. */
  extra_units?: Record<string, Decimal>;
  /** `standard`, if it is left out. */
  service_tier?: string;
  /** HTTP status. 200, if it is left out. */
  status?: number;
  latency_ms?: number;
  /** USD, if the caller knows it; otherwise the daemon prices the call. */
  cost_usd?: Decimal;
  /** Anything else: an object, or JSON text of one. */
  metadata?: Record<string, unknown> | string;
}

const FIELDS = [
  "id", "occurred_at", "provider", "model", "endpoint", "user_id", "app", "request_id", "input_tokens", "output_tokens", "cache_read_tokens",
  "cache_write_5m_tokens", "cache_write_1h_tokens", "requests", "extra_units", "service_tier", "status", "latency_ms", "cost_usd", "metadata",
] as const;

/** No other units: the empty map, where a later field follows. */
const NO_UNITS = {};

const DEFAULTS: Partial<Record<(typeof FIELDS)[number], unknown>> = {
  model: "", endpoint: "", user_id: "", app: "", request_id: "", input_tokens: 0, output_tokens: 0, cache_read_tokens: 0,
  cache_write_5m_tokens: 0, cache_write_1h_tokens: 0, requests: 1, extra_units: NO_UNITS, service_tier: "standard", status: 200,
};

const TEXTS: ReadonlySet<string> = new Set(["provider", "model", "endpoint", "user_id", "app", "request_id", "service_tier"]);

/** A decimal as the wire has it: text, never a float. */
function decimal(value: Decimal): string {
  if (typeof value !== "number") return value.toString();
  if (!Number.isFinite(value)) throw new TypeError(`${value} is no amount`);
  // 1e-7 as 0.0000001: exponents are not decimal text.
  const text = value.toString();
  return text.includes("e") ? value.toFixed(18).replace(/\.?0+$/, "") : text;
}

/** An id as its 16 bytes. Throws a TypeError if it is none. */
export function idBytes(id: string | Uint8Array): Uint8Array {
  if (typeof id !== "string") {
    if (id.length !== 16) throw new TypeError(`an id of ${id.length} bytes is no UUID`);
    return Uint8Array.from(id);
  }
  const hex = id.replaceAll("-", "");
  if (!/^[0-9a-fA-F]{32}$/.test(hex)) throw new TypeError(`${JSON.stringify(id)} is no UUID`);
  return Uint8Array.from({ length: 16 }, (_, at) => parseInt(hex.slice(at * 2, at * 2 + 2), 16));
}

function integer(name: string, value: number): number {
  if (!Number.isSafeInteger(value)) throw new TypeError(`${name}: ${value} is no whole number`);
  return value;
}

function wire(name: (typeof FIELDS)[number], record: UsageRecord): unknown {
  const value = record[name];
  if (value === undefined || value === null) return name in DEFAULTS ? DEFAULTS[name] : null;
  switch (name) {
    case "id": return idBytes(value as string | Uint8Array);
    case "occurred_at": return value instanceof Date ? value.getTime() * 1000 : integer(name, value as number);
    case "cost_usd": return decimal(value as Decimal);
    case "metadata": return typeof value === "string" ? value : JSON.stringify(value);
    case "extra_units": {
      const units = Object.entries(value as Record<string, Decimal>).sort(([a], [b]) => (a < b ? -1 : 1));
      return units.length === 0 ? NO_UNITS : Object.fromEntries(units.map(([unit, quantity]) => [unit, decimal(quantity)]));
    }
    default:
      if (!TEXTS.has(name)) return integer(name, value as number);
      if (typeof value !== "string") throw new TypeError(`${name}: ${String(value)} is no text`);
      return value;
  }
}

/** The record's array form: trailing defaults are left off. Throws a TypeError that names the field, where one cannot be written. */
export function encodeRecord(record: UsageRecord): Uint8Array {
  for (const name of Object.keys(record)) {
    if (!(FIELDS as readonly string[]).includes(name)) throw new TypeError(`no field is called ${JSON.stringify(name)}`);
  }
  const values = FIELDS.map((name) => wire(name, record));
  let length = values.length;
  while (length > 0 && (values[length - 1] === null || values[length - 1] === DEFAULTS[FIELDS[length - 1]!])) length -= 1;
  return encode(values.slice(0, length));
}
