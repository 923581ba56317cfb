//! An admin changes one call: `POST /api/v1/calls/{id}/amend` and `…/void`.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::SharedDaemon;
use crate::http::answer::{Failures, Json};
use crate::http::auth::Identity;
use crate::http::body::{Amount, JsonBody};
use crate::http::error::{ApiError, ErrorBody};
use crate::http::parameters::{Name, instant, now, text};
use tallyd_store::amend::{AmendCall, AmendError, Amendment, Change, Corrections, amend, find};

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

async fn change(
    daemon: &SharedDaemon,
    who: &Identity,
    id: &str,
    (occurred_at, reason): (Option<String>, String),
    change: Change,
) -> Result<Json<Amendment>, ApiError> {
    let id: Uuid =
        id.parse().map_err(|_| ApiError::parameter("id", "not a UUID", "GET /api/v1/records has the ids"))?;
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
