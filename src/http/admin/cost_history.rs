//! `GET /api/admin/cost-history`: each day's costs, newest first.

use std::collections::BTreeMap;

use axum::extract::State;
use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::SharedDaemon;
use crate::http::answer::{Failures, Json, Number, add};
use crate::http::error::ApiError;
use crate::http::parameters::{Parameters, ROLLUP_DAYS_MAX, day_range};
use tallyd_model::pricing::{Usd, family};
use tallyd_store::queries::costs::{DayRow, DayRows, history};
use tallyd_store::whole::Whole;

/// Days of an answer by default.
const DAYS: u64 = 30;

/// Either `days`, or `from` and `to`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct HistoryParameters {
    /// Number of days up to today; 30 by default.
    #[param(minimum = 1, maximum = 3660)]
    days: Option<u64>,
    /// The first day, `YYYY-MM-DD`.
    #[param(format = Date)]
    from: Option<String>,
    /// The last day, included; today if only `from` is given.
    #[param(format = Date)]
    to: Option<String>,
}

/// A day.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DayCosts {
    /// The day, in the reporting time zone.
    pub date: NaiveDate,
    /// Everything together.
    #[schema(value_type = f64)]
    pub total_cost: Number,
    /// Claude.
    #[schema(value_type = f64)]
    pub claude_cost: Number,
    /// RentCast.
    #[schema(value_type = f64)]
    pub rentcast_cost: Number,
    /// All calls.
    pub total_calls: Whole,
    /// Calls of Claude.
    pub claude_calls: Whole,
    /// Calls of RentCast.
    pub rentcast_calls: Whole,
    /// Calls with a status of 400 or above.
    pub errors: Whole,
    /// Unpriced calls: they are not in any cost.
    pub unpriced_calls: Whole,
    /// Claude's models, by family: without the date in the name.
    pub by_model: BTreeMap<String, ModelCosts>,
    /// RentCast's endpoints.
    #[serde(rename = "byRentCastEndpoint")]
    pub by_rentcast_endpoint: BTreeMap<String, CallCosts>,
    /// Every provider.
    pub by_provider: BTreeMap<String, CallCosts>,
}

/// A model's day.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ModelCosts {
    /// Calls.
    pub calls: Whole,
    /// Cost.
    #[schema(value_type = f64)]
    pub cost: Number,
    /// Input tokens, cache excluded.
    pub input_tokens: Whole,
    /// Output tokens.
    pub output_tokens: Whole,
    /// Tokens read from a cache.
    pub cache_read_tokens: Whole,
    /// Tokens written to a cache, for any time.
    pub cache_write_tokens: Whole,
}

/// Calls and their cost.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CallCosts {
    /// Calls.
    pub calls: Whole,
    /// Cost.
    #[schema(value_type = f64)]
    pub cost: Number,
}

impl CallCosts {
    fn add(&mut self, row: &DayRow<'_>) -> Result<(), ApiError> {
        self.calls += row.sums.calls;
        self.cost = Number(add(self.cost.0, row.sums.cost_usd)?);
        Ok(())
    }
}

impl DayCosts {
    #[must_use]
    pub(crate) fn empty(date: NaiveDate) -> Self {
        Self {
            date,
            total_cost: Number::default(),
            claude_cost: Number::default(),
            rentcast_cost: Number::default(),
            total_calls: Whole::default(),
            claude_calls: Whole::default(),
            rentcast_calls: Whole::default(),
            errors: Whole::default(),
            unpriced_calls: Whole::default(),
            by_model: BTreeMap::new(),
            by_rentcast_endpoint: BTreeMap::new(),
            by_provider: BTreeMap::new(),
        }
    }

    fn add(&mut self, row: &DayRow<'_>) -> Result<(), ApiError> {
        let sums = &row.sums;
        let plus = |to: &mut Number, cost: Usd| -> Result<(), ApiError> {
            *to = Number(add(to.0, cost)?);
            Ok(())
        };
        plus(&mut self.total_cost, sums.cost_usd)?;
        self.total_calls += sums.calls;
        self.errors += sums.errors;
        self.unpriced_calls += sums.unpriced_calls;
        self.by_provider.entry(row.provider.to_owned()).or_default().add(row)?;
        match row.provider {
            "claude" => {
                plus(&mut self.claude_cost, sums.cost_usd)?;
                self.claude_calls += sums.calls;
                let model = self.by_model.entry(family(row.model).to_owned()).or_default();
                plus(&mut model.cost, sums.cost_usd)?;
                model.calls += sums.calls;
                model.input_tokens += sums.input_tokens;
                model.output_tokens += sums.output_tokens;
                model.cache_read_tokens += sums.cache_read_tokens;
                model.cache_write_tokens += sums.cache_write_5m_tokens + sums.cache_write_1h_tokens;
            }
            "rentcast" => {
                plus(&mut self.rentcast_cost, sums.cost_usd)?;
                self.rentcast_calls += sums.calls;
                self.by_rentcast_endpoint.entry(row.endpoint.to_owned()).or_default().add(row)?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// Rows as days, the newest first.
///
/// # Errors
/// If a sum cannot be held.
pub(crate) fn days(rows: &DayRows) -> Result<Vec<DayCosts>, ApiError> {
    let mut days = BTreeMap::new();
    for row in rows.iter() {
        let row = row?;
        days.entry(row.day).or_insert_with(|| DayCosts::empty(row.day)).add(&row)?;
    }
    Ok(days.into_values().rev().collect())
}

/// Cost of each day, newest day first. Days without calls are left out.
#[utoipa::path(get, path = "/api/admin/cost-history", tag = "admin", params(HistoryParameters),
    responses((status = 200, description = "The days", body = Vec<DayCosts>), Failures))]
pub(crate) async fn cost_history(
    State(daemon): State<SharedDaemon>,
    Parameters(parameters): Parameters<HistoryParameters>,
) -> Result<Json<Vec<DayCosts>>, ApiError> {
    let range = (parameters.days, parameters.from.as_deref(), parameters.to.as_deref());
    let (from, to) = day_range(&daemon, range, DAYS, ROLLUP_DAYS_MAX)?;
    let reading = daemon.reading().await?;
    let rows = history(&reading, from, to).await?;
    reading.finish().await?;
    Ok(Json(days(&rows)?))
}
