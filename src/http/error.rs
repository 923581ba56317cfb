//! Errors of the API: a stable code, a sentence, and a hint.
//!
//! Internal causes (SQL, paths, addresses) go to the daemon log, never into an answer.

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use tallyd_store::describe;

/// An error as it is sent.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    /// The error.
    pub error: ErrorDetail,
}

/// The error.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ErrorDetail {
    /// A stable name.
    #[schema(example = "invalid_parameter")]
    pub code: &'static str,
    /// The event, for a person.
    pub message: String,
    /// The remedy.
    pub hint: String,
}

#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) detail: ErrorDetail,
    pub(super) retry_after_s: Option<u64>,
}

impl ApiError {
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        let detail = ErrorDetail { code, message: message.into(), hint: hint.into() };
        Self { status, detail, retry_after_s: None }
    }

    /// 400: a parameter of the query or the path is wrong.
    pub(crate) fn parameter(name: &str, message: impl std::fmt::Display, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_parameter", format!("{name}: {message}"), hint)
    }

    /// 400: the body is wrong.
    pub(crate) fn body(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_body", message, hint)
    }

    pub(crate) fn not_found(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message, hint)
    }

    /// 503: the database cannot answer now.
    #[must_use]
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        let hint = "ask again in a moment; /readyz says whether records are accepted meanwhile";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "database_unavailable", message, hint).retry_after(2)
    }

    /// Adds `Retry-After`, in seconds.
    #[must_use]
    pub(crate) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    #[must_use]
    pub(crate) const fn status(&self) -> StatusCode {
        self.status
    }

    #[must_use]
    pub(crate) fn message(&self) -> &str {
        &self.detail.message
    }

    #[must_use]
    pub(crate) const fn code(&self) -> &'static str {
        self.detail.code
    }
}

impl From<tokio_postgres::Error> for ApiError {
    fn from(error: tokio_postgres::Error) -> Self {
        use tokio_postgres::error::SqlState;
        if error.code() == Some(&SqlState::QUERY_CANCELED) {
            let hint = "ask for a shorter range or fewer groups, or raise http.statement_timeout_ms";
            return Self::new(StatusCode::SERVICE_UNAVAILABLE, "too_slow", "the request took too long", hint)
                .retry_after(10);
        }
        let (error, class) = (describe(&error), tallyd_store::classify(&error).name());
        tracing::warn!(error, class, "a request of the HTTP API failed in the database");
        Self::unavailable("the database did not answer as expected")
    }
}

impl From<deadpool_postgres::PoolError> for ApiError {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        tracing::debug!(%error, "no database connection for a request of the HTTP API");
        Self::unavailable("no connection to the database could be had")
    }
}

#[cfg(test)]
mod tests {
    use super::ApiError;

    /// A daemon that is starting or stopping gives the same answer, and accepts no records then.
    #[test]
    fn an_answer_without_a_database_does_not_promise_that_records_are_accepted() {
        let hint = ApiError::unavailable("no connection").detail.hint;
        assert!(hint.contains("/readyz says whether"), "{hint}");
    }
}
