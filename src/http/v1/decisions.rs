//! One dead letter, and decisions about dead letters: `GET /api/v1/dead-letters/{id}`, `POST …/retry`, `POST …/drop`;
//! many at once by `POST /api/v1/dead-letters/retry` and `…/drop`.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use tallyd_model::json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::SharedDaemon;
use crate::http::answer::{Failures, Json};
use crate::http::auth::Identity;
use crate::http::body::JsonBody;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::parameters::PathNumber;
use crate::retry::{Retrier, RetryError, RetryOutcome};
use tallyd_store::Connection;
use tallyd_store::dead_letters::{DeadLetter, Edit, Filter, Order, drop_letters, get, ids_of, page_of};

fn nobody() -> ApiError {
    ApiError::not_found("there is no dead letter of this number", "GET /api/v1/dead-letters lists the open ones")
}

/// One dead letter, settled or not, with the record as it was received.
#[utoipa::path(get, path = "/api/v1/dead-letters/{id}", tag = "records",
    params(("id" = i64, Path, description = "The letter's number", minimum = 1)),
    responses((status = 200, description = "The letter", body = DeadLetter),
        (status = 404, description = "There is none of this number", body = ErrorBody), Failures))]
pub(crate) async fn letter(
    State(daemon): State<SharedDaemon>,
    PathNumber(id): PathNumber<i64>,
) -> Result<Json<DeadLetter>, ApiError> {
    let reading = daemon.reading().await?;
    let letter = get(&reading, id).await?;
    reading.finish().await?;
    letter.map(Json).ok_or_else(nobody)
}

/// Corrections to make before a record is tried again.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Corrections {
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

/// The result for the letter.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Retried {
    /// True if its record is in the call log now.
    pub retried: bool,
    /// The call that it became.
    pub record_id: Option<Uuid>,
    /// Why it was not taken; null if it was.
    pub reason: Option<String>,
}

/// Loads the letter's record, once, with corrections. One that is refused again stays as it is.
#[utoipa::path(post, path = "/api/v1/dead-letters/{id}/retry", tag = "records", request_body = Corrections,
    params(("id" = i64, Path, description = "The letter's number", minimum = 1)),
    responses((status = 200, description = "The result", body = Retried),
        (status = 404, description = "There is none of this number", body = ErrorBody), Failures))]
pub(crate) async fn retry(
    State(daemon): State<SharedDaemon>,
    Extension(who): Extension<Identity>,
    PathNumber(id): PathNumber<i64>,
    JsonBody(corrections): JsonBody<Corrections>,
) -> Result<Json<Retried>, ApiError> {
    let edits = corrections.edits()?;
    let connection = daemon.connect(CONNECTION).await?;
    let letter = get(&connection, id).await?.ok_or_else(nobody)?;
    let outcomes = load(&daemon, &connection, &who, std::slice::from_ref(&letter), &edits).await?;
    let not = |reason: String| Retried { retried: false, record_id: None, reason: Some(reason) };
    Ok(Json(match outcomes.into_iter().next().unwrap_or(RetryOutcome::Settled) {
        RetryOutcome::Retried(record) | RetryOutcome::Known(record) => {
            Retried { retried: true, record_id: Some(record), reason: None }
        }
        RetryOutcome::Settled => not("it was settled before".to_owned()),
        outcome => not(outcome.to_string()),
    }))
}

fn failed(error: &dyn std::fmt::Display) -> ApiError {
    tracing::warn!(%error, "dead letters could not be retried");
    ApiError::unavailable("the database did not answer as expected")
}

/// The name of connections that retry: a failed retry leaves a transaction open.
const CONNECTION: &str = "tallyd dead-letters";

async fn load(
    daemon: &SharedDaemon,
    connection: &Connection,
    who: &Identity,
    letters: &[DeadLetter],
    edits: &[Edit],
) -> Result<Vec<RetryOutcome>, ApiError> {
    let by = who.actor();
    let retry = async {
        let retrier = Retrier::new(&daemon.config, connection, &*daemon.clock).await?;
        retrier.retry(connection, letters, edits, &by).await
    };
    retry.await.map_err(|error: RetryError| failed(&error))
}

/// The most letters that one request retries.
const RETRIES: i64 = 200;
/// The most letters that one request drops.
const DROPS: i64 = 5_000;
/// The most letters that a request names by number.
const IDS_MAX: usize = 1_000;
/// The most different reasons of an answer.
const REASONS: usize = 5;

/// The letters: those that match all given filters and are not settled.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Which {
    /// These numbers, at most 1,000.
    #[schema(max_items = 1000)]
    ids: Vec<i64>,
    /// `refused` or `poison`.
    kind: Option<String>,
    /// The reason's name.
    code: Option<String>,
    /// The field at fault; empty: no single one.
    field: Option<String>,
    /// The sender; empty: nobody in particular.
    producer: Option<String>,
    /// Only letters with a higher number: `next` of the answer before.
    after: Option<i64>,
}

impl Which {
    fn filter(self) -> Result<(Filter, Option<i64>), ApiError> {
        let Self { ids, kind, code, field, producer, after } = self;
        if ids.is_empty() && kind.is_none() && code.is_none() && field.is_none() && producer.is_none() {
            let hint = "give ids, kind, code, field or producer, as GET /api/v1/dead-letters/groups has them";
            return Err(ApiError::body("the letters are not named".to_owned(), hint));
        }
        if ids.len() > IDS_MAX {
            let message = format!("ids: {}, at most {IDS_MAX} are accepted", ids.len());
            return Err(ApiError::body(message, "send them in parts, or name what they have in common"));
        }
        Ok((Filter { ids, kind, codes: code.into_iter().collect(), field, producer, ..Filter::default() }, after))
    }
}

/// Letters to try again, each with the same corrections.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RetryMany {
    /// The letters.
    letters: Which,
    /// The corrections.
    corrections: Corrections,
}

/// The result.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct RetriedMany {
    /// Letters whose records are in the call log now.
    pub retried: u64,
    /// Letters that were refused again, and stay as they are.
    pub refused: u64,
    /// Why, each reason once, at most five.
    pub reasons: Vec<String>,
    /// `after` of the next request; null if these were the last.
    pub next: Option<i64>,
}

/// Loads the records of up to 200 letters, each once. Ask again with `next` until it is null.
#[utoipa::path(post, path = "/api/v1/dead-letters/retry", tag = "records", request_body = RetryMany,
    responses((status = 200, description = "The result", body = RetriedMany), Failures))]
pub(crate) async fn retry_many(
    State(daemon): State<SharedDaemon>,
    Extension(who): Extension<Identity>,
    JsonBody(many): JsonBody<RetryMany>,
) -> Result<Json<RetriedMany>, ApiError> {
    let edits = many.corrections.edits()?;
    let (filter, after) = many.letters.filter()?;
    let connection = daemon.connect(CONNECTION).await?;
    let (letters, last) = page_of(&connection, &filter, Order::OldestFirst, after, RETRIES).await?;
    let mut done = RetriedMany { next: last.filter(|_| letters.len() as i64 == RETRIES), ..RetriedMany::default() };
    for outcome in load(&daemon, &connection, &who, &letters, &edits).await? {
        match outcome {
            RetryOutcome::Retried(_) | RetryOutcome::Known(_) => done.retried += 1,
            RetryOutcome::Settled => {}
            outcome => {
                done.refused += 1;
                let reason = outcome.to_string();
                if done.reasons.len() < REASONS && !done.reasons.contains(&reason) {
                    done.reasons.push(reason);
                }
            }
        }
    }
    Ok(Json(done))
}

/// The result of dropping letters.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DroppedMany {
    /// Letters whose records are deleted.
    pub dropped: u64,
    /// `after` of the next request; null if these were the last.
    pub next: Option<i64>,
}

/// Drops up to 5,000 letters. Ask again with `next` until it is null.
#[utoipa::path(post, path = "/api/v1/dead-letters/drop", tag = "records", request_body = Which,
    responses((status = 200, description = "How many were dropped", body = DroppedMany), Failures))]
pub(crate) async fn drop_many(
    State(daemon): State<SharedDaemon>,
    Extension(who): Extension<Identity>,
    JsonBody(which): JsonBody<Which>,
) -> Result<Json<DroppedMany>, ApiError> {
    let (filter, after) = which.filter()?;
    let mut client = daemon.pool()?.get().await?;
    let transaction = client.transaction().await?;
    let ids = ids_of(transaction.client(), &filter, after, DROPS).await?;
    let by = who.actor();
    let dropped = drop_letters(transaction.client(), &ids, &by).await?;
    transaction.commit().await?;
    tracing::info!(actor = who.actor, dropped, "dead letters were dropped");
    Ok(Json(DroppedMany { dropped, next: ids.last().copied().filter(|_| ids.len() as i64 == DROPS) }))
}

/// Drops the letter: the record is deleted for good, the reason's code stays.
#[utoipa::path(post, path = "/api/v1/dead-letters/{id}/drop", tag = "records",
    params(("id" = i64, Path, description = "The letter's number", minimum = 1)),
    responses((status = 204, description = "It is dropped"),
        (status = 404, description = "No open one has this number", body = ErrorBody), Failures))]
pub(crate) async fn drop_letter(
    State(daemon): State<SharedDaemon>,
    Extension(who): Extension<Identity>,
    PathNumber(id): PathNumber<i64>,
) -> Result<StatusCode, ApiError> {
    let mut client = daemon.pool()?.get().await?;
    let transaction = client.transaction().await?;
    let by = who.actor();
    if drop_letters(transaction.client(), &[id], &by).await? == 0 {
        return Err(nobody());
    }
    transaction.commit().await?;
    tracing::info!(actor = who.actor, id, "a dead letter was dropped");
    Ok(StatusCode::NO_CONTENT)
}
