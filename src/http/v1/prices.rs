//! `GET /api/v1/prices`: every known price, with the time from which it holds.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::SharedDaemon;
use crate::http::answer::{Failures, Json};
use crate::http::csv::{self, Format, NextPage, Page, PageFuture};
use crate::http::error::ApiError;
use crate::http::parameters::{LIMIT_MAX, Parameters, limit, now, offset, text};
use crate::http::status::StoodOut;
use tallyd_model::pricing::normalise_provider;
use tallyd_store::queries::prices::{self, PriceRow};
use tallyd_store::unpriced::{UnpricedModel, unpriced as models};

const PRICES: i64 = 1_000;

/// Which prices.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PriceParameters {
    /// Only this provider.
    #[param(max_length = 512)]
    provider: Option<String>,
    /// Only this model.
    #[param(max_length = 512)]
    model: Option<String>,
    /// Only prices in force: one a provider, model and tier. Neither paged nor a file.
    in_force: Option<bool>,
    /// Prices of a page; 1,000 if nothing is said.
    #[param(minimum = 1, maximum = 10000)]
    limit: Option<i64>,
    /// Prices to skip.
    #[param(minimum = 0, maximum = 1000000)]
    offset: Option<i64>,
    /// `json` or `csv`. A CSV file has all prices, regardless of `limit`.
    #[param(inline)]
    format: Option<Format>,
}

/// A page of prices.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Prices {
    /// The prices, by provider, model, tier and time.
    pub prices: Vec<PriceRow>,
    /// The `offset` of the next page; null after the last.
    pub next_offset: Option<i64>,
}

const COLUMNS: &[&str] = &["id", "provider", "model", "service_tier", "effective_from", "rates", "source", "origin"];

type Filter = (Option<String>, Option<String>);

async fn find(
    daemon: &SharedDaemon,
    filter: &Filter,
    limit: i64,
    offset: i64,
) -> Result<(Vec<PriceRow>, bool), ApiError> {
    let reading = daemon.reading().await?;
    let rows = prices::page(&reading, filter.0.as_deref(), filter.1.as_deref(), limit, offset).await?;
    reading.finish().await?;
    let full = i64::try_from(rows.len()).unwrap_or(i64::MAX) >= limit;
    Ok((rows, full))
}

fn page(daemon: SharedDaemon, filter: Filter, offset: i64) -> PageFuture {
    Box::pin(async move {
        let (rows, full) = find(&daemon, &filter, csv::PAGE, offset).await?;
        let next = offset + csv::PAGE;
        let next = full.then(|| -> NextPage { Box::new(move || page(daemon, filter, next)) });
        Ok(Page { rows: csv::objects(&rows)?, next })
    })
}

/// Every known price.
#[utoipa::path(get, path = "/api/v1/prices", tag = "prices", params(PriceParameters),
    responses((status = 200, description = "A page", content((Prices = "application/json"), (String = "text/csv"))), Failures))]
pub(crate) async fn prices(
    State(daemon): State<SharedDaemon>,
    Parameters(parameters): Parameters<PriceParameters>,
) -> Result<Response, ApiError> {
    let provider = text("provider", parameters.provider)?.map(|name| normalise_provider(&name).into_owned());
    let filter = (provider, text("model", parameters.model)?);
    if parameters.format == Some(Format::Csv) {
        let first = page(daemon, filter, 0).await?;
        return Ok(csv::stream("prices", COLUMNS, first));
    }
    if parameters.in_force == Some(true) {
        let reading = daemon.reading().await?;
        let mut prices = prices::in_force(&reading, now(&daemon)).await?;
        reading.finish().await?;
        let (provider, model) = &filter;
        let takes = |name: &str, wanted: &Option<String>| wanted.as_deref().is_none_or(|wanted| wanted == name);
        prices.retain(|price| takes(&price.provider, provider) && takes(&price.model, model));
        return Ok(Json(Prices { prices, next_offset: None }).into_response());
    }
    let (limit, offset) = (limit(parameters.limit, PRICES, LIMIT_MAX)?, offset(parameters.offset)?);
    let (prices, full) = find(&daemon, &filter, limit, offset).await?;
    Ok(Json(Prices { prices, next_offset: full.then_some(offset + limit) }).into_response())
}

/// Models with unpriced calls.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Unpriced {
    /// Those with the most calls first, 200 at most.
    pub models: Vec<UnpricedModel>,
    /// Unusual records since this daemon's start: unknown usage, spans with tokens that were not recorded, stated costs that differ.
    pub stood_out: StoodOut,
}

/// Calls that no price was known for, by model.
#[utoipa::path(get, path = "/api/v1/unpriced", tag = "prices",
    responses((status = 200, description = "The models", body = Unpriced), Failures))]
pub(crate) async fn unpriced(State(daemon): State<SharedDaemon>) -> Result<Json<Unpriced>, ApiError> {
    let catalog = daemon.catalog()?;
    let reading = daemon.reading().await?;
    let models = models(&reading, &catalog).await?;
    reading.finish().await?;
    Ok(Json(Unpriced { models, stood_out: StoodOut::of(&daemon) }))
}
