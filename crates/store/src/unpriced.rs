//! Unpriced calls by model, from the rollups, so that the query is cheap.

use chrono::{NaiveDate, NaiveTime};
use serde::Serialize;
use tokio_postgres::Client;
use utoipa::ToSchema;

use tallyd_model::pricing::{Catalog, STANDARD_TIER, normalise_provider};

/// Largest number of models in the list.
pub const MAX_MODELS: i64 = 200;

/// A day and 12 hours, in microseconds: at the westernmost offset a day ends 12 hours later.
const DAY_END_US: i64 = 36 * 3_600_000_000;

/// One model's unpriced calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct UnpricedModel {
    /// The provider.
    pub provider: String,
    /// The model; `(other)` for those past the bound of distinct models a day.
    pub model: String,
    /// Unpriced calls.
    pub calls: i64,
    /// The first day with one, in the reporting time zone.
    pub first_day: NaiveDate,
    /// The last day with one.
    pub last_day: NaiveDate,
    /// Whether the catalog has a standard price of the model for the last day: `tallyd reprice` would apply it.
    pub priceable: bool,
}

/// The models with unpriced calls, those with the most calls first, [`MAX_MODELS`] at most.
///
/// # Errors
/// PostgreSQL's.
pub async fn unpriced(client: &Client, catalog: &Catalog) -> Result<Vec<UnpricedModel>, tokio_postgres::Error> {
    let sql = format!(
        "SELECT provider, model, sum(unpriced_calls)::int8, min(day), max(day) FROM public.daily_api_costs \
         WHERE unpriced_calls > 0 GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT {MAX_MODELS}"
    );
    let rows = client.query_typed(&sql, &[]).await?;
    let model = |row: &tokio_postgres::Row| {
        let (provider, model): (String, String) = (row.get(0), row.get(1));
        let last_day: NaiveDate = row.get(4);
        // Calls are priced by their time. In the westernmost zone a day ends 12 hours after UTC's.
        let end_us = last_day.and_time(NaiveTime::MIN).and_utc().timestamp_micros() + DAY_END_US;
        let priceable = catalog.price_at(&normalise_provider(&provider), &model, STANDARD_TIER, end_us).is_some();
        UnpricedModel { provider, model, calls: row.get(2), first_day: row.get(3), last_day, priceable }
    };
    Ok(rows.iter().map(model).collect())
}
