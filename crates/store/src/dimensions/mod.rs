//! Dimensions: tags whose costs are summed by day in `daily_dimension_costs`. The table `tallyd_dimensions` has them; `app` is always one.
//!
//! ## Counting backwards
//! The call log may have years of calls when a dimension is added. They are counted a day at a time, from the last day backwards, in one
//! transaction each ([`count_day`]), which sets `counted_from` to the day. So in each committed state
//!
//! ```text
//! rows of the dimension = calls of the days from counted_from on + dropped sums
//! ```
//!
//! and `tallyd reconcile` holds throughout. A process that is killed leaves whole days, and the next one goes on with the day before.
//!
//! Each transaction that writes calls also reads `counted_from` ([`counted`]). [`count_day`] runs beside none of them: it locks
//! the watermarks and the call log, as a rebuild of the rollups does. Loading waits for one day's sums at most, and records
//! wait in the WAL.
//!
//! ## Values beyond the bound
//! Each dimension has a bit of `api_usage_log.rollup_other`. Of a day that is counted afterwards, the values with the most calls keep their
//! names and the calls of others get the bit. A bit that a removed dimension has left is cleared.

mod backfill;
mod changes;

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use tokio_postgres::{Client, Error, GenericClient};

pub use backfill::{DayCounted, count_day};
pub use changes::{DimensionError, add, remove};
use tallyd_model::rollup::dimensions::{Dimension, Dimensions};

/// The dimensions that are tags, as the transaction that reads them has to count its calls. Read once the transaction keeps [`count_day`] out:
/// after the watermark has moved, or the call log is locked.
///
/// # Errors
/// PostgreSQL's.
pub(crate) async fn counted(client: &Client) -> Result<Dimensions, Error> {
    // A first day that no calendar here has.
    let sql = "SELECT name, place, greatest(counted_from, '0001-01-01') FROM public.tallyd_dimensions \
        WHERE name <> 'app' AND counted_from < 'infinity' ORDER BY name COLLATE \"C\"";
    let rows = client.query_typed(sql, &[]).await?;
    let read = |row: &tokio_postgres::Row| {
        // 0 to 14, by the table's CHECK.
        let place = row.get::<_, i16>(1).unsigned_abs().into();
        Dimension { name: row.get(0), place, counted_from: row.get(2) }
    };
    Ok(Dimensions::new(rows.iter().map(read).collect()))
}

/// A dimension as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DimensionState {
    /// The tag, or `app`.
    pub name: String,
    /// Whether all of the call log's calls count.
    pub is_whole: bool,
    /// The first day that counts while others are still to come. None: no day yet, or all.
    pub counted_from: Option<NaiveDate>,
    /// The first day whose sums are whole: calls of earlier days had left the call log before they could be counted. None: all days.
    pub whole_from: Option<NaiveDate>,
    /// Calls of the last 30 days that count under `(other)`.
    pub other_calls: i64,
    /// When it was added.
    pub added_at: DateTime<Utc>,
    /// The one that added it.
    pub actor: String,
}

impl DimensionState {
    /// The first day of which all costs are told; none if that holds for every day, or if none is counted yet.
    #[must_use]
    pub fn told_from(&self) -> Option<NaiveDate> {
        self.counted_from.max(self.whole_from)
    }
}

/// All dimensions, by name.
///
/// # Errors
/// PostgreSQL's.
pub async fn list(client: &impl GenericClient) -> Result<Vec<DimensionState>, Error> {
    let sql = "SELECT name, counted_from = '-infinity', \
            CASE WHEN isfinite(counted_from) THEN counted_from END, CASE WHEN isfinite(whole_from) THEN whole_from END, added_at, actor, \
            (SELECT coalesce(sum(c.calls), 0)::int8 FROM public.daily_dimension_costs AS c \
                WHERE c.dimension = d.name AND c.value = '(other)' AND c.day > current_date - 30) \
        FROM public.tallyd_dimensions AS d ORDER BY name COLLATE \"C\"";
    let rows = client.query_typed(sql, &[]).await?;
    let read = |row: &tokio_postgres::Row| DimensionState {
        name: row.get(0),
        is_whole: row.get(1),
        counted_from: row.get(2),
        whole_from: row.get(3),
        added_at: row.get(4),
        actor: row.get(5),
        other_calls: row.get(6),
    };
    Ok(rows.iter().map(read).collect())
}
