//! The effect of repricing, per day and model.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use futures_util::TryStreamExt;
use serde::Serialize;
use tallyd_model::zone::Tz;
use tokio_postgres::Client;
use utoipa::ToSchema;

use super::row::{Decision, LogRow, instant, select, wanted};
use super::{RepriceError, RepriceOptions};
use tallyd_model::pricing::{Catalog, Usd};
use tallyd_model::rollup::day::Days;
use tallyd_model::rollup::dimensions::Dimensions;

/// The change of one model on one day.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DayDifference {
    /// In the reporting time zone.
    pub day: NaiveDate,
    /// The provider.
    pub provider: String,
    /// The model, as it stands in the call log.
    pub model: String,
    /// Calls that would change.
    pub calls: u64,
    /// Of those, the ones that have no price now.
    pub newly_priced: u64,
    /// Their present cost.
    #[schema(value_type = String, example = "1.5")]
    pub old_usd: Usd,
    /// Their cost after the change.
    #[schema(value_type = String, example = "1.2")]
    pub new_usd: Usd,
}

/// The changes.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct Preview {
    /// Calls that were looked at.
    pub calls: u64,
    /// Calls that would change.
    pub changed: u64,
    /// Of those, the ones that have no price now.
    pub newly_priced: u64,
    /// Calls that have no price today either.
    pub unpriceable: u64,
    /// Calls whose stored cost has more than 18 decimals; they are left alone.
    pub inexact: u64,
    /// Present cost of the changed calls.
    #[schema(value_type = String, example = "1.5")]
    pub old_usd: Usd,
    /// Their cost after the change.
    #[schema(value_type = String, example = "1.2")]
    pub new_usd: Usd,
    /// By day and model.
    pub days: Vec<DayDifference>,
}

/// Reads the calls, and returns the changes. Changes nothing.
///
/// # Errors
/// [`RepriceError`].
pub async fn preview(client: &Client, catalog: &Catalog, options: &RepriceOptions) -> Result<Preview, RepriceError> {
    let mut day_of = Days::new(zone(client).await?);
    let sql = select(&wanted(options, options.from_us, options.to_us), &Dimensions::default());
    let rows = client.query_typed_raw(&sql, std::iter::empty::<(&str, tokio_postgres::types::Type)>()).await?;
    let mut rows = std::pin::pin!(rows);
    let mut preview = Preview::default();
    let mut days: BTreeMap<(NaiveDate, String, String), DayDifference> = BTreeMap::new();
    while let Some(row) = rows.try_next().await? {
        let row = LogRow::read(&row);
        preview.calls += 1;
        match row.decide(catalog) {
            Decision::Keep => {}
            Decision::Unpriceable => preview.unpriceable += 1,
            Decision::Inexact => preview.inexact += 1,
            Decision::Change { old, new, .. } => {
                let newly = u64::from(old.is_none());
                let old = old.unwrap_or_default();
                let day = day_of.of(row.occurred_at_us);
                let entry = days.entry((day, row.provider.clone(), row.model.clone())).or_insert(DayDifference {
                    day,
                    provider: row.provider,
                    model: row.model,
                    calls: 0,
                    newly_priced: 0,
                    old_usd: Usd::ZERO,
                    new_usd: Usd::ZERO,
                });
                entry.calls += 1;
                entry.newly_priced += newly;
                entry.old_usd = sum(entry.old_usd, old);
                entry.new_usd = sum(entry.new_usd, new);
                preview.changed += 1;
                preview.newly_priced += newly;
                preview.old_usd = sum(preview.old_usd, old);
                preview.new_usd = sum(preview.new_usd, new);
            }
        }
    }
    preview.days = days.into_values().collect();
    Ok(preview)
}

/// Adds two costs; only 10^11 of the largest ones would overflow.
pub(super) fn sum(a: Usd, b: Usd) -> Usd {
    a.checked_add(b).expect("a sum of records' costs fits 10^20 USD")
}

pub(super) async fn zone(client: &Client) -> Result<Tz, RepriceError> {
    let sql = "SELECT value FROM public.tallyd_settings WHERE key = 'reporting_time_zone'";
    let rows = client.query_typed(sql, &[]).await?;
    let zone = rows.first().and_then(|row| row.get::<_, &str>(0).parse().ok());
    zone.ok_or(RepriceError::NoTimeZone)
}

/// Dropped calls of the partitions that a period overlaps.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DroppedCalls {
    /// Beginning of the first of these partitions; none: it had no lower bound.
    pub from: Option<DateTime<Utc>>,
    /// End of the last of them; none: it had no upper bound.
    pub to: Option<DateTime<Utc>>,
    /// Their calls, including those outside of the period.
    pub calls: i64,
    /// The sum of their costs in USD, as exact decimal text.
    pub cost_usd: String,
}

/// The dropped calls of a period, whose bounds are microseconds since 1970 UTC; none if nothing was dropped.
///
/// # Errors
/// PostgreSQL's.
pub async fn dropped_calls(
    client: &Client,
    from_us: i64,
    to_us: i64,
) -> Result<Option<DroppedCalls>, tokio_postgres::Error> {
    let sql = format!(
        "SELECT nullif(min(from_at), '-infinity'), nullif(max(to_at), 'infinity'), sum(calls)::int8, sum(cost_usd)::text \
         FROM public.tallyd_dropped_partitions WHERE from_at < {} AND to_at > {} HAVING sum(calls) > 0",
        instant(to_us),
        instant(from_us)
    );
    let rows = client.query_typed(&sql, &[]).await?;
    Ok(rows.first().map(|row| DroppedCalls {
        from: row.get(0),
        to: row.get(1),
        calls: row.get(2),
        cost_usd: row.get(3),
    }))
}
