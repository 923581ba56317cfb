//! `GET /api/v1/unpriced`: calls that no price was known for, by model.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::answer::{Failures, Json};
use crate::http::error::ApiError;
use crate::http::router::Handle;
use crate::http::status::StoodOut;
use tallyd_store::unpriced::{UnpricedModel, unpriced as models};

/// Models with unpriced calls.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Unpriced {
    /// Those with the most calls first, 200 at most.
    pub models: Vec<UnpricedModel>,
    /// What stood out about records since this daemon's start: usage that was not understood, spans with tokens that were not
    /// recorded, stated costs that differ.
    pub stood_out: StoodOut,
}

/// Calls that no price was known for, by model.
#[utoipa::path(get, path = "/api/v1/unpriced", tag = "prices",
    responses((status = 200, description = "The models", body = Unpriced), Failures))]
pub(crate) async fn unpriced(State(view): State<Handle>) -> Result<Json<Unpriced>, ApiError> {
    let catalog = view.catalog()?;
    let reading = view.reading().await?;
    let models = models(&reading, &catalog).await?;
    reading.finish().await?;
    Ok(Json(Unpriced { models, stood_out: StoodOut::of(&view) }))
}
