// What the API answers; /api/docs describes it.

export interface Session { actor: string; role: "admin" | "read"; version: string; time_zone: string }

export interface Sums {
  calls: number; errors: number; input_tokens: number; output_tokens: number; cache_read_tokens: number;
  cache_write_5m_tokens: number; cache_write_1h_tokens: number; requests: number; cost_usd: string; unpriced_calls: number;
}
export interface RangeSums extends Sums { from: string; to: string }
export interface Estimate { until: string; spent_usd: string; expected_usd: string | null; low_usd: string | null; high_usd: string | null }
export interface Forecast {
  method: "none" | "mean" | "smoothing" | "weekly_season"; history_days: number; interval_percent: number;
  day: Estimate; month: Estimate; next_30_days: Estimate;
}
export interface ForecastAnswer extends Forecast { time_zone: string; past: { day: string; cost_usd: string }[]; ahead: Estimate[] }

export type Scope = "global" | "provider" | "model" | "user" | "app";
export type Period = "day" | "week" | "month";
export interface Budget {
  id: number; scope: Scope; scope_value: string; period: Period; amount_usd: string; warning_percent: number; alert_percents: number[];
  throttle: boolean; period_start: string; period_end: string; spent_usd: string; remaining_usd: string; unpriced_calls: number;
  status: "normal" | "warning" | "exceeded"; used_percent: string; should_throttle: boolean; forecast: Estimate | null;
}
export interface Budgets { budgets: Budget[]; should_throttle: boolean }
export interface Mover { provider: string; model: string; cost_usd: string; previous_usd: string }
export interface UnpricedModel { provider: string; model: string; calls: number; first_day: string; last_day: string; priceable: boolean }
export interface Overview extends Budgets {
  time_zone: string; today: RangeSums; month_to_date: RangeSums; previous_month_to_date: RangeSums; previous_month: RangeSums;
  forecast: Forecast; movers: Mover[]; unpriced: UnpricedModel[];
  pipeline: {
    status: "ok" | "degraded" | "failing"; unflushed_records: number; committed_since_start: number;
    oldest_unflushed_seconds: number; message: string | null;
  };
}

export type Dimension = "provider" | "model" | "endpoint" | "user" | "app";
export type CostRow = Sums & { bucket: string } & Partial<Record<Dimension, string>>;
export interface Costs { from: string; to: string; time_zone: string; bucket: string; source: string; rows: CostRow[]; next_offset: number | null }

export interface User {
  id: string; email: string | null; total_calls: number; total_claude_calls: number; total_rentcast_calls: number; errors: number;
  unpriced_calls: number; cost_usd: string; first_call_at: string | null; last_call_at: string | null;
  created_at: string | null; last_sign_in_at: string | null;
}
export interface Users { users: User[]; total: number; joined: boolean; next_offset: number | null }
export interface UserDetail extends User { days: (Sums & { day: string; provider: string })[] }

export interface Counted { count: number; definition: string }
export interface Sessions { available: boolean; sessions: { active: Counted; refreshed_24h: Counted; signed_in_24h: Counted; active_users: number } | null }

export interface UsageRecord {
  id: string; occurred_at: string; provider: string; model: string; endpoint: string; user_id: string; app: string; request_id: string;
  input_tokens: number; output_tokens: number; cache_read_tokens: number; cache_write_5m_tokens: number; cache_write_1h_tokens: number;
  requests: number; extra_units: unknown; service_tier: string; status: number; latency_ms: number | null; cost_usd: string | null;
  cost_source: string; price_id: number | null; metadata: unknown;
}
export interface Records { records: UsageRecord[]; next: string | null }

export interface DeadLetter {
  id: number; created_at: string; kind: string; code: string; message: string; field: string; producer: string;
  occurred_at: string | null; payload_format: string; payload_bytes: number; payload: string | null;
}
export interface DeadLetters { dead_letters: DeadLetter[]; next: number | null }

export interface Rates { per_million_tokens?: Record<string, string>; per_unit?: Record<string, string>; above?: unknown[] }
export interface Price {
  id: number; provider: string; model: string; service_tier: string; effective_from: string; rates: Rates; source: string;
  origin: "builtin" | "config" | "manual" | "import" | "api";
}
export interface Prices { prices: Price[]; next_offset: number | null }
export interface PricePreview {
  old_rates: Rates | null; new_rates: Rates;
  calls: {
    calls: number; changed: number; newly_priced: number; unpriceable: number; old_usd: string; new_usd: string;
    days: { day: string; provider: string; model: string; calls: number; newly_priced: number; old_usd: string; new_usd: string }[];
  };
}
