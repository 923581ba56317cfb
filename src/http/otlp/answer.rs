//! Answers in the request's encoding: an export response with its partial success, or a `google.rpc.Status`.

use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use prost::Message;
use serde::Serialize;
use serde_json::json;
use utoipa::{IntoResponses, ToSchema};

use crate::http::error::{ApiError, ErrorBody};
use tallyd_intake::otlp::document::Encoding;

/// Why nothing of a request was taken, as `google.rpc.Status`; in protobuf, where the request was.
#[derive(Serialize, ToSchema)]
pub(super) struct StatusBody {
    /// gRPC's code: 14 is to be tried again, 3 is not.
    #[schema(example = 3)]
    code: i32,
    /// The cause, for people.
    message: String,
}

/// An answer of the exporter's protocol, or of the check of tokens.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it documents; handlers answer with its parts")]
pub(super) enum Busy {
    /// The WAL is full, or the daemon stops.
    Exporter(StatusBody),
    /// The issuer of the token does not answer.
    Issuer(ErrorBody),
}

/// The failures that every export may have, besides faults of its body.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it documents")]
pub(super) enum ExportFailures {
    /// No valid token
    #[response(status = 401)]
    Unauthorized(#[to_schema] ErrorBody),
    /// The token does not allow this
    #[response(status = 403)]
    Forbidden(#[to_schema] ErrorBody),
    /// The body is too large
    #[response(status = 413)]
    TooLarge(#[to_schema] StatusBody),
    /// Too many failed attempts from this address
    #[response(status = 429)]
    TooMany(#[to_schema] ErrorBody),
    /// The WAL is full, the daemon stops, or the issuer of the token does not answer: to be sent again
    #[response(status = 503)]
    Unavailable(#[to_schema] Busy),
}

/// The number of items that were not taken, and the reason for the first.
#[derive(Debug, Default)]
pub(super) struct Rejected {
    pub count: u64,
    pub first: String,
}

#[derive(Message)]
struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

#[derive(Message)]
struct WireStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

impl Rejected {
    pub(super) fn add(&mut self, reason: &str) {
        if self.count == 0 {
            self.first = reason.to_owned();
        }
        self.count += 1;
    }

    fn summary(&self) -> String {
        match self.count {
            0 => String::new(),
            1 => self.first.clone(),
            more => format!("{}; and {} more", self.first, more - 1),
        }
    }

    /// The answer's message in protobuf.
    pub(super) fn message(&self) -> Vec<u8> {
        let partial = PartialSuccess { rejected: self.count as i64, error_message: self.summary() };
        ExportResponse { partial_success: (self.count > 0).then_some(partial) }.encode_to_vec()
    }

    /// Answers 200: all items but the rejected ones are durable.
    pub(super) fn answer(self, encoding: Encoding, field: &str) -> Response {
        let body = match encoding {
            Encoding::Json if self.count == 0 => b"{}".to_vec(),
            Encoding::Json => {
                json!({"partialSuccess": {field: self.count.to_string(), "errorMessage": self.summary()}})
                    .to_string()
                    .into_bytes()
            }
            Encoding::Protobuf => self.message(),
        };
        ([(header::CONTENT_TYPE, encoding.content_type())], body).into_response()
    }
}

/// Why nothing of a request was taken.
pub(super) struct ExportStatus {
    status: StatusCode,
    message: String,
}

impl ExportStatus {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub(super) fn code(&self) -> StatusCode {
        self.status
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn unreadable(rejection: &BytesRejection) -> Self {
        let message = "the body is too large, broke off, or does not match its Content-Encoding; http.max_body_bytes \
                       bounds it";
        Self::new(rejection.status(), message)
    }

    pub(super) fn answer(self, encoding: Encoding) -> Response {
        // gRPC's codes: UNAVAILABLE may be tried again, INVALID_ARGUMENT may not.
        let code = if self.status == StatusCode::SERVICE_UNAVAILABLE { 14 } else { 3 };
        let body = match encoding {
            Encoding::Json => json!(StatusBody { code, message: self.message }).to_string().into_bytes(),
            Encoding::Protobuf => WireStatus { code, message: self.message }.encode_to_vec(),
        };
        let mut response = (self.status, [(header::CONTENT_TYPE, encoding.content_type())], body).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// 503: each of these causes passes, such as a full WAL, a stop, or another attempt of the same request.
impl From<ApiError> for ExportStatus {
    fn from(error: ApiError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.message())
    }
}
