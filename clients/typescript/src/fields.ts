// Written from protocol/src/fields.rs by `make snapshots`. Change the source, not this file.

/** A quantity or an amount: decimal text keeps every digit; an integer is taken as it is. */
export type Decimal = string | bigint | number;

/** One paid API call. Only `provider` is needed. */
export interface UsageRecord {
  /** Identity of the call, a UUID. One of version 7 is made, if none is given. */
  id?: string | Uint8Array;
  /** When the call was made: microseconds since 1970 UTC, or RFC 3339 where it is text. Now, if nothing is given. */
  occurred_at?: number | Date;
  /** `claude`, `rentcast`, `openai` … Required. */
  provider: string;
  /** The model as the vendor names it, or empty. */
  model?: string;
  /** The endpoint's path, or empty. The daemon cuts a query string off. */
  endpoint?: string;
  /** The product's user on whose behalf the call was made, or empty. */
  user_id?: string;
  /** The application that made the call, or empty. */
  app?: string;
  /** The provider's own id of the call, or empty. */
  request_id?: string;
  /** Prompt tokens billed at the full rate: those from a cache are not among them. */
  input_tokens?: number;
  /** Generated tokens, thinking included. */
  output_tokens?: number;
  /** Prompt tokens read from a cache. */
  cache_read_tokens?: number;
  /** Prompt tokens written to a cache that lives 5 minutes. */
  cache_write_5m_tokens?: number;
  /** Prompt tokens written to a cache that lives an hour. */
  cache_write_1h_tokens?: number;
  /** Billable units of an API that is priced per request. Default 1. */
  requests?: number;
  /** Any other priced units and their quantities as decimal text, such as `{"web_search": "2"}`. */
  extra_units?: Record<string, Decimal>;
  /** `standard`, `batch`, `priority` … Default `standard`. */
  service_tier?: string;
  /** HTTP status of the call. Default 200; 400 and above count as errors. */
  status?: number;
  /** How long the call took, in milliseconds. */
  latency_ms?: number;
  /** Cost of the call, USD as decimal text, where the application knows better than the price catalog. */
  cost_usd?: Decimal;
  /** A JSON object, or the text of one, that is stored with the call. */
  metadata?: Record<string, unknown> | string;
  /** Where the model ran, if not at its vendor: `bedrock`, `vertex`, `azure`, `openrouter`; or empty. Its price applies. */
  platform?: string;
  /** Cost allocation, such as `{"team": "search"}`. Of an `api_key` only a short hash is stored. */
  tags?: Record<string, string | number>;
}

/** Each field's name, kind and default, in the order of the protocol; null: nothing is said. */
export const FIELDS = [
  ["id", "id", null],
  ["occurred_at", "time", null],
  ["provider", "required", null],
  ["model", "text", ""],
  ["endpoint", "text", ""],
  ["user_id", "text", ""],
  ["app", "text", ""],
  ["request_id", "text", ""],
  ["input_tokens", "count", 0],
  ["output_tokens", "count", 0],
  ["cache_read_tokens", "count", 0],
  ["cache_write_5m_tokens", "count", 0],
  ["cache_write_1h_tokens", "count", 0],
  ["requests", "count", 1],
  ["extra_units", "units", null],
  ["service_tier", "text", "standard"],
  ["status", "status", 200],
  ["latency_ms", "latency", null],
  ["cost_usd", "decimal", null],
  ["metadata", "json", null],
  ["platform", "text", ""],
  ["tags", "tags", null],
] as const;
