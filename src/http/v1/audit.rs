//! `GET /api/v1/audit`: changes with their authors.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::SharedDaemon;
use crate::http::answer::{Failures, Json};
use crate::http::csv::{self, Format, NextPage, Page, PageFuture};
use crate::http::error::ApiError;
use crate::http::parameters::{Parameters, limit, within};
use tallyd_store::queries::audit::{self, AuditEntry};

const ENTRIES: i64 = 100;
const ENTRIES_MAX: i64 = 1_000;

/// Which entries.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuditParameters {
    /// Only entries with a lower number: `next` of the page before.
    #[param(minimum = 1, maximum = 9223372036854775807_i64)]
    before: Option<i64>,
    /// Entries of a page; 100 if nothing is said.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<i64>,
    /// `json` or `csv`. A CSV file has all entries, regardless of `limit`.
    #[param(inline)]
    format: Option<Format>,
}

/// A page of entries.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Audit {
    /// The entries, newest first.
    pub entries: Vec<AuditEntry>,
    /// `before` of the next page; null after the last.
    pub next: Option<i64>,
}

const COLUMNS: &[&str] = &["id", "at", "actor", "address", "action", "object", "old_value", "new_value"];

async fn find(
    daemon: &SharedDaemon,
    before: Option<i64>,
    limit: i64,
) -> Result<(Vec<AuditEntry>, Option<i64>), ApiError> {
    let reading = daemon.reading().await?;
    let entries = audit::page(&reading, before, limit).await?;
    reading.finish().await?;
    let full = i64::try_from(entries.len()).unwrap_or(i64::MAX) >= limit;
    let next = entries.last().filter(|_| full).map(|entry| entry.id);
    Ok((entries, next))
}

fn page(daemon: SharedDaemon, before: Option<i64>) -> PageFuture {
    Box::pin(async move {
        let (entries, next) = find(&daemon, before, csv::PAGE).await?;
        let next = next.map(|next| -> NextPage { Box::new(move || page(daemon, Some(next))) });
        Ok(Page { rows: csv::objects(&entries)?, next })
    })
}

/// The audit log, newest first.
#[utoipa::path(get, path = "/api/v1/audit", tag = "pipeline", params(AuditParameters),
    responses((status = 200, description = "A page", content((Audit = "application/json"), (String = "text/csv"))), Failures))]
pub(crate) async fn audit(
    State(daemon): State<SharedDaemon>,
    Parameters(parameters): Parameters<AuditParameters>,
) -> Result<Response, ApiError> {
    let before = parameters.before.map(|before| within("before", before, 1, i64::MAX)).transpose()?;
    if parameters.format == Some(Format::Csv) {
        let first = page(daemon, before).await?;
        return Ok(csv::stream("audit", COLUMNS, first));
    }
    let limit = limit(parameters.limit, ENTRIES, ENTRIES_MAX)?;
    let (entries, next) = find(&daemon, before, limit).await?;
    Ok(Json(Audit { entries, next }).into_response())
}
