//! `GET /api/v1/sessions`: Supabase's sessions, in three numbers with their meaning.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::SharedDaemon;
use crate::http::answer::{Failures, Json};
use crate::http::csv::{self, Format};
use crate::http::error::ApiError;
use crate::http::parameters::Parameters;
use tallyd_store::sessions as counted;

/// The answer.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct SessionsAnswer {
    /// False if there are no `auth.sessions` and `auth.users` that the daemon may read.
    pub available: bool,
    /// The numbers; null if they are not available.
    pub sessions: Option<counted::Sessions>,
}

/// In which form.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SessionParameters {
    /// `json` (the default), or `csv`: a line a number; none where they are not available.
    format: Option<Format>,
}

#[derive(Serialize)]
struct Line<'a> {
    name: &'static str,
    #[serde(flatten)]
    counted: &'a counted::Counted,
}

const COLUMNS: &[&str] = &["name", "count", "definition"];

impl SessionsAnswer {
    fn lines(&self) -> Vec<Line<'_>> {
        let Some(counted::Sessions { active, refreshed_24h, signed_in_24h, .. }) = &self.sessions else {
            return Vec::new();
        };
        let named = [("active", active), ("refreshed_24h", refreshed_24h), ("signed_in_24h", signed_in_24h)];
        named.into_iter().map(|(name, counted)| Line { name, counted }).collect()
    }
}

/// Sessions of Supabase's users.
#[utoipa::path(get, path = "/api/v1/sessions", tag = "users", params(SessionParameters),
    responses((status = 200, description = "The numbers", content((SessionsAnswer = "application/json"), (String = "text/csv"))), Failures))]
pub(crate) async fn sessions(
    State(daemon): State<SharedDaemon>,
    Parameters(parameters): Parameters<SessionParameters>,
) -> Result<Response, ApiError> {
    let reading = daemon.reading().await?;
    let sessions = counted::sessions(&*reading, (&daemon.settings.users).into()).await?;
    reading.finish().await?;
    let answer = SessionsAnswer { available: sessions.is_some(), sessions };
    match parameters.format.unwrap_or_default() {
        Format::Json => Ok(Json(answer).into_response()),
        Format::Csv => csv::whole("sessions", COLUMNS, &answer.lines()),
    }
}
