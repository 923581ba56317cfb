//! `GET /api/v1/dimensions`: the tags that costs are allocated by.

use axum::extract::State;
use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::SharedDaemon;
use crate::http::answer::{Failures, Json};
use crate::http::error::ApiError;
use tallyd_store::dimensions;

/// The dimensions.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Dimensions {
    /// By name; `app` is always there.
    pub dimensions: Vec<DimensionRow>,
}

/// A tag whose costs are summed by day.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DimensionRow {
    /// The tag, or `app`.
    pub name: String,
    /// The name in `group_by`: `tag:team`, or `app`.
    pub group_by: String,
    /// Whether all of the call log's calls count.
    pub is_whole: bool,
    /// The first day that counts while earlier ones are still to come; null before the first one, and once all do.
    pub counted_from: Option<NaiveDate>,
    /// The first day whose sums are whole: calls of earlier days had left the call log before. Null: all days.
    pub whole_from: Option<NaiveDate>,
    /// Calls of the last 30 days that count under `(other)`: a day had more values than `dimensions.max_values_per_day`.
    pub other_calls: i64,
    /// When it was added.
    pub added_at: DateTime<Utc>,
    /// The one that added it.
    pub actor: String,
}

/// The tags that have a rollup.
#[utoipa::path(get, path = "/api/v1/dimensions", tag = "costs",
    responses((status = 200, description = "The dimensions", body = Dimensions), Failures))]
pub(crate) async fn list(State(daemon): State<SharedDaemon>) -> Result<Json<Dimensions>, ApiError> {
    let reading = daemon.reading().await?;
    let all = dimensions::list(&*reading).await?;
    reading.finish().await?;
    let row = |dimension: dimensions::DimensionState| DimensionRow {
        group_by: if dimension.name == "app" { dimension.name.clone() } else { format!("tag:{}", dimension.name) },
        name: dimension.name,
        is_whole: dimension.is_whole,
        counted_from: dimension.counted_from,
        whole_from: dimension.whole_from,
        other_calls: dimension.other_calls,
        added_at: dimension.added_at,
        actor: dimension.actor,
    };
    Ok(Json(Dimensions { dimensions: all.into_iter().map(row).collect() }))
}
