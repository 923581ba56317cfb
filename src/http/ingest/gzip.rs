//! Bodies that come with gzip: as a stream of any number of members, as RFC 1952 has it. A reader of the first member alone would
//! drop the records of the others without a word.

use std::io;

use async_compression::tokio::bufread::GzipDecoder;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::TryStreamExt;
use tokio_util::io::{ReaderStream, StreamReader};

use crate::http::error::ApiError;

/// How a body is encoded.
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

/// Middleware: what is behind it reads the body as it was before it was compressed, piece by piece. The bound on a body's length
/// holds for what it reads.
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
