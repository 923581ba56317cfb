//! `POST /api/v1/dead-letters/{id}/retry` and `/drop`: what becomes of a record that was refused.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use deadpool_postgres::Object;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::database::queries::audit::{self, Change};
use crate::dead_letters::{Edit, Outcome, Retrier, drop_letters, get};
use crate::http::answer::Failures;
use crate::http::auth::Identity;
use crate::http::body::JsonBody;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::router::Handle;

/// Corrections of one retry: more than a record has fields would be none.
const EDITS_MAX: usize = 32;

/// Corrections that are made before a record is tried again.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Corrections {
    /// Fields and their values, as text: `{"input_tokens": "5"}`.
    set: BTreeMap<String, String>,
    /// Fields to take out.
    #[schema(max_items = 32)]
    unset: Vec<String>,
}

/// The record that a letter has become.
#[derive(Debug, Serialize, ToSchema)]
pub struct Retried {
    /// The call's id in the log.
    pub record_id: Uuid,
}

fn none() -> ApiError {
    ApiError::not_found("there is no open dead letter of this number", "GET /api/v1/dead-letters lists the open ones")
}

fn refused(reason: impl std::fmt::Display) -> ApiError {
    let hint = "correct it: {\"set\": {\"field\": \"value\"}, \"unset\": [\"field\"]}; or drop the letter";
    ApiError::new(StatusCode::CONFLICT, "refused_again", reason.to_string(), hint)
}

/// Tries a refused record again, with corrections. It is loaded exactly once; what is refused again stays as it is.
#[utoipa::path(post, path = "/api/v1/dead-letters/{id}/retry", tag = "records", request_body = Corrections,
    params(("id" = i64, Path, description = "The letter's number")),
    responses((status = 200, description = "It is in the log", body = Retried),
        (status = 404, description = "There is no open letter of this number", body = ErrorBody),
        (status = 409, description = "It was refused again, and stays", body = ErrorBody), Failures))]
pub async fn retry(
    State(view): State<Handle>,
    Extension(who): Extension<Identity>,
    Path(id): Path<String>,
    JsonBody(corrections): JsonBody<Corrections>,
) -> Result<Json<Retried>, ApiError> {
    let id: i64 = id.parse().map_err(|_| none())?;
    let edits = edits(&corrections)?;
    let mut client = view.pool()?.get().await?;
    let letter = get(&client, id).await?.filter(|letter| letter.settled_at.is_none()).ok_or_else(none)?;
    let failed = |error: crate::dead_letters::RetryError| {
        tracing::warn!(%error, letter = id, "a dead letter could not be retried");
        ApiError::unavailable("the record could not be loaded now")
    };
    let retrier = Retrier::new(&view.config, &client, &*view.clock).await.map_err(failed)?;
    let outcome = match retrier.retry(&client, std::slice::from_ref(&letter), &edits).await {
        Ok(outcomes) => outcomes.into_iter().next().unwrap_or(Outcome::Settled),
        Err(error) => {
            // Its transaction may be half done.
            drop(Object::take(client));
            return Err(failed(error));
        }
    };
    let record_id = match outcome {
        Outcome::Retried(record_id) => record_id,
        Outcome::Settled => return Err(none()),
        Outcome::Refused(refusal) => return Err(refused(refusal.message)),
        Outcome::Poison(reason) => return Err(refused(reason)),
        Outcome::Uncorrected(error) => return Err(refused(error)),
    };
    let new = json!({ "record_id": record_id, "set": corrections.set, "unset": corrections.unset });
    note(&mut client, &who, "dead_letter.retry", id, new).await?;
    Ok(Json(Retried { record_id }))
}

fn edits(corrections: &Corrections) -> Result<Vec<Edit>, ApiError> {
    if corrections.set.len() + corrections.unset.len() > EDITS_MAX {
        return Err(ApiError::body(format!("more than {EDITS_MAX} corrections"), "a record has fewer fields"));
    }
    let set = corrections.set.iter().map(|(field, value)| Edit::parse(&format!("{field}={value}")));
    let mut edits = set
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| ApiError::body(error.to_string(), "protocol/README.md lists the fields"))?;
    edits.extend(corrections.unset.iter().map(|field| Edit::remove(field)));
    Ok(edits)
}

/// Drops a refused record for good: what it said is deleted, the reason's code stays.
#[utoipa::path(post, path = "/api/v1/dead-letters/{id}/drop", tag = "records",
    params(("id" = i64, Path, description = "The letter's number")),
    responses((status = 204, description = "It is gone"),
        (status = 404, description = "There is no open letter of this number", body = ErrorBody), Failures))]
pub async fn discard(
    State(view): State<Handle>,
    Extension(who): Extension<Identity>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let id: i64 = id.parse().map_err(|_| none())?;
    let mut client = view.pool()?.get().await?;
    if drop_letters(&client, &[id]).await? == 0 {
        return Err(none());
    }
    note(&mut client, &who, "dead_letter.drop", id, json!(null)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Notes who did it, after it is done: the letter itself says what became of it.
async fn note(
    client: &mut Object,
    who: &Identity,
    action: &str,
    id: i64,
    new: serde_json::Value,
) -> Result<(), ApiError> {
    let transaction = client.transaction().await?;
    let (actor, address, object) = (who.actor.as_str(), who.address.as_str(), format!("dead letter {id}"));
    let new = Some(new).filter(|new| !new.is_null());
    audit::write(&transaction, &Change { actor, address, action, object: &object, old: None, new }).await?;
    transaction.commit().await?;
    Ok(())
}
