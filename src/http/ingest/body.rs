//! Bodies with gzip, in any number of members (RFC 1952). A reader of the first member alone would silently drop the
//! records of the others.

use std::io;
use std::sync::Arc;

use async_compression::tokio::bufread::GzipDecoder;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::TryStreamExt;
use tokio_util::io::{ReaderStream, StreamReader};

use crate::http::error::ApiError;
use crate::http::places::{self, RequestSlots};

enum Encoding {
    Plain,
    Gzip,
    Other,
}

impl Encoding {
    fn of(headers: &HeaderMap) -> Self {
        let mut said = headers.get_all(header::CONTENT_ENCODING).iter();
        let (first, more) = (said.next(), said.next());
        let name = first.map(|value| value.to_str().unwrap_or_default().trim().to_ascii_lowercase());
        match name.as_deref() {
            _ if more.is_some() => Self::Other,
            None | Some("" | "identity") => Self::Plain,
            Some("gzip" | "x-gzip") => Self::Gzip,
            Some(_) => Self::Other,
        }
    }
}

/// Middleware: hands on the decompressed body, piece by piece. The bound on a body's length holds for the decompressed
/// bytes.
pub(crate) async fn unpack(mut request: Request, next: Next) -> Response {
    match Encoding::of(request.headers()) {
        Encoding::Plain => {}
        Encoding::Gzip => {
            request.headers_mut().remove(header::CONTENT_ENCODING);
            request.headers_mut().remove(header::CONTENT_LENGTH);
            request = request.map(|body| {
                let packed = StreamReader::new(body.into_data_stream().map_err(io::Error::other));
                let mut decoder = GzipDecoder::new(packed);
                decoder.multiple_members(true);
                Body::from_stream(ReaderStream::new(decoder))
            });
        }
        Encoding::Other => {
            let message = "the body's Content-Encoding is not gzip";
            let error = ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_encoding",
                message,
                "send it with gzip, or as it is",
            );
            return ([(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"))], error).into_response();
        }
    }
    next.run(request).await
}

/// A body of up to this many bytes needs no place, since its answer is short in any case.
const TINY_BYTES: u64 = 1024;
/// A body of up to this many bytes is small.
const SMALL_BYTES: u64 = 64 * 1024;
/// Small requests at a time.
const SMALL_AT_ONCE: usize = 16;
/// Large requests at a time.
const LARGE_AT_ONCE: usize = 4;

pub(crate) struct Sizes {
    small: RequestSlots,
    large: RequestSlots,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { small: RequestSlots::new(SMALL_AT_ONCE), large: RequestSlots::new(LARGE_AT_ONCE) }
    }
}

/// Middleware: waits for a place, and keeps it until the answer has been taken.
pub(crate) async fn few(State(sizes): State<Arc<Sizes>>, request: Request, next: Next) -> Response {
    let places = match plain_bytes(request.headers()) {
        Some(0..=TINY_BYTES) => return next.run(request).await,
        Some(..=SMALL_BYTES) => &sizes.small,
        _ => &sizes.large,
    };
    let hint = "nothing of the request was taken: send it again, or in parts of up to 64 KiB, which are not held up";
    match places.take(request.extensions(), hint).await {
        Ok(place) => places::with(next.run(request).await, place),
        Err(busy) => busy.into_response(),
    }
}

/// The declared length of a body that is not compressed.
fn plain_bytes(headers: &HeaderMap) -> Option<u64> {
    let length = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()?;
    (!headers.contains_key(header::CONTENT_ENCODING)).then_some(length)
}
