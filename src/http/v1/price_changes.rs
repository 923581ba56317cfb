//! Prices are added, withdrawn, and tried out: `POST /api/v1/prices`, `…/preview`, `DELETE …/{id}`, `GET …/changes`.
//!
//! A price is never edited: it holds from an instant on, and a later one takes its place. Recorded calls keep their
//! cost until somebody reprices them; the preview shows the differences.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::http::SharedDaemon;
use crate::http::answer::{Failures, Json};
use crate::http::auth::Identity;
use crate::http::body::JsonBody;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::parameters::{Parameters, PathNumber, instant, limit, now, text};
use tallyd_model::pricing::catalog::{AboveEntry, TokenRates};
use tallyd_model::pricing::{CatalogError, PriceEntry, PriceSpec, Usd};
use tallyd_store::prices::set::{self as operation, PriceEffect, SetPriceError};
use tallyd_store::prices::{ChangeNote, PriceChange, changes as list, withdraw as take_out};
use tallyd_store::reprice::{Preview, RepriceError, RepriceOptions, preview as differences};

const CHANGES: i64 = 100;
const CHANGES_MAX: i64 = 1_000;
/// The most days of calls that a preview reads.
const PREVIEW_DAYS: i64 = 31;
const DAY_US: i64 = 86_400_000_000;

/// A price to add.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPrice {
    /// The provider.
    #[schema(min_length = 1, max_length = 512)]
    provider: String,
    /// The model; empty for a provider that prices all of its calls alike.
    #[serde(default)]
    #[schema(max_length = 512)]
    model: String,
    /// The service tier; `standard` if nothing is said.
    #[serde(default)]
    #[schema(max_length = 512)]
    service_tier: String,
    /// From when on: RFC 3339, or a day of the reporting time zone. Now if nothing is said.
    #[serde(default)]
    effective_from: Option<String>,
    /// USD for a million tokens.
    #[serde(default)]
    per_million: TokenRates,
    /// USD for one of any other unit; `request` is one.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>)]
    per_unit: BTreeMap<String, Usd>,
    /// The rates of larger prompts.
    #[serde(default)]
    above: Vec<AboveEntry>,
    /// The price has the named rates alone. Otherwise rates that are not named stay as they are.
    #[serde(default)]
    replace: bool,
    /// Where the figures come from.
    #[serde(default)]
    #[schema(max_length = 512)]
    source: String,
    /// Why, for the record.
    #[serde(default)]
    #[schema(max_length = 512)]
    note: String,
}

impl NewPrice {
    fn spec(&self, daemon: &SharedDaemon) -> Result<PriceSpec, ApiError> {
        for (name, value) in [
            ("provider", &self.provider),
            ("model", &self.model),
            ("service_tier", &self.service_tier),
            ("source", &self.source),
            ("note", &self.note),
        ] {
            text(name, Some(value.clone()))?;
        }
        if self.provider.is_empty() {
            return Err(ApiError::body("provider is empty", "name it: claude, openai, rentcast …"));
        }
        let entry = PriceEntry {
            provider: self.provider.clone(),
            model: self.model.clone(),
            service_tier: self.service_tier.clone(),
            effective_from: None,
            source: self.source.clone(),
            per_million: self.per_million.clone(),
            per_unit: self.per_unit.clone(),
            above: self.above.clone(),
        };
        let mut spec = entry.stated().map_err(|error| refused(&error))?;
        let from = self.effective_from.as_deref().map(|from| instant(daemon, "effective_from", from)).transpose()?;
        spec.effective_from_us = from.unwrap_or_else(|| now(daemon)).timestamp_micros();
        Ok(spec)
    }
}

fn refused(error: &CatalogError) -> ApiError {
    ApiError::body(error.to_string(), "see `tallyd prices set --help` for the parts of a price")
}

fn failed(error: SetPriceError) -> ApiError {
    match error {
        SetPriceError::Database(error) => error.into(),
        SetPriceError::Price(error) => refused(&error),
    }
}

/// A price that was added.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AddedPrice {
    /// Its number.
    pub id: i32,
    /// The effect of the price on recorded calls.
    pub effect: PriceEffect,
}

/// Adds a price that holds from an instant on. Rates that are not named stay, unless `replace` is set. Calls that are
/// recorded already keep their cost.
#[utoipa::path(post, path = "/api/v1/prices", tag = "prices", request_body = NewPrice,
    responses((status = 200, description = "It is added", body = AddedPrice), Failures))]
pub(crate) async fn add(
    State(daemon): State<SharedDaemon>,
    Extension(who): Extension<Identity>,
    JsonBody(new): JsonBody<NewPrice>,
) -> Result<Json<AddedPrice>, ApiError> {
    let stated = new.spec(&daemon)?;
    let mut client = daemon.pool()?.get().await?;
    let transaction = client.transaction().await?;
    let now_us = now(&daemon).timestamp_micros();
    let options = &daemon.config.pricing;
    let effect =
        operation::effect(transaction.client(), options, &stated, new.replace, now_us).await.map_err(failed)?;
    let note = ChangeNote { by: who.actor(), origin: "api", note: &new.note };
    let id = operation::set(&transaction, &effect, &note).await?;
    transaction.commit().await?;
    tracing::info!(actor = who.actor, id, provider = stated.provider, model = stated.model, "a price was added");
    Ok(Json(AddedPrice { id, effect }))
}

/// The effect of a price that is not added yet.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PricePreview {
    /// The rates that hold now at that instant, as `GET /api/v1/prices` has them; null if there are none.
    #[schema(value_type = Option<Object>)]
    pub old_rates: Option<Value>,
    /// The rates as they would be.
    #[schema(value_type = Object)]
    pub new_rates: Value,
    /// The effect of repricing the calls since then; of the last 31 days at most.
    pub calls: Preview,
    /// The calls that it would apply to, and the rates that stay.
    pub effect: PriceEffect,
}

/// The changes that a new price, and repricing the calls since then, would make. Changes nothing.
#[utoipa::path(post, path = "/api/v1/prices/preview", tag = "prices", request_body = NewPrice,
    responses((status = 200, description = "The differences", body = PricePreview), Failures))]
pub(crate) async fn preview(
    State(daemon): State<SharedDaemon>,
    JsonBody(new): JsonBody<NewPrice>,
) -> Result<Json<PricePreview>, ApiError> {
    let stated = new.spec(&daemon)?;
    let reading = daemon.reading().await?;
    let now_us = now(&daemon).timestamp_micros();
    let options = &daemon.config.pricing;
    let effect = operation::effect(&reading, options, &stated, new.replace, now_us).await.map_err(failed)?;
    let spec = &effect.spec;
    let options = RepriceOptions {
        from_us: spec.effective_from_us.max(now_us - PREVIEW_DAYS * DAY_US),
        to_us: now_us,
        provider: spec.provider.clone(),
        model: String::new(),
        include_client: false,
        batch_rows: 0,
    };
    let mut calls = differences(&reading, &effect.after, &options).await.map_err(unpreviewed)?;
    reading.finish().await?;
    calls.days.retain(|day| day.calls > 0);
    Ok(Json(PricePreview { old_rates: effect.old.clone(), new_rates: effect.new.clone(), calls, effect }))
}

fn unpreviewed(error: RepriceError) -> ApiError {
    match error {
        RepriceError::Database(error) => error.into(),
        error => {
            tracing::warn!(%error, "a preview of a price was not possible");
            ApiError::unavailable("the call log could not be read")
        }
    }
}

/// Takes an added price out of force. Built-in ones are replaced by adding another.
#[utoipa::path(delete, path = "/api/v1/prices/{id}", tag = "prices",
    params(("id" = i32, Path, description = "The price's number", minimum = 1)),
    responses((status = 204, description = "It holds no more"),
        (status = 404, description = "No added price of this number is in force", body = ErrorBody), Failures))]
pub(crate) async fn withdraw(
    State(daemon): State<SharedDaemon>,
    Extension(who): Extension<Identity>,
    PathNumber(id): PathNumber<i32>,
) -> Result<StatusCode, ApiError> {
    let mut client = daemon.pool()?.get().await?;
    let transaction = client.transaction().await?;
    if !take_out(&transaction, id, &who.actor()).await? {
        let hint = "built-in prices are replaced by adding another; GET /api/v1/prices lists all";
        return Err(ApiError::not_found("no added price of this number is in force", hint));
    }
    transaction.commit().await?;
    tracing::info!(actor = who.actor, id, "a price was withdrawn");
    Ok(StatusCode::NO_CONTENT)
}

/// How many.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ChangeParameters {
    /// Changes; 100 if nothing is said.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<i64>,
}

/// The record of changes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PriceChanges {
    /// The changes, newest first.
    pub changes: Vec<PriceChange>,
}

/// Changes of prices with their author, newest first.
#[utoipa::path(get, path = "/api/v1/prices/changes", tag = "prices", params(ChangeParameters),
    responses((status = 200, description = "The changes", body = PriceChanges), Failures))]
pub(crate) async fn changes(
    State(daemon): State<SharedDaemon>,
    Parameters(parameters): Parameters<ChangeParameters>,
) -> Result<Json<PriceChanges>, ApiError> {
    let rows = limit(parameters.limit, CHANGES, CHANGES_MAX)?;
    let reading = daemon.reading().await?;
    let changes = list(&reading, None, rows).await?;
    reading.finish().await?;
    Ok(Json(PriceChanges { changes }))
}
