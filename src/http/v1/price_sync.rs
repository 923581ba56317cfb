//! Changes that a public price list proposes: `GET /api/v1/prices/proposal`, and their application or dismissal.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;

use crate::http::SharedDaemon;
use crate::http::answer::{Failures, Json};
use crate::http::auth::Identity;
use crate::http::error::{ApiError, ErrorBody};
use tallyd_store::prices::sync::{self, Proposal, SyncError, SyncState};

fn failed(error: SyncError) -> ApiError {
    match error {
        SyncError::Database(error) => error.into(),
        SyncError::NoProposal => {
            ApiError::not_found("no proposal is open", "GET /api/v1/prices/proposal shows how the looks at the list go")
        }
        SyncError::Changed { .. } => {
            let hint = "the next look at the list proposes anew; `tallyd prices sync LIST` looks now";
            ApiError::new(StatusCode::CONFLICT, "conflict", error.to_string(), hint)
        }
        error => {
            tracing::warn!(%error, "a proposal of prices could not be read or applied");
            ApiError::unavailable("the proposal could not be read or applied")
        }
    }
}

/// State of the configured price list, and the changes that wait for a decision.
#[utoipa::path(get, path = "/api/v1/prices/proposal", tag = "prices",
    responses((status = 200, description = "The state", body = SyncState), Failures))]
pub(crate) async fn show(State(daemon): State<SharedDaemon>) -> Result<Json<SyncState>, ApiError> {
    let reading = daemon.reading().await?;
    let state = sync::state(&reading).await.map_err(failed)?;
    reading.finish().await?;
    Ok(Json(state))
}

/// Adds the proposed prices, from the instant at which they were first seen. Calls that are recorded already keep their cost.
#[utoipa::path(post, path = "/api/v1/prices/proposal/apply", tag = "prices",
    responses((status = 200, description = "They are added", body = Proposal),
        (status = 404, description = "No proposal is open", body = ErrorBody),
        (status = 409, description = "A price has changed since the proposal was made", body = ErrorBody), Failures))]
pub(crate) async fn apply(
    State(daemon): State<SharedDaemon>,
    Extension(who): Extension<Identity>,
) -> Result<Json<Proposal>, ApiError> {
    let mut client = daemon.pool()?.get().await?;
    let transaction = client.transaction().await?;
    let applied = sync::apply(&transaction, &daemon.config.pricing, None, &who.actor()).await;
    let applied = applied.map_err(failed)?;
    transaction.commit().await?;
    tracing::info!(
        actor = who.actor,
        proposal = applied.id,
        prices = applied.changes.len(),
        "a price list was applied"
    );
    Ok(Json(applied))
}

/// Closes the proposal without adding anything.
#[utoipa::path(delete, path = "/api/v1/prices/proposal", tag = "prices",
    responses((status = 204, description = "It is closed"),
        (status = 404, description = "No proposal is open", body = ErrorBody), Failures))]
pub(crate) async fn dismiss(
    State(daemon): State<SharedDaemon>,
    Extension(who): Extension<Identity>,
) -> Result<StatusCode, ApiError> {
    let mut client = daemon.pool()?.get().await?;
    let transaction = client.transaction().await?;
    let closed = sync::dismiss(&transaction, &who.actor()).await.map_err(failed)?;
    transaction.commit().await?;
    tracing::info!(actor = who.actor, proposal = closed.id, "a proposal of prices was closed");
    Ok(StatusCode::NO_CONTENT)
}
