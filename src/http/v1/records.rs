//! `GET /api/v1/records`: single calls, searched in the call log.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::http::SharedDaemon;
use crate::http::answer::{Failures, Json};
use crate::http::csv::{self, Format, NextPage, Page, PageFuture};
use crate::http::error::ApiError;
use crate::http::parameters::{LIMIT_MAX, Parameters, instant, limit, now, text};
use tallyd_model::pricing::normalise_provider;
use tallyd_store::queries::grouped::{Dimension, LOG_DAYS_MAX};
use tallyd_store::queries::names::unseen;
use tallyd_store::queries::records::{COLUMNS, RecordRow, RecordSearch, time_of};

const RECORDS: i64 = 100;

/// The filters.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SearchParameters {
    /// Not before: RFC 3339, or a day. By default a day before `to`.
    #[param(max_length = 40)]
    from: Option<String>,
    /// Before; now if nothing is said. At most 31 days after `from`.
    #[param(max_length = 40)]
    to: Option<String>,
    /// Only this provider.
    #[param(max_length = 512)]
    provider: Option<String>,
    /// Only this model.
    #[param(max_length = 512)]
    model: Option<String>,
    /// Only this endpoint.
    #[param(max_length = 512)]
    endpoint: Option<String>,
    /// Only this user.
    #[param(max_length = 512)]
    user_id: Option<String>,
    /// Only this application.
    #[param(max_length = 512)]
    app: Option<String>,
    /// Only this id of the provider's. It has no index: the calls of the range are read, newest first.
    #[param(max_length = 512)]
    request_id: Option<String>,
    /// Only this call. With an id of version 7, as clients and the daemon make it, and without `from` and `to`, the range is the day before
    /// the time that the id has.
    id: Option<Uuid>,
    /// Only calls with a status of 400 and above, or only others.
    errors: Option<bool>,
    /// Only unpriced calls, or only others.
    unpriced: Option<bool>,
    /// Where the page begins: `next` of the page before.
    #[param(max_length = 80)]
    cursor: Option<String>,
    /// Calls of a page; 100 if nothing is said. A page of 4 MiB ends earlier, with its `next`.
    #[param(minimum = 1, maximum = 10000)]
    limit: Option<i64>,
    /// `json` or `csv`. A CSV file has all calls, regardless of `limit`.
    #[param(inline)]
    format: Option<Format>,
}

/// A page of calls.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Records {
    /// The calls, newest first.
    pub records: Vec<RecordRow>,
    /// The `cursor` of the next page; null after the last.
    pub next: Option<String>,
    /// Where no call was found: which provider, model or endpoint of the query no call of these days has, with near names. Null
    /// otherwise. A hint: left out where it cannot be read.
    pub note: Option<String>,
}

fn cursor(row: &RecordRow) -> String {
    format!("{}_{}", row.occurred_at.timestamp_micros(), row.id)
}

fn parse_cursor(text: &str) -> Option<(DateTime<Utc>, Uuid)> {
    let (us, id) = text.split_once('_')?;
    let at = DateTime::from_timestamp_micros(us.parse().ok()?)?;
    // Cursors have only times that PostgreSQL can store.
    ((0..i64::MAX / 4).contains(&at.timestamp_micros())).then_some((at, id.parse().ok()?))
}

fn search_for(daemon: &SharedDaemon, parameters: SearchParameters) -> Result<RecordSearch, ApiError> {
    let to = parameters.to.as_deref().map(|to| instant(daemon, "to", to)).transpose()?;
    let made_at = parameters.id.and_then(time_of).filter(|_| to.is_none() && parameters.from.is_none());
    // Records may have times a little in the future.
    let to = to.unwrap_or_else(|| made_at.unwrap_or_else(|| now(daemon)) + TimeDelta::minutes(10));
    let from = parameters.from.as_deref().map(|from| instant(daemon, "from", from)).transpose()?;
    let from = from.unwrap_or(to - TimeDelta::days(1));
    // A constant within the range of the type.
    let longest = TimeDelta::days(LOG_DAYS_MAX as i64) + TimeDelta::hours(1);
    if from >= to || to - from > longest {
        let message = format!("the range is empty, or longer than {LOG_DAYS_MAX} days");
        return Err(ApiError::parameter("from", message, "search month by month"));
    }
    let after = parameters.cursor.as_deref().map(|cursor| {
        let wrong = || ApiError::parameter("cursor", "it is none of this endpoint's", "take `next` of the page before");
        parse_cursor(cursor).ok_or_else(wrong)
    });
    let provider = text("provider", parameters.provider)?.map(|name| normalise_provider(&name).into_owned());
    let equal = [
        ("provider", provider),
        ("model", text("model", parameters.model)?),
        ("endpoint", text("endpoint", parameters.endpoint)?),
        ("user_id", text("user_id", parameters.user_id)?),
        ("app", text("app", parameters.app)?),
        ("request_id", text("request_id", parameters.request_id)?),
    ];
    Ok(RecordSearch {
        from,
        to,
        equal: equal.into_iter().filter_map(|(column, value)| Some((column, value?))).collect(),
        id: parameters.id,
        errors: parameters.errors,
        unpriced: parameters.unpriced,
        after: after.transpose()?,
        limit: limit(parameters.limit, RECORDS, LIMIT_MAX)?,
    })
}

/// A page, and the cursor of the next one.
async fn find(daemon: &SharedDaemon, search: &RecordSearch) -> Result<(Vec<RecordRow>, Option<String>), ApiError> {
    let reading = daemon.reading().await?;
    let (rows, more) = search.page(&reading).await?;
    reading.finish().await?;
    let next = rows.last().filter(|_| more).map(cursor);
    Ok((rows, next))
}

/// A note on an empty answer: names of the search that no call has. Only names in a small rollup are checked: the page
/// searches again every few seconds, and applications or a million users would be read from large tables each time.
async fn note(daemon: &SharedDaemon, search: &RecordSearch) -> Result<Option<String>, ApiError> {
    let dimension = |column: &str| match column {
        "provider" => Some(Dimension::Provider),
        "model" => Some(Dimension::Model),
        "endpoint" => Some(Dimension::Endpoint),
        _ => None,
    };
    let named = search.equal.iter().filter_map(|(column, name)| Some((dimension(column)?, name.clone())));
    let zone = daemon.settings.zone;
    let day = |at: DateTime<Utc>| at.with_timezone(&zone).date_naive();
    let reading = daemon.reading().await?;
    let notes = unseen(&reading, &named.collect::<Vec<_>>(), (day(search.from), day(search.to)), zone).await?;
    reading.finish().await?;
    Ok((!notes.is_empty()).then(|| notes.join("; ")))
}

fn page(daemon: SharedDaemon, mut search: RecordSearch) -> PageFuture {
    Box::pin(async move {
        search.limit = csv::PAGE;
        let (rows, next) = find(&daemon, &search).await?;
        search.after = next.as_deref().and_then(parse_cursor);
        let next = next.map(|_| -> NextPage { Box::new(move || page(daemon, search)) });
        Ok(Page { rows: csv::objects(&rows)?, next })
    })
}

/// Single calls, newest first.
#[utoipa::path(get, path = "/api/v1/records", tag = "records", params(SearchParameters),
    responses((status = 200, description = "A page", content((Records = "application/json"), (String = "text/csv"))), Failures))]
pub(crate) async fn search(
    State(daemon): State<SharedDaemon>,
    Parameters(parameters): Parameters<SearchParameters>,
) -> Result<Response, ApiError> {
    let format = parameters.format.unwrap_or_default();
    let search = search_for(&daemon, parameters)?;
    if format == Format::Csv {
        let first = page(daemon, search).await?;
        return Ok(csv::stream("records", COLUMNS, first));
    }
    let (records, next) = find(&daemon, &search).await?;
    let note = if records.is_empty() && search.after.is_none() {
        note(&daemon, &search).await.unwrap_or_else(|error| {
            tracing::debug!(?error, "names that calls have could not be read");
            None
        })
    } else {
        None
    };
    Ok(Json(Records { records, next, note }).into_response())
}
