//! The call log's days, counted by a dimension that was added: one day a transaction, backwards.

use chrono::NaiveDate;
use serde::Serialize;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::DimensionError;
use crate::retry::{may_pass, persistently};
use crate::rollups::{DIMENSIONS, ZONE};
use tallyd_base::failpoint;
use tallyd_model::rollup::guard::OTHER;

/// Locks out the writers of calls, in their own lock order. The wait for running ones is short, because new ones queue behind it.
pub(super) const HOLD: &str = "SET LOCAL lock_timeout = '2s'; \
    LOCK TABLE public.ingest_watermark, public.api_usage_log, public.tallyd_dimensions IN SHARE ROW EXCLUSIVE MODE; \
    SET LOCAL lock_timeout = 0";

/// The result of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DayCounted {
    /// The dimension.
    pub name: String,
    /// The day that counts now. None: the call log has no earlier one, so the dimension is whole.
    pub day: Option<NaiveDate>,
    /// Rows of sums that the day has.
    pub rows: u64,
    /// Its calls whose value counts as `(other)`.
    pub other_calls: u64,
}

/// Counts one more day of the dimension that was added first and is not whole yet. None if all are whole.
///
/// # Errors
/// [`DimensionError`]; the day is not counted then, and the same call goes on.
pub async fn count_day(client: &Client, max_values: usize) -> Result<Option<DayCounted>, DimensionError> {
    let pending = "SELECT FROM public.tallyd_dimensions WHERE counted_from > '-infinity' LIMIT 1";
    if client.query_typed(pending, &[]).await?.is_empty() {
        return Ok(None);
    }
    let passes = |error: &DimensionError| matches!(error, DimensionError::Database(error) if may_pass(error));
    persistently(client, passes, || step(client, max_values)).await?.ok_or(DimensionError::Busy)
}

async fn step(client: &Client, max_values: usize) -> Result<Option<DayCounted>, DimensionError> {
    client.batch_execute(HOLD).await?;
    let sql = "SELECT d.name, d.place, (SELECT max(c.day) FROM public.daily_api_costs AS c WHERE c.day < d.counted_from) \
        FROM public.tallyd_dimensions AS d WHERE d.counted_from > '-infinity' ORDER BY d.added_at, d.name LIMIT 1";
    let rows = client.query_typed(sql, &[]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let name: String = row.get(0);
    let Some(day) = row.get(2) else {
        finish(client, &name).await?;
        return Ok(Some(DayCounted { name, day: None, rows: 0, other_calls: 0 }));
    };
    let day = Day::of(client, name, row.get(1), day).await?;
    let other_calls = day.bound(client, max_values).await?;
    let rows = day.count(client).await?;
    failpoint::hit("dimensions.counted");
    Ok(Some(DayCounted { name: day.name, day: Some(day.day), rows, other_calls }))
}

/// No earlier day is in the call log. Days that had left it have no sums of the dimension.
async fn finish(client: &Client, name: &str) -> Result<(), tokio_postgres::Error> {
    let sql = "UPDATE public.tallyd_dimensions SET counted_from = '-infinity', whole_from = coalesce(( \
            SELECT max(c.day) + 1 FROM public.tallyd_dropped_costs AS c WHERE NOT EXISTS ( \
                SELECT FROM public.tallyd_dropped_dimension_costs AS x WHERE x.dimension = $1 AND x.day = c.day)), '-infinity') \
        WHERE name = $1";
    client.execute_typed(sql, &[(&name, Type::TEXT)]).await.map(drop)
}

/// A day that is to be counted.
struct Day {
    name: String,
    /// The dimension's bit of `rollup_other`.
    bit: i16,
    day: NaiveDate,
    /// The condition of its calls. Of the last day: also of later ones, since clocks are ahead of each other.
    calls: String,
}

impl Day {
    async fn of(client: &Client, name: String, place: i16, day: NaiveDate) -> Result<Self, tokio_postgres::Error> {
        let sql = format!(
            "SELECT format('occurred_at >= %L::timestamptz AND occurred_at < %L::timestamptz', $1::timestamp AT TIME ZONE {ZONE}, \
                 CASE WHEN isfinite(counted_from) THEN counted_from::timestamp AT TIME ZONE {ZONE} ELSE 'infinity' END) \
             FROM public.tallyd_dimensions WHERE name = $2"
        );
        let rows = client.query_typed(&sql, &[(&day, Type::DATE), (&name, Type::TEXT)]).await?;
        let calls = rows.first().map_or_else(|| "false".to_owned(), |row| row.get(0));
        Ok(Self { name, bit: 1 << place, day, calls })
    }

    /// Gives the bit to the calls whose value has no name of its own, and takes it from others. Returns how many have it.
    async fn bound(&self, client: &Client, max_values: usize) -> Result<u64, tokio_postgres::Error> {
        let Self { calls, .. } = self;
        let sql = format!(
            "SELECT value, calls, has_bit FROM (SELECT coalesce(tags ->> $1, '') AS value, count(*) AS calls, \
                 bool_or(rollup_other & $2 <> 0) AS has_bit FROM public.api_usage_log WHERE {calls} GROUP BY 1) AS v \
             ORDER BY value IN ('', '{OTHER}') DESC, calls DESC, value COLLATE \"C\""
        );
        let values: [(&(dyn ToSql + Sync), Type); 2] = [(&self.name, Type::TEXT), (&self.bit, Type::INT2)];
        let found = client.query_typed(&sql, &values).await?;
        let unnamed = found.iter().filter(|row| ["", OTHER].contains(&row.get::<_, &str>(0))).count();
        let (told, other) = found.split_at(found.len().min(max_values + unnamed));
        if told.iter().any(|row| row.get(2)) || !other.is_empty() {
            let told: Vec<&str> = told.iter().map(|row| row.get(0)).collect();
            let is_other = "(coalesce(tags ->> $1, '') <> ALL ($3))";
            let update = format!(
                "UPDATE public.api_usage_log SET rollup_other = CASE WHEN {is_other} THEN rollup_other | $2 ELSE rollup_other & ~$2 END \
                 WHERE {calls} AND (rollup_other & $2 <> 0) <> {is_other}"
            );
            let [name, bit] = values;
            client.execute_typed(&update, &[name, bit, (&told as &(dyn ToSql + Sync), Type::TEXT_ARRAY)]).await?;
        }
        Ok(other.iter().map(|row| row.get::<_, i64>(1).unsigned_abs()).sum())
    }

    /// Counts the day from now on, and writes its sums.
    async fn count(&self, client: &Client) -> Result<u64, tokio_postgres::Error> {
        let sql = "UPDATE public.tallyd_dimensions SET counted_from = $1 WHERE name = $2";
        client.execute_typed(sql, &[(&self.day, Type::DATE), (&self.name, Type::TEXT)]).await?;
        let calls = format!("(SELECT * FROM public.api_usage_log WHERE {})", self.calls);
        let sums = DIMENSIONS.select_from(&calls).replace("$1", ZONE);
        let source = format!("SELECT * FROM ({sums}) AS s WHERE s.dimension = $1");
        let values = [(&self.name as &(dyn ToSql + Sync), Type::TEXT)];
        client.execute_typed(&DIMENSIONS.add_to(DIMENSIONS.table, &source), &values).await
    }
}
