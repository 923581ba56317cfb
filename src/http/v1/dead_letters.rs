//! `GET /api/v1/dead-letters`, and `…/groups`: refused records with their reasons.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::Days;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::SharedDaemon;
use crate::http::answer::{Failures, Json};
use crate::http::csv::{self, Format, NextPage, Page, PageFuture};
use crate::http::error::ApiError;
use crate::http::parameters::{Parameters, limit, now, text, within};
use tallyd_store::dead_letters::{DeadLetter, Filter, Groups, Order, page_of};

const LETTERS: i64 = 100;
const LETTERS_MAX: i64 = 1_000;

/// Which letters.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LetterParameters {
    /// `refused` or `poison`.
    #[param(max_length = 512)]
    kind: Option<String>,
    /// Only this reason.
    #[param(max_length = 512)]
    code: Option<String>,
    /// Only this field; empty: those where no single field is at fault.
    #[param(max_length = 512)]
    field: Option<String>,
    /// Only this producer.
    #[param(max_length = 512)]
    producer: Option<String>,
    /// Only letters with a lower number: `next` of the page before.
    #[param(minimum = 1, maximum = 9223372036854775807_i64)]
    before: Option<i64>,
    /// Letters of a page; 100 if nothing is said.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<i64>,
    /// `json` or `csv`. A CSV file has all letters, regardless of `limit`.
    #[param(inline)]
    format: Option<Format>,
}

/// A page of letters.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct DeadLetters {
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
    "record",
];

async fn find(
    daemon: &SharedDaemon,
    filter: &Filter,
    before: Option<i64>,
    limit: i64,
) -> Result<(Vec<DeadLetter>, Option<i64>), ApiError> {
    let reading = daemon.reading().await?;
    // PostgreSQL applies this route's filters, so a page is full unless it is the last.
    let (letters, last) = page_of(&reading, filter, Order::NewestFirst, before, limit).await?;
    reading.finish().await?;
    let full = i64::try_from(letters.len()).unwrap_or(i64::MAX) >= limit;
    let next = last.filter(|_| full);
    Ok((letters, next))
}

fn page(daemon: SharedDaemon, filter: Filter, before: Option<i64>) -> PageFuture {
    Box::pin(async move {
        let (letters, next) = find(&daemon, &filter, before, csv::PAGE).await?;
        let next = next.map(|next| -> NextPage { Box::new(move || page(daemon, filter, Some(next))) });
        Ok(Page { rows: csv::objects(&letters)?, next })
    })
}

/// Refused records with their reasons, newest first.
#[utoipa::path(get, path = "/api/v1/dead-letters", tag = "records", params(LetterParameters),
    responses((status = 200, description = "A page", content((DeadLetters = "application/json"), (String = "text/csv"))), Failures))]
pub(crate) async fn dead_letters(
    State(daemon): State<SharedDaemon>,
    Parameters(parameters): Parameters<LetterParameters>,
) -> Result<Response, ApiError> {
    let filter = Filter {
        kind: text("kind", parameters.kind)?,
        codes: text("code", parameters.code)?.into_iter().collect(),
        field: text("field", parameters.field)?,
        producer: text("producer", parameters.producer)?,
        ..Filter::default()
    };
    let before = parameters.before.map(|before| within("before", before, 1, i64::MAX)).transpose()?;
    if parameters.format == Some(Format::Csv) {
        let first = page(daemon, filter, before).await?;
        return Ok(csv::stream("dead-letters", COLUMNS, first));
    }
    let limit = limit(parameters.limit, LETTERS, LETTERS_MAX)?;
    let (dead_letters, next) = find(&daemon, &filter, before, limit).await?;
    Ok(Json(DeadLetters { dead_letters, next }).into_response())
}

const DAYS: i64 = 7;
const DAYS_MAX: i64 = 366;
const GROUPS: i64 = 100;
const GROUPS_MAX: i64 = 1_000;

/// Which refusals.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct GroupParameters {
    /// Days of arrival (UTC), today included; 7 if nothing is said.
    #[param(minimum = 1, maximum = 366)]
    days: Option<i64>,
    /// Groups of the answer; 100 if nothing is said.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<i64>,
}

/// Refusals by reason, field and sender, with the letters that wait for a decision; the largest first.
#[utoipa::path(get, path = "/api/v1/dead-letters/groups", tag = "records", params(GroupParameters),
    responses((status = 200, description = "The groups", body = Groups), Failures))]
pub(crate) async fn groups(
    State(daemon): State<SharedDaemon>,
    Parameters(parameters): Parameters<GroupParameters>,
) -> Result<Json<Groups>, ApiError> {
    let days = within("days", parameters.days.unwrap_or(DAYS), 1, DAYS_MAX)?;
    let limit = limit(parameters.limit, GROUPS, GROUPS_MAX)?;
    let from = now(&daemon).date_naive() - Days::new(days.unsigned_abs() - 1);
    let reading = daemon.reading().await?;
    let groups = tallyd_store::dead_letters::groups(&reading, from, limit).await?;
    reading.finish().await?;
    Ok(Json(groups))
}
