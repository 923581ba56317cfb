//! Prepares a batch before it is loaded, beside its partitions ([`super::partitions`]): reads the names that its days
//! have in the rollups. The days are found from the chunks' earliest and latest times, and by reading a chunk only if
//! those differ.

use std::borrow::Cow;
use std::collections::BTreeSet;

use chrono::NaiveDate;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::FlushError;
use tallyd_model::rollup::day::Days;
use tallyd_model::rollup::guard::{DayNames, KeyGuard};
use tallyd_model::tags::APP;
use tallyd_wal::WalError;
use tallyd_wal::chunk::{Entry, PayloadReader};
use tallyd_wal::recent::StoredChunk;
use tallyd_wal::wal::Wal;

/// Gives the guard the names that the chunks' days have in the rollups.
///
/// # Errors
/// PostgreSQL's.
pub async fn learn_days(
    client: &Client,
    guard: &KeyGuard,
    days: &Days,
    wal: Option<&Wal>,
    chunks: &[impl AsRef<StoredChunk>],
) -> Result<(), FlushError> {
    let mut days = days.clone();
    let mut needed = BTreeSet::new();
    for chunk in chunks {
        each_extreme(wal, chunk.as_ref(), |us| days.of(us), &mut needed)?;
    }
    for day in guard.unknown(needed.into_iter()) {
        let mut names = DayNames::default();
        let sql = "SELECT DISTINCT model, endpoint FROM public.daily_api_costs WHERE day = $1";
        for row in client.query_typed(sql, &[(&day, Type::DATE)]).await? {
            names.models.insert(row.get(0));
            names.endpoints.insert(row.get(1));
        }
        let sql = "SELECT DISTINCT dimension, value FROM public.daily_dimension_costs WHERE day = $1 AND value <> ''";
        for row in client.query_typed(sql, &[(&day, Type::DATE)]).await? {
            match row.get(0) {
                APP => names.apps.insert(row.get(1)),
                dimension => names.values.entry(dimension.to_owned()).or_default().insert(row.get(1)),
            };
        }
        // Names with a budget get a place before the day's first call, so that earlier names cannot hide their costs.
        let sql = "SELECT DISTINCT s.key, s.value FROM public.api_budgets AS b, jsonb_each_text(b.scope) AS s \
            WHERE s.key IN ('app', 'model') OR s.key LIKE 'tag:%'";
        for row in client.query_typed(sql, &[]).await? {
            let (dimension, name): (&str, &str) = (row.get(0), row.get(1));
            let kind = match dimension.strip_prefix("tag:") {
                None if dimension == "model" => &mut names.models,
                None | Some(APP) => &mut names.apps,
                Some(tag) => names.values.entry(tag.to_owned()).or_default(),
            };
            kind.insert(name.to_owned());
        }
        names.models.remove("");
        names.endpoints.remove("");
        guard.learn(day, names);
    }
    Ok(())
}

/// Collects the periods of a chunk's calls.
fn each_extreme(
    wal: Option<&Wal>,
    chunk: &StoredChunk,
    mut period: impl FnMut(i64) -> NaiveDate,
    periods: &mut BTreeSet<NaiveDate>,
) -> Result<(), FlushError> {
    if chunk.records == 0 {
        return Ok(());
    }
    let (first, last) = (period(chunk.min_us), period(chunk.max_us));
    periods.extend([first, last]);
    if first != last {
        for entry in PayloadReader::new(&payload(wal, chunk)?) {
            if let Entry::Call(call) = entry? {
                periods.insert(period(call.occurred_at_us));
            }
        }
    }
    Ok(())
}

/// A chunk's entries; without a WAL only those of chunks in memory.
pub(crate) fn payload<'c>(wal: Option<&Wal>, chunk: &'c StoredChunk) -> Result<Cow<'c, [u8]>, WalError> {
    match (chunk.payload.held(), wal) {
        (Some(bytes), _) => Ok(Cow::Borrowed(bytes)),
        (None, Some(wal)) => wal.payload(chunk),
        (None, None) => Err(WalError::Unreadable { key: chunk.first_key }),
    }
}
