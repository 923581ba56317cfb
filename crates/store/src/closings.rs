//! Closed vendor-days: the hash-chained record `tallyd_vendor_closings`, and the looks at the vendors' reports.
//!
//! *One looks.* A daemon claims a vendor's next look by moving `tried_at` of its row in `tallyd_vendor_fetches`. A claim that
//! was lost with its daemon is due again after the interval.
//!
//! *One chain.* Entries are added under [`Lock::Closings`], so that each continues the last one. [`add`] leaves an entry
//! out if the day's last one is another than the caller has seen: two looks at one time close a day once.
//!
//! *Changes.* An entry keeps the day's sums of `hourly_api_costs`, which change with each call and each cost, and which
//! outlive the call log. Only days whose sums differ are read from the call log again.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};
use utoipa::ToSchema;

use crate::locks::Lock;
use crate::retry::in_transaction;
use tallyd_model::closing::{Closed, Closing, ClosingCause, ClosingState};

/// Entries of a page of [`page`].
pub const PAGE: usize = 1_000;

/// Why the record cannot be read or added to.
#[derive(Debug, thiserror::Error)]
pub enum ClosingsError {
    /// PostgreSQL failed.
    #[error("{}", crate::describe(.0))]
    Database(#[from] tokio_postgres::Error),
    /// A stored entry cannot be read: it was not written by this program.
    #[error("entry {number} of tallyd_vendor_closings cannot be read: {reason}")]
    Stored {
        /// The entry.
        number: i64,
        /// The fault.
        reason: String,
    },
}

/// How the looks at a vendor's reports go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FetchState {
    /// The vendor.
    pub vendor: String,
    /// The last look; null if there was none.
    pub tried_at: Option<DateTime<Utc>>,
    /// The last one that read all reports; null if none has.
    pub read_at: Option<DateTime<Utc>>,
    /// Why the last look failed; empty if it did not.
    pub error: String,
}

/// Claims a vendor's next look if it is due: true for one of the database's daemons.
///
/// # Errors
/// PostgreSQL's.
pub async fn claim(client: &Client, vendor: &str, interval: Duration) -> Result<bool, tokio_postgres::Error> {
    let seconds = interval.as_secs_f64();
    let sql = "UPDATE public.tallyd_vendor_fetches SET tried_at = now() WHERE vendor = $1 \
         AND tried_at <= now() - make_interval(secs => $2) AND not_before <= now() RETURNING 1";
    Ok(!client.query_typed(sql, &[(&vendor, Type::TEXT), (&seconds, Type::FLOAT8)]).await?.is_empty())
}

/// Notes a look that read all reports.
///
/// # Errors
/// PostgreSQL's.
pub async fn succeeded(client: &Client, vendor: &str) -> Result<(), tokio_postgres::Error> {
    let sql = "UPDATE public.tallyd_vendor_fetches SET tried_at = now(), read_at = now(), error = '' WHERE vendor = $1";
    client.query_typed(sql, &[(&vendor, Type::TEXT)]).await.map(drop)
}

/// Notes a look that failed. The next one is due after `pause`, without waiting for the interval.
///
/// # Errors
/// PostgreSQL's.
pub async fn failed(client: &Client, vendor: &str, error: &str, pause: Duration) -> Result<(), tokio_postgres::Error> {
    let seconds = pause.as_secs_f64();
    let sql = "UPDATE public.tallyd_vendor_fetches SET tried_at = '-infinity', error = $2, \
         not_before = now() + make_interval(secs => $3) WHERE vendor = $1";
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&vendor, Type::TEXT), (&error, Type::TEXT), (&seconds, Type::FLOAT8)];
    client.query_typed(sql, &parameters).await.map(drop)
}

/// The looks, by vendor.
///
/// # Errors
/// PostgreSQL's.
pub async fn fetches(client: &Client) -> Result<Vec<FetchState>, tokio_postgres::Error> {
    let sql = "SELECT vendor, nullif(tried_at, '-infinity'), read_at, error FROM public.tallyd_vendor_fetches ORDER BY vendor";
    let read =
        |row: &Row| FetchState { vendor: row.get(0), tried_at: row.get(1), read_at: row.get(2), error: row.get(3) };
    Ok(client.query_typed(sql, &[]).await?.iter().map(read).collect())
}

/// The first day, in UTC, with a recorded call.
///
/// # Errors
/// PostgreSQL's.
pub async fn first_day(client: &Client) -> Result<Option<NaiveDate>, tokio_postgres::Error> {
    let sql = "SELECT (min(hour) AT TIME ZONE 'UTC')::date FROM public.hourly_api_costs";
    Ok(client.query_typed(sql, &[]).await?.first().and_then(|row| row.get(0)))
}

/// A provider's sums of each UTC day, as text that is equal only if they are. An hour of a reporting zone that reaches
/// into two UTC days counts in both.
///
/// # Errors
/// PostgreSQL's.
pub async fn sums(
    client: &Client,
    provider: &str,
    (from, to): (NaiveDate, NaiveDate),
) -> Result<BTreeMap<NaiveDate, String>, tokio_postgres::Error> {
    let sql = "SELECT d.at::date, concat_ws(' ', coalesce(sum(h.calls), 0), coalesce(sum(h.unpriced_calls), 0), \
             trim_scale(coalesce(sum(h.cost_usd), 0)), coalesce(sum(h.input_tokens), 0), coalesce(sum(h.output_tokens), 0), \
             coalesce(sum(h.cache_read_tokens), 0), coalesce(sum(h.cache_write_5m_tokens), 0), \
             coalesce(sum(h.cache_write_1h_tokens), 0)) \
         FROM generate_series($1::date::timestamp, $2::date::timestamp, interval '1 day') AS d (at) \
         LEFT JOIN public.hourly_api_costs AS h ON h.provider = $3 \
             AND h.hour > d.at AT TIME ZONE 'UTC' - interval '1 hour' AND h.hour < d.at AT TIME ZONE 'UTC' + interval '1 day' \
         GROUP BY 1";
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&from, Type::DATE), (&to, Type::DATE), (&provider, Type::TEXT)];
    Ok(client.query_typed(sql, &parameters).await?.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// The days of which calls were dropped from the call log: it no longer has all of them.
///
/// # Errors
/// PostgreSQL's.
pub async fn dropped_days(
    client: &Client,
    (from, to): (NaiveDate, NaiveDate),
) -> Result<Vec<NaiveDate>, tokio_postgres::Error> {
    let sql = "SELECT d.at::date FROM generate_series($1::date::timestamp, $2::date::timestamp, interval '1 day') AS d (at) \
         WHERE EXISTS (SELECT FROM public.tallyd_dropped_partitions AS p \
             WHERE p.from_at < (d.at + interval '1 day') AT TIME ZONE 'UTC' AND p.to_at > d.at AT TIME ZONE 'UTC')";
    let rows = client.query_typed(sql, &[(&from, Type::DATE), (&to, Type::DATE)]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

const COLUMNS: &str = "number, vendor, day, state, cause, calls, unpriced_calls, recorded_usd, billed_usd, residues, bill_sha256, \
     price_ids, sums, at, previous, hash";

fn read(row: &Row) -> Result<Closing, ClosingsError> {
    let number = row.get(0);
    let stored = |reason: String| ClosingsError::Stored { number, reason };
    let (state, cause) = (row.get::<_, &str>(3), row.get::<_, Option<&str>>(4));
    let closed = Closed {
        vendor: row.get(1),
        day: row.get(2),
        state: ClosingState::parse(state).ok_or_else(|| stored(format!("state {state:?}")))?,
        cause: match cause {
            Some(name) => Some(ClosingCause::parse(name).ok_or_else(|| stored(format!("cause {name:?}")))?),
            None => None,
        },
        calls: row.get(5),
        unpriced_calls: row.get(6),
        recorded_usd: row.try_get(7)?,
        billed_usd: row.try_get(8)?,
        residues: serde_json::from_value(row.get(9)).map_err(|error| stored(error.to_string()))?,
        bill_sha256: row.get(10),
        price_ids: row.get(11),
        sums: row.get(12),
        at: row.get(13),
    };
    Ok(Closing { number, closed, previous: row.get(14), hash: row.get(15) })
}

/// The last entry of each day of a vendor, by day.
///
/// # Errors
/// [`ClosingsError`].
pub async fn latest(
    client: &Client,
    vendor: &str,
    (from, to): (NaiveDate, NaiveDate),
) -> Result<BTreeMap<NaiveDate, Closing>, ClosingsError> {
    let sql = format!(
        "SELECT DISTINCT ON (day) {COLUMNS} FROM public.tallyd_vendor_closings WHERE vendor = $1 AND day BETWEEN $2 AND $3 \
         ORDER BY day, number DESC"
    );
    let parameters: [(&(dyn ToSql + Sync), Type); 3] = [(&vendor, Type::TEXT), (&from, Type::DATE), (&to, Type::DATE)];
    let rows = client.query_typed(&sql, &parameters).await?;
    rows.iter().map(|row| read(row).map(|entry| (entry.closed.day, entry))).collect()
}

/// All entries of a vendor's day, in their order.
///
/// # Errors
/// [`ClosingsError`].
pub async fn of_day(client: &Client, vendor: &str, day: NaiveDate) -> Result<Vec<Closing>, ClosingsError> {
    let sql =
        format!("SELECT {COLUMNS} FROM public.tallyd_vendor_closings WHERE vendor = $1 AND day = $2 ORDER BY number");
    let rows = client.query_typed(&sql, &[(&vendor, Type::TEXT), (&day, Type::DATE)]).await?;
    rows.iter().map(read).collect()
}

/// The next [`PAGE`] entries after a number, in their order.
///
/// # Errors
/// [`ClosingsError`].
pub async fn page(client: &Client, after: i64) -> Result<Vec<Closing>, ClosingsError> {
    let sql =
        format!("SELECT {COLUMNS} FROM public.tallyd_vendor_closings WHERE number > $1 ORDER BY number LIMIT {PAGE}");
    client.query_typed(&sql, &[(&after, Type::INT8)]).await?.iter().map(read).collect()
}

/// Adds entries of one vendor's day, if its last entry is still number `seen` (0 for none). Returns the added ones.
///
/// # Errors
/// [`ClosingsError`]; nothing has changed then.
pub async fn add(client: &Client, seen: i64, entries: Vec<Closed>) -> Result<Vec<Closing>, ClosingsError> {
    let Some(first) = entries.first() else { return Ok(Vec::new()) };
    let (vendor, day) = (first.vendor.clone(), first.day);
    in_transaction(client, async {
        Lock::Closings.wait(client).await?;
        let sql = "SELECT coalesce(max(number), 0) FROM public.tallyd_vendor_closings WHERE vendor = $1 AND day = $2";
        let rows = client.query_typed(sql, &[(&vendor, Type::TEXT), (&day, Type::DATE)]).await?;
        if rows.first().map_or(0, |row| row.get::<_, i64>(0)) != seen {
            return Ok(Vec::new());
        }
        let sql = format!("SELECT {COLUMNS} FROM public.tallyd_vendor_closings ORDER BY number DESC LIMIT 1");
        let mut last = client.query_typed(&sql, &[]).await?.first().map(read).transpose()?;
        let mut added = Vec::new();
        for closed in entries {
            let entry = Closing::after(last.as_ref(), closed);
            insert(client, &entry).await?;
            added.push(entry.clone());
            last = Some(entry);
        }
        Ok(added)
    })
    .await
}

async fn insert(client: &Client, entry: &Closing) -> Result<(), tokio_postgres::Error> {
    let sql = format!(
        "INSERT INTO public.tallyd_vendor_closings ({COLUMNS}) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)"
    );
    let closed = &entry.closed;
    let residues = serde_json::json!(closed.residues);
    let (state, cause) = (closed.state.name(), closed.cause.map(ClosingCause::name));
    let parameters: [(&(dyn ToSql + Sync), Type); 16] = [
        (&entry.number, Type::INT8),
        (&closed.vendor, Type::TEXT),
        (&closed.day, Type::DATE),
        (&state, Type::TEXT),
        (&cause, Type::TEXT),
        (&closed.calls, Type::INT8),
        (&closed.unpriced_calls, Type::INT8),
        (&closed.recorded_usd, Type::NUMERIC),
        (&closed.billed_usd, Type::NUMERIC),
        (&residues, Type::JSONB),
        (&closed.bill_sha256, Type::TEXT),
        (&closed.price_ids, Type::INT4_ARRAY),
        (&closed.sums, Type::TEXT),
        (&closed.at, Type::TIMESTAMPTZ),
        (&entry.previous, Type::TEXT),
        (&entry.hash, Type::TEXT),
    ];
    client.query_typed(&sql, &parameters).await.map(drop)
}
