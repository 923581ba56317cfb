//! The measures of a rollup, summed.

use serde::Serialize;
use tokio_postgres::Row;
use utoipa::ToSchema;

use crate::whole::Whole;
use tallyd_model::pricing::Usd;

/// Sums of calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Sums {
    /// Calls.
    pub calls: Whole,
    /// Those whose status was 400 or above.
    pub errors: Whole,
    /// Input tokens, cache excluded.
    pub input_tokens: Whole,
    /// Output tokens.
    pub output_tokens: Whole,
    /// Tokens read from a cache.
    pub cache_read_tokens: Whole,
    /// Tokens written to a cache for five minutes.
    pub cache_write_5m_tokens: Whole,
    /// Tokens written to a cache for an hour.
    pub cache_write_1h_tokens: Whole,
    /// Billable requests.
    pub requests: Whole,
    /// Exact cost of the priced calls in USD, decimal text.
    #[schema(value_type = String, example = "12.345")]
    pub cost_usd: Usd,
    /// Unpriced calls; they are not in `cost_usd`.
    pub unpriced_calls: Whole,
}

/// Columns of [`Sums`].
pub const COLUMNS: usize = 10;

/// The sums of a rollup's rows. Sums of counts are `numeric`, see [`Whole`]. A cost keeps 18 decimals: the daemon never
/// writes more, SQL callers may.
pub const OF_ROLLUP: &str = "coalesce(sum(calls), 0), coalesce(sum(errors), 0), \
    coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0), \
    coalesce(sum(cache_read_tokens), 0), coalesce(sum(cache_write_5m_tokens), 0), \
    coalesce(sum(cache_write_1h_tokens), 0), coalesce(sum(requests), 0), \
    round(coalesce(sum(cost_usd), 0), 18), coalesce(sum(unpriced_calls), 0)";

/// The values of one rollup row.
pub const OF_ROW: &str = "calls, errors, input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens, \
    cache_write_1h_tokens, requests, round(cost_usd, 18), unpriced_calls";

/// The same sums over the call log's rows.
pub const OF_LOG: &str = "count(*), count(*) FILTER (WHERE status >= 400), coalesce(sum(input_tokens), 0), \
    coalesce(sum(output_tokens), 0), coalesce(sum(cache_read_tokens), 0), \
    coalesce(sum(cache_write_5m_tokens), 0), coalesce(sum(cache_write_1h_tokens), 0), \
    coalesce(sum(requests), 0), round(coalesce(sum(cost_usd), 0), 18), \
    count(*) FILTER (WHERE cost_usd IS NULL)";

impl Sums {
    /// Reads them from the column `at` on.
    ///
    /// # Errors
    /// PostgreSQL's, if a sum does not fit.
    pub fn read(row: &Row, at: usize) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            calls: row.try_get(at)?,
            errors: row.try_get(at + 1)?,
            input_tokens: row.try_get(at + 2)?,
            output_tokens: row.try_get(at + 3)?,
            cache_read_tokens: row.try_get(at + 4)?,
            cache_write_5m_tokens: row.try_get(at + 5)?,
            cache_write_1h_tokens: row.try_get(at + 6)?,
            requests: row.try_get(at + 7)?,
            cost_usd: row.try_get(at + 8)?,
            unpriced_calls: row.try_get(at + 9)?,
        })
    }
}
