// The parts of the API's answers that the page reads. Amounts are decimal text: see money.ts.

export interface Sums {
  calls: number;
  errors: number;
  input_tokens: number;
  output_tokens: number;
  cache_read_tokens: number;
  cache_write_5m_tokens: number;
  cache_write_1h_tokens: number;
  requests: number;
  cost_usd: string;
  unpriced_calls: number;
}

export type Dimension = "provider" | "model" | "endpoint" | "user" | "app" | `tag:${string}`;

export interface GroupRow extends Sums, Partial<Record<Dimension, string>> {
  bucket?: string;
}

export interface Costs {
  from: string;
  to: string;
  time_zone: string;
  bucket: string;
  source: string;
  whole_from: string | null;
  as_of: string | null;
  rows: GroupRow[];
  next_offset: number | null;
}

export interface Dimensions {
  dimensions: { name: string; group_by: Dimension; is_whole: boolean; counted_from: string | null; other_calls: number }[];
}

export interface UserTotals {
  id: string;
  shown: string | null;
  total_calls: number;
  total_claude_calls: number;
  total_rentcast_calls: number;
  errors: number;
  unpriced_calls: number;
  cost_usd: string;
  first_call_at: string | null;
  last_call_at: string | null;
}

export interface Users {
  users: UserTotals[];
  total: number;
  total_is: "exact" | "estimate" | "at_least";
  joined: boolean;
  as_of: string | null;
  next: string | null;
}

export interface UserDetail extends UserTotals {
  days: (Sums & { day: string; provider: string })[];
}

export interface Counted {
  count: number;
  definition: string;
}

export interface SessionsAnswer {
  available: boolean;
  sessions: { active: Counted; refreshed_24h: Counted; signed_in_24h: Counted; active_users: number } | null;
}

/** The sessions' numbers in an hour. Hours without a sample are left out. */
export interface SessionSample {
  hour: string;
  active: number;
  active_users: number;
  refreshed_24h: number;
  signed_in_24h: number;
}

export interface RecordRow {
  id: string;
  occurred_at: string;
  provider: string;
  model: string;
  endpoint: string;
  user_id: string;
  app: string;
  request_id: string;
  input_tokens: number;
  output_tokens: number;
  cache_read_tokens: number;
  cache_write_5m_tokens: number;
  cache_write_1h_tokens: number;
  requests: number;
  extra_units: Record<string, unknown> | null;
  service_tier: string;
  status: number;
  latency_ms: number | null;
  cost_usd: string | null;
  cost_source: string;
  price_id: number | null;
  metadata: Record<string, unknown> | null;
  platform: string;
  tags: Record<string, string> | null;
}

/** A change of one call by an admin. */
export interface Amendment {
  id: number;
  call_id: string;
  occurred_at: string;
  kind: "amended" | "voided";
  at: string;
  actor: string;
  reason: string;
  before: CallValues;
  after: CallValues;
}

/** The values of a call that an amendment can change. */
export interface CallValues {
  cost_usd: string | null;
  input_tokens: number;
  output_tokens: number;
  cache_read_tokens: number;
  cache_write_5m_tokens: number;
  cache_write_1h_tokens: number;
  requests: number;
}

/** Oldest first. */
export interface CallAmendments {
  amendments: Amendment[];
  next: number | null;
}

export interface Records {
  records: RecordRow[];
  /** The last one of each changed call. */
  amendments: Amendment[];
  /** Filter names that no call has, if nothing was found. */
  note: string | null;
  next: string | null;
}

export interface DeadLetter {
  id: number;
  created_at: string;
  kind: string;
  code: string;
  message: string;
  field: string;
  producer: string;
  occurred_at: string | null;
  payload_format: string;
  payload_bytes: number;
  /** The record as received, from any encoding; text if it was incomplete. */
  record: unknown;
}

/** Refusals that have kind, reason, field and sender in common. */
export interface LetterGroup {
  kind: string;
  code: string;
  field: string;
  producer: string;
  refused: number;
  only_counted: number;
  open: number;
  first_seen: string | null;
  last_seen: string | null;
  message: string | null;
}

export interface LetterGroups {
  from: string;
  refused: number;
  only_counted: number;
  open: number;
  groups: LetterGroup[];
}

export type Health = "ok" | "degraded" | "failing";

export interface Part {
  status: Health;
  message?: string;
}

export interface Status {
  version: string;
  uptime_seconds: number;
  pid: number;
  data_dir: string;
  socket: string;
  health: { status: Health; ingest: Part; wal: Part; flusher: Part };
  wal: {
    unflushed_records: number;
    oldest_unflushed_seconds: number;
    bytes: number;
    segments: number;
    durable_key: number;
    channel_bytes: number;
    damaged: boolean;
  };
  database: {
    url: string | null;
    connected: boolean;
    committed_records: number | null;
    committed_since_start: number;
    lanes: { committed_key: number; hold: boolean; trouble: string | null }[];
  };
}

export interface PriceRow {
  id: number;
  provider: string;
  model: string;
  service_tier: string;
  effective_from: string;
  rates: {
    per_million_tokens?: Record<string, string>;
    per_unit?: Record<string, string>;
    above?: { prompt_tokens: number; per_million_tokens: Record<string, string> }[];
    plan?: unknown;
  };
  source: string;
  origin: string;
}

export interface AuditEntry {
  id: number;
  at: string;
  actor: string;
  address: string;
  action: string;
  object: string;
  old_value: unknown;
  new_value: unknown;
}

export interface Alert {
  id: number;
  kind: string;
  at: string;
  message: string;
  details: Record<string, unknown>;
  current: boolean;
  delivery: "none" | "due" | "delivered";
  delivery_error: string;
  acknowledged_at: string | null;
  acknowledged_by: string | null;
}

export interface AlertsAnswer {
  alerts: Alert[];
  new: number;
  next: number | null;
}

export interface BudgetState {
  id: number;
  /** Names by dimension, `tag:team` among them; empty for all spend. */
  scope: Record<string, string>;
  period: "day" | "week" | "month";
  amount_usd: string;
  warning_percent: number;
  alert_percents: number[];
  limit: "soft" | "hard";
  period_start: string;
  period_end: string;
  spent_usd: string;
  remaining_usd: string;
  unpriced_calls: number;
  status: "normal" | "warning" | "exceeded";
  /** Of the whole period; null without one. */
  forecast: Estimate | null;
}

export interface Estimate {
  until: string;
  spent_usd: string;
  expected_usd: string | null;
  low_usd: string | null;
  high_usd: string | null;
}

export interface Forecast {
  method: string;
  history_days: number;
  interval_percent: number;
  day: Estimate;
  month: Estimate;
  next_7_days: Estimate;
  next_30_days: Estimate;
  parts: { name: string; next_30_days_usd: string }[];
  unusual_days: { day: string; provider: string; cost_usd: string; counted_usd: string }[];
}

export interface ReportSums {
  cost_usd: string;
  calls: number;
  errors: number;
  tokens: number;
  unpriced_calls: number;
}

export interface ReportMover {
  name: string;
  cost_usd: string;
  before_usd: string;
}

export interface Report {
  period: "day" | "week" | "month";
  first: string;
  last: string;
  before_first: string;
  total: ReportSums;
  before: ReportSums;
  movers: { by: string; whole_from: string | null; movers: ReportMover[] }[];
  budgets: { name: string; spent_usd: string; amount_usd: string; used_percent: string; forecast_usd: string | null }[];
  unpriced: { provider: string; model: string; calls: number }[];
  closings: { vendor: string; matched: number; differs: number; open: number; difference_usd: string; parts: string[] }[];
}

/** A vendor's day as it stands. */
export interface Closing {
  number: number;
  vendor: string;
  day: string;
  state: "matched" | "differs" | "open";
  /** Why the day opened. */
  cause: string | null;
  calls: number;
  recorded_usd: string;
  billed_usd: string;
  residues: { kind: string; model: string; workspace: string; difference_usd: string; note: string }[];
  at: string;
}

export interface Closings {
  closings: Closing[];
  fetches: { vendor: string; error: string }[];
}

/** Latencies of a model's calls. */
export interface Latency {
  provider: string;
  model: string;
  calls: number;
  p50_ms: number | null;
  p95_ms: number | null;
}

/** A sum, and the range in which it lies once all of its calls are priced. */
export interface Bounds {
  exact: boolean;
  cost_usd: string;
  low_usd: string;
  /** Null if the most is not known. Incomplete streams are not in it. */
  high_usd: string | null;
  /** Whether single calls were read, which have incomplete streams. */
  log_is_read: boolean;
  reasons: BoundsReason[];
  reasons_left_off: number;
}

export interface BoundsReason {
  reason: "unpriced" | "incomplete";
  provider: string;
  model: string;
  calls: number;
  low_usd: string;
  high_usd: string | null;
  low_model: string | null;
  high_model: string | null;
  note: string | null;
}
