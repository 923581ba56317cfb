//! Bodies of requests: JSON, read strictly, with errors that name the fault.

use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, de};

use super::error::ApiError;
use super::serve::TooSlow;
use tallyd_model::json;
use tallyd_model::pricing::Usd;

pub(crate) struct JsonBody<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = Bytes::from_request(request, state).await.map_err(unreadable)?;
        let read = json::from_slice(&bytes);
        read.map(Self).map_err(|error| ApiError::body(error.to_string(), "send one JSON object; see /api/docs"))
    }
}

/// The declared media type of a body; empty if none is declared.
#[must_use]
pub(crate) fn content_type(headers: &HeaderMap) -> &str {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[must_use]
pub(crate) fn unreadable(rejection: BytesRejection) -> ApiError {
    if is_too_slow(&rejection) {
        let hint = "send it faster: it must be whole within a minute, and within seconds before a token was shown";
        return ApiError::new(StatusCode::REQUEST_TIMEOUT, "too_slow", "the body took too long", hint);
    }
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        let hint = "send it in parts, or raise http.max_body_bytes";
        return ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the body is too large", hint);
    }
    ApiError::body("the body broke off, or does not match its Content-Encoding", "send it again")
}

fn is_too_slow(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|cause| cause.is::<TooSlow>())
}

/// An amount: a JSON number, read digit by digit, or decimal text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amount(pub(crate) Usd);

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match json::Value::deserialize(deserializer)? {
            json::Value::Number(digits) => digits.into_string(),
            json::Value::String(text) => text,
            _ => return Err(de::Error::custom("an amount is a number or decimal text")),
        };
        Usd::parse(&text).map(Self).map_err(de::Error::custom)
    }
}

impl Amount {
    /// The amount, within the range of a record's cost.
    ///
    /// # Errors
    /// If it is negative or above 10^9.
    pub(crate) fn not_negative(self, name: &str) -> Result<Usd, ApiError> {
        if self.0 < Usd::ZERO || !self.0.fits_a_record() {
            let message = format!("{name}: {} is not within 0 and 1000000000", self.0);
            return Err(ApiError::body(message, "send an amount in USD"));
        }
        Ok(self.0)
    }
}
