//! `GET /api/v1/sessions`: Supabase's sessions, in three numbers that say what they count.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::database::sessions as counted;
use crate::http::answer::Failures;
use crate::http::error::ApiError;
use crate::http::router::Handle;

/// The answer.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SessionsAnswer {
    /// False if there are no `auth.sessions` and `auth.users` that the daemon may read.
    pub available: bool,
    /// The numbers; null if they are not available.
    pub sessions: Option<counted::Sessions>,
}

/// Sessions of Supabase's users.
#[utoipa::path(get, path = "/api/v1/sessions", tag = "users",
    responses((status = 200, description = "The numbers", body = SessionsAnswer), Failures))]
pub async fn sessions(State(view): State<Handle>) -> Result<Json<SessionsAnswer>, ApiError> {
    let reading = view.reading().await?;
    let sessions = counted::sessions(&*reading, (&view.settings.users).into()).await?;
    reading.finish().await?;
    Ok(Json(SessionsAnswer { available: sessions.is_some(), sessions }))
}
