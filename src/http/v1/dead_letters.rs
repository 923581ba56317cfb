//! `GET /api/v1/dead-letters`: what was refused, and why.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::database::queries::dead_letters::{self, DeadLetter, Filter};
use crate::http::answer::Failures;
use crate::http::csv::{self, Format, NextPage, Page, PageFuture};
use crate::http::error::ApiError;
use crate::http::parameters::{Parameters, limit, text, within};
use crate::http::router::Handle;

const LETTERS: i64 = 100;
const LETTERS_MAX: i64 = 1_000;

/// Which letters.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LetterParameters {
    /// `refused` or `poison`.
    #[param(max_length = 512)]
    kind: Option<String>,
    /// Only this reason.
    #[param(max_length = 512)]
    code: Option<String>,
    /// Only this producer.
    #[param(max_length = 512)]
    producer: Option<String>,
    /// Only letters with a lower number: `next` of the page before.
    #[param(minimum = 1, maximum = 9223372036854775807_i64)]
    before: Option<i64>,
    /// Letters of a page; 100 if nothing is said.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<i64>,
    /// `json` or `csv`. A CSV file has all letters, whatever `limit` says.
    #[param(inline)]
    format: Option<Format>,
}

/// A page of letters.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DeadLetters {
    /// The letters, newest first.
    pub dead_letters: Vec<DeadLetter>,
    /// `before` of the next page; null after the last.
    pub next: Option<i64>,
}

const COLUMNS: &[&str] = &[
    "id",
    "created_at",
    "kind",
    "code",
    "message",
    "field",
    "producer",
    "occurred_at",
    "payload_format",
    "payload_bytes",
    "payload",
];

async fn find(
    view: &Handle,
    filter: &Filter,
    before: Option<i64>,
    limit: i64,
) -> Result<(Vec<DeadLetter>, Option<i64>), ApiError> {
    let reading = view.reading().await?;
    let letters = dead_letters::page(&reading, filter, before, limit).await?;
    reading.finish().await?;
    let full = i64::try_from(letters.len()).unwrap_or(i64::MAX) >= limit;
    let next = letters.last().filter(|_| full).map(|letter| letter.id);
    Ok((letters, next))
}

fn page(view: Handle, filter: Filter, before: Option<i64>) -> PageFuture {
    Box::pin(async move {
        let (letters, next) = find(&view, &filter, before, csv::PAGE).await?;
        let next = next.map(|next| -> NextPage { Box::new(move || page(view, filter, Some(next))) });
        Ok(Page { rows: csv::objects(&letters)?, next })
    })
}

/// What was refused, and why; newest first.
#[utoipa::path(get, path = "/api/v1/dead-letters", tag = "records", params(LetterParameters),
    responses((status = 200, description = "A page", content((DeadLetters = "application/json"), (String = "text/csv"))), Failures))]
pub async fn dead_letters(
    State(view): State<Handle>,
    Parameters(parameters): Parameters<LetterParameters>,
) -> Result<Response, ApiError> {
    let filter = Filter {
        kind: text("kind", parameters.kind)?,
        code: text("code", parameters.code)?,
        producer: text("producer", parameters.producer)?,
    };
    let before = parameters.before.map(|before| within("before", before, 1, i64::MAX)).transpose()?;
    if parameters.format == Some(Format::Csv) {
        let first = page(view, filter, before).await?;
        return Ok(csv::stream("dead-letters", COLUMNS, first));
    }
    let limit = limit(parameters.limit, LETTERS, LETTERS_MAX)?;
    let (dead_letters, next) = find(&view, &filter, before, limit).await?;
    Ok(Json(DeadLetters { dead_letters, next }).into_response())
}
