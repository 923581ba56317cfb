//! One dead letter, and what is decided about it: `GET /api/v1/dead-letters/{id}`, `POST …/retry`, `POST …/drop`.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::database::queries::audit;
use crate::dead_letters::{Decider, Edit, Outcome, Retrier, RetryError, drop_letters, get};
use crate::http::answer::Failures;
use crate::http::auth::Identity;
use crate::http::body::JsonBody;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::parameters::Number;
use crate::http::router::Handle;

/// A dead letter, whole.
#[derive(Debug, Serialize, ToSchema)]
pub struct Letter {
    /// The letter: what was received stands in `record`.
    #[schema(value_type = Object)]
    #[serde(flatten)]
    letter: crate::dead_letters::DeadLetter,
}

fn nobody() -> ApiError {
    ApiError::not_found("there is no dead letter of this number", "GET /api/v1/dead-letters lists the open ones")
}

/// One dead letter, settled or not, with the record as it was received.
#[utoipa::path(get, path = "/api/v1/dead-letters/{id}", tag = "records",
    params(("id" = i64, Path, description = "The letter's number", minimum = 1)),
    responses((status = 200, description = "The letter", body = Object),
        (status = 404, description = "There is none of this number", body = ErrorBody), Failures))]
pub async fn letter(State(view): State<Handle>, Number(id): Number<i64>) -> Result<Json<Letter>, ApiError> {
    let reading = view.reading().await?;
    let letter = get(&reading, id).await?;
    reading.finish().await?;
    Ok(Json(Letter { letter: letter.ok_or_else(nobody)? }))
}

/// Corrections to make before a record is tried again.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Corrections {
    /// Fields that get another value. Objects (`metadata`, `extra_units`) as JSON, everything else as text or number.
    #[schema(value_type = BTreeMap<String, Object>)]
    set: BTreeMap<String, Value>,
    /// Fields that go.
    unset: Vec<String>,
}

impl Corrections {
    fn edits(&self) -> Result<Vec<Edit>, ApiError> {
        let hint = "the fields are those of a usage record: provider, model, occurred_at …";
        let set = self.set.iter().map(|(field, value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            Edit::parse(&format!("{field}={value}")).map_err(|error| ApiError::body(error.to_string(), hint))
        });
        set.chain(self.unset.iter().map(|field| Ok(Edit::remove(field)))).collect()
    }
}

/// What became of the letter.
#[derive(Debug, Serialize, ToSchema)]
pub struct Retried {
    /// True if its record is in the log now.
    pub retried: bool,
    /// The call that it became.
    pub record_id: Option<Uuid>,
    /// Why it was not taken; null if it was.
    pub reason: Option<String>,
}

/// Loads the letter's record, once, with corrections. One that is refused again stays as it is.
#[utoipa::path(post, path = "/api/v1/dead-letters/{id}/retry", tag = "records", request_body = Corrections,
    params(("id" = i64, Path, description = "The letter's number", minimum = 1)),
    responses((status = 200, description = "What became of it", body = Retried),
        (status = 404, description = "There is none of this number", body = ErrorBody), Failures))]
pub async fn retry(
    State(view): State<Handle>,
    Extension(who): Extension<Identity>,
    Number(id): Number<i64>,
    JsonBody(corrections): JsonBody<Corrections>,
) -> Result<Json<Retried>, ApiError> {
    let edits = corrections.edits()?;
    // A connection of its own: a failed retry leaves a transaction open, and must not go back to the pool.
    let loading = view.loading.get().ok_or_else(|| ApiError::unavailable("the database is not started yet"))?;
    view.pool()?;
    let unavailable = |error: &dyn std::fmt::Display| {
        tracing::warn!(%error, id, "a dead letter could not be retried");
        ApiError::unavailable("the database did not answer as expected")
    };
    let connection = loading.database.connect("tallyd dead-letters").await.map_err(|error| unavailable(&error))?;
    let letter = get(&connection, id).await?.ok_or_else(nobody)?;
    let by = Decider { actor: &who.actor, address: &who.address };
    let retry = async {
        let retrier = Retrier::new(&view.config, &connection, &*view.clock).await?;
        retrier.retry(&connection, std::slice::from_ref(&letter), &edits, &by).await
    };
    let outcomes = retry.await.map_err(|error: RetryError| unavailable(&error))?;
    let not = |reason: String| Retried { retried: false, record_id: None, reason: Some(reason) };
    Ok(Json(match outcomes.into_iter().next().unwrap_or(Outcome::Settled) {
        Outcome::Retried(record) => Retried { retried: true, record_id: Some(record), reason: None },
        Outcome::Settled => not("somebody has decided about it before".to_owned()),
        outcome => not(outcome.to_string()),
    }))
}

/// Drops the letter: what the record said is deleted for good, the reason's code stays.
#[utoipa::path(post, path = "/api/v1/dead-letters/{id}/drop", tag = "records",
    params(("id" = i64, Path, description = "The letter's number", minimum = 1)),
    responses((status = 204, description = "It is dropped"),
        (status = 404, description = "No open one has this number", body = ErrorBody), Failures))]
pub async fn drop_letter(
    State(view): State<Handle>,
    Extension(who): Extension<Identity>,
    Number(id): Number<i64>,
) -> Result<StatusCode, ApiError> {
    let mut client = view.pool()?.get().await?;
    let transaction = client.transaction().await?;
    if drop_letters(transaction.client(), &[id]).await? == 0 {
        return Err(nobody());
    }
    audit::write(transaction.client(), &who.change("dead_letter.drop", &id.to_string())).await?;
    transaction.commit().await?;
    tracing::info!(actor = who.actor, id, "a dead letter was dropped");
    Ok(StatusCode::NO_CONTENT)
}
