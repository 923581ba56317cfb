//! An admin changes one call: `POST /api/v1/calls/{id}/amend` and `…/void`. `GET …/amendments` has all its changes.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::http::SharedDaemon;
use crate::http::answer::{Failures, Json};
use crate::http::auth::Identity;
use crate::http::body::{Amount, JsonBody};
use crate::http::error::{ApiError, ErrorBody};
use crate::http::parameters::{Name, Parameters, instant, limit, now, text, within};
use tallyd_store::amend::{AmendCall, AmendError, Amendment, Change, Corrections, amend, find, of_call};

const AMENDMENTS: i64 = 100;
const AMENDMENTS_MAX: i64 = 1_000;

/// The new values of a call. Those that are left out stay.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CallCorrections {
    /// The call's time, RFC 3339, as `GET /api/v1/records` has it: an old call is found at once. Needed if several calls
    /// have the id.
    #[serde(default)]
    #[schema(max_length = 40)]
    occurred_at: Option<String>,
    /// The cost, of either sign. If it is left out and a count changes, a cost that was computed is computed anew.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "0.25")]
    cost_usd: Option<Amount>,
    /// Input tokens.
    #[serde(default)]
    input_tokens: Option<u64>,
    /// Output tokens.
    #[serde(default)]
    output_tokens: Option<u64>,
    /// Tokens read from a cache.
    #[serde(default)]
    cache_read_tokens: Option<u64>,
    /// Tokens written to a cache for five minutes.
    #[serde(default)]
    cache_write_5m_tokens: Option<u64>,
    /// Tokens written to a cache for an hour.
    #[serde(default)]
    cache_write_1h_tokens: Option<u64>,
    /// Billable units of an API that is priced per request.
    #[serde(default)]
    requests: Option<u64>,
    /// Why, for the record.
    #[schema(min_length = 1, max_length = 512)]
    reason: String,
}

/// Why a call is voided.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CallVoid {
    /// The call's time, RFC 3339, as `GET /api/v1/records` has it: an old call is found at once. Needed if several calls
    /// have the id.
    #[serde(default)]
    #[schema(max_length = 40)]
    occurred_at: Option<String>,
    /// Why, for the record.
    #[schema(min_length = 1, max_length = 512)]
    reason: String,
}

fn failed(error: AmendError) -> ApiError {
    let conflict = |code, hint: &str| ApiError::new(StatusCode::CONFLICT, code, error.to_string(), hint);
    match error {
        AmendError::Database(error) => error.into(),
        AmendError::Query(error) => error.into(),
        AmendError::Invalid(fault) => ApiError::body(fault, "see /api/docs for the fields"),
        AmendError::NotFound(id) => {
            let hint = "calls of dropped and archived partitions cannot be changed";
            ApiError::not_found(format!("the call log does not have a call {id}"), hint)
        }
        AmendError::Same(_) => conflict("unchanged", "GET /api/v1/records?id=… shows the call"),
        AmendError::Ambiguous { .. } => conflict("ambiguous", "state occurred_at"),
        AmendError::NoPrice(_) => conflict("unpriced", "state cost_usd"),
        AmendError::Inexact(_) => conflict("inexact", "another program has written this cost"),
        AmendError::Setting(_) | AmendError::Zone(_) | AmendError::Busy => {
            tracing::warn!(%error, "a call was not changed");
            ApiError::unavailable("the call was not changed")
        }
    }
}

fn call_id(text: &str) -> Result<Uuid, ApiError> {
    text.parse().map_err(|_| ApiError::parameter("id", "not a UUID", "GET /api/v1/records has the ids"))
}

async fn change(
    daemon: &SharedDaemon,
    who: &Identity,
    id: &str,
    (occurred_at, reason): (Option<String>, String),
    change: Change,
) -> Result<Json<Amendment>, ApiError> {
    let id = call_id(id)?;
    let stated = occurred_at.as_deref().map(|at| instant(daemon, "occurred_at", at)).transpose()?;
    let reason = text("reason", Some(reason))?.unwrap_or_default();
    let catalog = daemon.catalog()?;
    // The search has the time limit of a request; the change does not.
    let reading = daemon.reading().await?;
    let occurred_at = find(&reading, id, stated, now(daemon)).await.map_err(failed)?;
    reading.finish().await?;
    let call = AmendCall { id, occurred_at, change, reason: &reason };
    let client = daemon.pool()?.get().await?;
    let amendment = amend(&client, &catalog, &call, &who.actor()).await.map_err(failed)?;
    tracing::info!(actor = who.actor, %id, kind = amendment.kind, "a call was changed");
    Ok(Json(amendment))
}

/// Corrects the cost or the counts of one call. The call log and all sums change together; the values before are kept. A
/// voided call is as it was before, with the corrections.
#[utoipa::path(post, path = "/api/v1/calls/{id}/amend", tag = "records", request_body = CallCorrections,
    params(("id" = Uuid, Path, description = "The call's id")),
    responses((status = 200, description = "The change", body = Amendment),
        (status = 404, description = "The call log does not have this call", body = ErrorBody),
        (status = 409, description = "The values are the same, or cannot be priced, or several calls have the id", body = ErrorBody),
        Failures))]
pub(crate) async fn amend_call(
    State(daemon): State<SharedDaemon>,
    Extension(who): Extension<Identity>,
    Name(id): Name,
    JsonBody(new): JsonBody<CallCorrections>,
) -> Result<Json<Amendment>, ApiError> {
    let corrections = Corrections {
        cost_usd: new.cost_usd.map(|amount| amount.0),
        input_tokens: new.input_tokens,
        output_tokens: new.output_tokens,
        cache_read_tokens: new.cache_read_tokens,
        cache_write_5m_tokens: new.cache_write_5m_tokens,
        cache_write_1h_tokens: new.cache_write_1h_tokens,
        requests: new.requests,
    };
    change(&daemon, &who, &id, (new.occurred_at, new.reason), Change::Amend(corrections)).await
}

/// Voids one call: it stays in the call log, with no tokens and a cost of 0. The values before are kept.
#[utoipa::path(post, path = "/api/v1/calls/{id}/void", tag = "records", request_body = CallVoid,
    params(("id" = Uuid, Path, description = "The call's id")),
    responses((status = 200, description = "The change", body = Amendment),
        (status = 404, description = "The call log does not have this call", body = ErrorBody),
        (status = 409, description = "The call is voided already, or several calls have the id", body = ErrorBody), Failures))]
pub(crate) async fn void_call(
    State(daemon): State<SharedDaemon>,
    Extension(who): Extension<Identity>,
    Name(id): Name,
    JsonBody(new): JsonBody<CallVoid>,
) -> Result<Json<Amendment>, ApiError> {
    change(&daemon, &who, &id, (new.occurred_at, new.reason), Change::Void).await
}

/// The part of a call's changes.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AmendmentParameters {
    /// Only changes with a number above this: `next` of the part before.
    #[param(minimum = 0)]
    after: Option<i64>,
    /// Changes; 100 if nothing is said.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<i64>,
}

/// The changes of a call.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CallAmendments {
    /// The changes, oldest first. Each begins with the values that the one before has left.
    pub amendments: Vec<Amendment>,
    /// `after` of the next part; null after the last change.
    pub next: Option<i64>,
}

/// All changes of one call by admins, oldest first: who, when, why, and the values before and after. The list is empty for
/// an unchanged call and for an unknown id. The changes stay after the call's partition was dropped.
#[utoipa::path(get, path = "/api/v1/calls/{id}/amendments", tag = "records",
    params(("id" = Uuid, Path, description = "The call's id"), AmendmentParameters),
    responses((status = 200, description = "The changes", body = CallAmendments), Failures))]
pub(crate) async fn call_amendments(
    State(daemon): State<SharedDaemon>,
    Name(id): Name,
    Parameters(part): Parameters<AmendmentParameters>,
) -> Result<Json<CallAmendments>, ApiError> {
    let id = call_id(&id)?;
    let rows = limit(part.limit, AMENDMENTS, AMENDMENTS_MAX)?;
    let after = within("after", part.after.unwrap_or(0), 0, i64::MAX)?;
    let reading = daemon.reading().await?;
    let mut amendments = of_call(&reading, id, after, rows + 1).await?;
    reading.finish().await?;
    let is_cut = amendments.len() as i64 > rows;
    if is_cut {
        amendments.pop();
    }
    let next = amendments.last().filter(|_| is_cut).map(|last| last.id);
    Ok(Json(CallAmendments { amendments, next }))
}
