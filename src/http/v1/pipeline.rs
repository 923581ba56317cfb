//! `GET /api/v1/pipeline`: how the daemon is doing; what `tallyd status` shows.

use axum::extract::State;

use crate::http::Status;
use crate::http::answer::{Failures, Json};
use crate::http::router::Handle;
use crate::http::status::status;

/// How the daemon is doing: health, the write-ahead log, the database.
#[utoipa::path(get, path = "/api/v1/pipeline", tag = "pipeline",
    responses((status = 200, description = "The status", body = Status), Failures))]
pub(crate) async fn pipeline(State(view): State<Handle>) -> Json<Status> {
    status(State(view)).await
}
