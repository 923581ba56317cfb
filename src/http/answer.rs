//! Shared by the handlers: snapshots to read from, JSON with exact numbers, entity tags, metrics, the documented
//! failures.

use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use deadpool_postgres::Pool;
use http_body_util::BodyExt;
use metrics::{counter, histogram};
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};
use utoipa::{IntoResponses, ToSchema};

use super::Daemon;
use super::error::{ApiError, ErrorBody};
use tallyd_base::registry;
use tallyd_model::json;
use tallyd_model::pricing::{Catalog, Usd};
use tallyd_store::Connection;
use tallyd_store::queries::{QueryError, Reading};

/// The failures that every request may have.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "the document of the API is made from it; no value is")]
pub(crate) enum Failures {
    /// A parameter or the body is wrong
    #[response(status = 400)]
    Bad(#[to_schema] ErrorBody),
    /// No valid token
    #[response(status = 401)]
    Unauthorized(#[to_schema] ErrorBody),
    /// The token does not allow this
    #[response(status = 403)]
    Forbidden(#[to_schema] ErrorBody),
    /// Too many failed attempts from this address
    #[response(status = 429)]
    TooMany(#[to_schema] ErrorBody),
    /// The database, or the issuer of the token, does not answer
    #[response(status = 503)]
    Unavailable(#[to_schema] ErrorBody),
}

/// An amount as a JSON number with all of its digits, as the endpoints of the replaced system have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ToSchema)]
#[schema(value_type = f64, example = 0.004515)]
pub(crate) struct Number(pub Usd);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // `json::write` writes bytes as they are, and a decimal's text is a JSON number.
        serializer.serialize_bytes(self.0.to_string().as_bytes())
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match json::to_vec(&self.0) {
            Ok(text) => ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response(),
            Err(error) => {
                tracing::error!(%error, "an answer could not be written as JSON");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(ErrorBody { error: self.detail })).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tallyd\""));
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Pool(error) => error.into(),
            QueryError::Database(error) => error.into(),
        }
    }
}

impl Daemon {
    /// The pool of connections for the API.
    ///
    /// # Errors
    /// If the database is not there yet, or its schema is not in place.
    pub(crate) fn pool(&self) -> Result<&Pool, ApiError> {
        let loading = self.loading.get().ok_or_else(|| ApiError::unavailable("the database is not started yet"))?;
        if !*loading.flusher.migrated.borrow() {
            return Err(ApiError::unavailable("the schema is not in place yet"));
        }
        Ok(&loading.pool)
    }

    /// The prices in force, by which new calls are priced.
    ///
    /// # Errors
    /// If the daemon is shutting down.
    pub(crate) fn catalog(&self) -> Result<Arc<Catalog>, ApiError> {
        let ingest = self.ingest.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let catalog = ingest.as_ref().map(|context| context.catalog.load_full());
        catalog.ok_or_else(|| ApiError::unavailable("the daemon is shutting down"))
    }

    /// A connection of its own, named `name`: work that can leave a transaction open must not return to the pool.
    ///
    /// # Errors
    /// If the database does not answer.
    pub(crate) async fn connect(&self, name: &str) -> Result<Connection, ApiError> {
        self.pool()?;
        let loading = self.loading.get().ok_or_else(|| ApiError::unavailable("the database is not started yet"))?;
        loading.database.connect(name).await.map_err(|error| {
            tracing::warn!(%error, name, "no connection for a request of the HTTP API");
            ApiError::unavailable("no connection to the database could be had")
        })
    }

    /// A snapshot of the database, for all statements of one answer.
    ///
    /// # Errors
    /// If the database does not answer.
    pub(crate) async fn reading(&self) -> Result<Reading, ApiError> {
        Ok(Reading::begin(self.pool()?, self.settings.statement_timeout).await?)
    }
}

/// The sum.
///
/// # Errors
/// If it overflows.
pub(crate) fn add(a: Usd, b: Usd) -> Result<Usd, ApiError> {
    a.checked_add(b).ok_or_else(|| {
        let hint = "ask for a shorter range, and look for records with absurd costs";
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "overflow", "a sum is beyond 10^20 USD", hint)
    })
}

/// Middleware: adds an entity tag to each whole answer to a GET.
pub(crate) async fn tag(request: Request, next: Next) -> Response {
    let tagged = matches!(*request.method(), Method::GET | Method::HEAD);
    let response = next.run(request).await;
    // A streamed answer has no known size, so it gets no tag.
    let whole = http_body::Body::size_hint(response.body()).exact().is_some();
    if !tagged || !whole || response.status() != StatusCode::OK {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    cacheable(&mut parts.headers, &etag_of(&body));
    Response::from_parts(parts, Body::from(body))
}

/// Middleware: answers 304 if the client already has the answer with this tag.
pub(crate) async fn unchanged(request: Request, next: Next) -> Response {
    let known: Option<HeaderValue> = request.headers().get(header::IF_NONE_MATCH).cloned();
    let mut response = next.run(request).await;
    let matches = match (&known, response.headers().get(header::ETAG)) {
        (Some(known), Some(etag)) => {
            let known = known.to_str().unwrap_or_default();
            known.split(',').map(str::trim).any(|tag| tag == "*" || tag.as_bytes() == etag.as_bytes())
        }
        _ => false,
    };
    if matches && response.status() == StatusCode::OK {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Body::empty();
        response.headers_mut().remove(header::CONTENT_TYPE);
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    response
}

/// Weak, because compression changes the bytes.
fn etag_of(body: &Bytes) -> String {
    let digest = Sha256::digest(body);
    let hex = hex::encode(&digest[..16]);
    format!("W/\"{hex}\"")
}

fn cacheable(headers: &mut HeaderMap, etag: &str) {
    if let Ok(etag) = HeaderValue::from_str(etag) {
        headers.insert(header::ETAG, etag);
    }
    // The browser may keep the answer, but asks the daemon each time whether it is still current.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.append(header::VARY, HeaderValue::from_static("authorization, cookie"));
}

/// Middleware: counts answers by route and class of status, and measures their time.
pub(crate) async fn count(request: Request, next: Next) -> Response {
    // The route's pattern, not the path, so that the label's values are bounded.
    let route = request.extensions().get::<MatchedPath>().map_or("(none)".to_owned(), |path| path.as_str().to_owned());
    let began = Instant::now();
    let response = next.run(request).await;
    histogram!(registry::HTTP_SECONDS, "route" => route.clone()).record(began.elapsed());
    let class = match response.status().as_u16() {
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        _ => "5xx",
    };
    counter!(registry::HTTP_RESPONSES, "route" => route, "status" => class).increment(1);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_a_number_with_all_of_its_digits() {
        for text in
            ["0.1", "12345678901234567890.123456789012345678", "-0.000000000000000001", "0", "0.30000000000000004"]
        {
            let number = Number(Usd::parse(text).unwrap());
            assert_eq!(json::to_string(&number).unwrap(), text);
        }
    }
}
