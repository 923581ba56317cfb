//! The three rollups as sums over the log, in SQL: what reconciling compares, and what a rebuild writes.
//!
//! One list of measures and one of tables, so that the two cannot come to differ. Each expression is over
//! `public.api_usage_log AS l`; `$1` is the reporting time zone.

/// A measure, and the sum that it is.
pub(super) const MEASURES: [(&str, &str); 10] = [
    ("calls", "count(*)"),
    ("errors", "count(*) FILTER (WHERE l.status >= 400)"),
    ("input_tokens", "sum(l.input_tokens)"),
    ("output_tokens", "sum(l.output_tokens)"),
    ("cache_read_tokens", "sum(l.cache_read_tokens)"),
    ("cache_write_5m_tokens", "sum(l.cache_write_5m_tokens)"),
    ("cache_write_1h_tokens", "sum(l.cache_write_1h_tokens)"),
    ("requests", "sum(l.requests)"),
    ("cost_usd", "coalesce(sum(l.cost_usd), 0)"),
    ("unpriced_calls", "count(*) FILTER (WHERE l.cost_usd IS NULL)"),
];

/// What only the lifetime totals have.
const CALL_TIMES: [(&str, &str); 2] = [("first_call_at", "min(l.occurred_at)"), ("last_call_at", "max(l.occurred_at)")];

const DAY: (&str, &str) = ("day", "(l.occurred_at AT TIME ZONE $1)::date");
const PROVIDER: (&str, &str) = ("provider", "l.provider");
const USER: (&str, &str) = ("user_id", "l.user_id");
const MODEL: (&str, &str) = ("model", "CASE WHEN l.rollup_other & 1 <> 0 THEN '(other)' ELSE l.model END");
const ENDPOINT: (&str, &str) = ("endpoint", "CASE WHEN l.rollup_other & 2 <> 0 THEN '(other)' ELSE l.endpoint END");

/// A rollup.
#[derive(Debug)]
pub(super) struct Rollup {
    /// Its table, in the schema `public`.
    pub(super) table: &'static str,
    /// The columns of its key, and what they are of a row of the log.
    pub(super) keys: &'static [(&'static str, &'static str)],
    /// Its other columns.
    pub(super) sums: &'static [&'static [(&'static str, &'static str)]],
}

/// The rollups, in the order in which every writer takes them.
pub(super) const ROLLUPS: [Rollup; 3] = [
    Rollup { table: "daily_api_costs", keys: &[DAY, PROVIDER, MODEL, ENDPOINT], sums: &[&MEASURES] },
    Rollup { table: "daily_user_api_costs", keys: &[DAY, USER, PROVIDER], sums: &[&MEASURES] },
    Rollup { table: "user_api_totals", keys: &[USER, PROVIDER], sums: &[&MEASURES, &CALL_TIMES] },
];

impl Rollup {
    /// All columns but the key's.
    pub(super) fn columns(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.sums.iter().flat_map(|sums| sums.iter().copied())
    }

    /// `SELECT` of what the table should hold, in the order key, columns.
    pub(super) fn select_from_log(&self) -> String {
        let named = |(name, sum): (&str, &str)| format!("{sum} AS {name}");
        let selected: Vec<String> = self.keys.iter().copied().chain(self.columns()).map(named).collect();
        let positions: Vec<String> = (1..=self.keys.len()).map(|position| position.to_string()).collect();
        format!("SELECT {} FROM public.api_usage_log AS l GROUP BY {}", selected.join(", "), positions.join(", "))
    }

    /// The names of all columns that [`Rollup::select_from_log`] selects.
    pub(super) fn column_list(&self) -> String {
        let names: Vec<&str> = self.keys.iter().copied().chain(self.columns()).map(|(name, _)| name).collect();
        names.join(", ")
    }
}
