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
use crate::http::parameters::{LIMIT_MAX, TaggedParameters, instant, limit, now, text};
use tallyd_model::pricing::normalise_provider;
use tallyd_store::amend::{AMENDED, Amendment, VOIDED, latest};
use tallyd_store::queries::grouped::{Dimension, LOG_DAYS_MAX};
use tallyd_store::queries::names::unseen;
use tallyd_store::queries::records::{COLUMNS, Place, RecordOrder, RecordRow, RecordSearch, time_of};

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
    /// The order: newest first (`time`, the default), dearest first or slowest first. By `cost` and `latency` the range is at most
    /// a day, and calls without that value are left out.
    #[param(inline)]
    sort: Option<RecordOrder>,
    /// Where the page begins: `next` of the page before.
    #[param(max_length = 120)]
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
    /// The calls, in the order asked for.
    pub records: Vec<RecordRow>,
    /// The last amendment of each amended or voided call of the page.
    pub amendments: Vec<Amendment>,
    /// The `cursor` of the next page; null after the last.
    pub next: Option<String>,
    /// Where no call was found: which provider, model or endpoint of the query no call of these days has, with near names. Null
    /// otherwise. A hint: left out where it cannot be read.
    pub note: Option<String>,
}

fn cursor(Place { value, at, id }: Place) -> String {
    let value = value.map(|value| format!("_{value}")).unwrap_or_default();
    format!("{}_{id}{value}", at.timestamp_micros())
}

fn parse_cursor(text: &str, order: RecordOrder) -> Option<Place> {
    let mut parts = text.split('_');
    let at = DateTime::from_timestamp_micros(parts.next()?.parse().ok()?)?;
    let id = parts.next()?.parse().ok()?;
    let value = parts.next().map(str::parse).transpose().ok()?;
    // Cursors have only times that PostgreSQL can store, and a value in the orders that have one.
    let is_ours = (0..i64::MAX / 4).contains(&at.timestamp_micros())
        && value.is_some() == (order != RecordOrder::Time)
        && parts.next().is_none();
    is_ours.then_some(Place { value, at, id })
}

fn search_for(
    daemon: &SharedDaemon,
    parameters: SearchParameters,
    tags: Vec<(String, String)>,
) -> Result<RecordSearch, ApiError> {
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
    let order = parameters.sort.unwrap_or_default();
    // A day in which clocks are put back has 25 hours.
    if order != RecordOrder::Time && to - from > TimeDelta::hours(25) {
        let message = "by cost or latency, the range is a day at most".to_owned();
        return Err(ApiError::parameter("sort", message, "search day by day, or leave `sort` out"));
    }
    let after = parameters.cursor.as_deref().map(|cursor| {
        let wrong = || ApiError::parameter("cursor", "it is none of this endpoint's", "take `next` of the page before");
        parse_cursor(cursor, order).ok_or_else(wrong)
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
    let mut tagged = Vec::new();
    for (name, value) in tags {
        let wrong = |fault: String| ApiError::parameter(&name, fault, "tag:team=search");
        let value = text(&name, Some(value))?.unwrap_or_default();
        match Dimension::parse(&name).map_err(wrong)? {
            Dimension::Tag(tag) => tagged.push((tag, value)),
            // `tag:app`, which is a field of its own.
            _ => return Err(wrong("the application is not a tag: write app=".to_owned())),
        }
    }
    Ok(RecordSearch {
        from,
        to,
        equal: equal.into_iter().filter_map(|(column, value)| Some((column, value?))).collect(),
        tags: tagged,
        id: parameters.id,
        errors: parameters.errors,
        unpriced: parameters.unpriced,
        order,
        after: after.transpose()?,
        limit: limit(parameters.limit, RECORDS, LIMIT_MAX)?,
    })
}

/// A page, and the cursor of the next one.
async fn find(daemon: &SharedDaemon, search: &RecordSearch) -> Result<Found, ApiError> {
    let reading = daemon.reading().await?;
    let (rows, more) = search.page(&reading).await?;
    let changed = rows.iter().filter(|row| [AMENDED, VOIDED].contains(&row.cost_source.as_str())).map(|row| row.id);
    let changed: Vec<Uuid> = changed.collect();
    let amendments = if changed.is_empty() { Vec::new() } else { latest(&reading, &changed).await? };
    reading.finish().await?;
    let next = rows.last().filter(|_| more).map(|row| cursor(search.place(row)));
    Ok(Found { rows, amendments, next })
}

/// A page of calls.
struct Found {
    rows: Vec<RecordRow>,
    amendments: Vec<Amendment>,
    next: Option<String>,
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
        let Found { rows, next, .. } = find(&daemon, &search).await?;
        search.after = next.as_deref().and_then(|next| parse_cursor(next, search.order));
        let next = next.map(|_| -> NextPage { Box::new(move || page(daemon, search)) });
        Ok(Page { rows: csv::objects(&rows)?, next })
    })
}

/// Single calls, searched in the call log.
///
/// A parameter `tag:team=search` shows the calls with that tag only; an empty value, those without it.
#[utoipa::path(get, path = "/api/v1/records", tag = "records", params(SearchParameters),
    responses((status = 200, description = "A page", content((Records = "application/json"), (String = "text/csv"))), Failures))]
pub(crate) async fn search(
    State(daemon): State<SharedDaemon>,
    TaggedParameters(parameters, tags): TaggedParameters<SearchParameters>,
) -> Result<Response, ApiError> {
    let format = parameters.format.unwrap_or_default();
    let search = search_for(&daemon, parameters, tags)?;
    if format == Format::Csv {
        let first = page(daemon, search).await?;
        return Ok(csv::stream("records", COLUMNS, first));
    }
    let Found { rows, amendments, next } = find(&daemon, &search).await?;
    let note = if rows.is_empty() && search.after.is_none() {
        note(&daemon, &search).await.unwrap_or_else(|error| {
            tracing::debug!(?error, "names that calls have could not be read");
            None
        })
    } else {
        None
    };
    Ok(Json(Records { records: rows, amendments, next, note }).into_response())
}
