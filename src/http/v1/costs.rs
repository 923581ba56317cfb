//! `GET /api/v1/costs`: costs of any range, grouped, in buckets of time.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::SharedDaemon;
use crate::http::admin::users::Order;
use crate::http::answer::{Failures, Json};
use crate::http::csv::{self, Format, NextPage, Page, PageFuture};
use crate::http::error::ApiError;
use crate::http::parameters::{ROLLUP_DAYS_MAX, TaggedParameters, day_range, limit, offset, text};
use tallyd_store::queries::grouped::{Bucket, CostQuery, Dimension, GroupRow, Groups, LOG_DAYS_MAX, SortBy, Source};

/// Days of an answer by default.
const DAYS: u64 = 30;
const ROWS: i64 = 1_000;
const ROWS_MAX: i64 = 10_000;

/// The parameters.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct CostParameters {
    /// Number of days up to today; 30 by default.
    #[param(minimum = 1, maximum = 3660)]
    days: Option<u64>,
    /// The first day, `YYYY-MM-DD`.
    #[param(format = Date)]
    from: Option<String>,
    /// The last day, included.
    #[param(format = Date)]
    to: Option<String>,
    /// The groups: `provider`, `model`, `endpoint`, `user`, `app`, or a tag: `tag:team`; several with commas. A tag that is a dimension is
    /// read from its rollup, by day and with provider and model; other tags and combinations from the call log: at most 31 days.
    #[param(
        max_length = 512,
        pattern = "^(provider|model|endpoint|user|app|tag:[A-Za-z0-9_.-]+)(,(provider|model|endpoint|user|app|tag:[A-Za-z0-9_.-]+))*$"
    )]
    group_by: Option<String>,
    /// The stretches of time; `day` if nothing is said. Hours by user, endpoint or application are read from the call log: at most 31 days.
    #[param(inline)]
    bucket: Option<Bucket>,
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
    user: Option<String>,
    /// Only this application. With an endpoint or a user, it is read from the call log: at most 31 days.
    #[param(max_length = 512)]
    app: Option<String>,
    /// The order; `bucket` by default.
    #[param(inline)]
    sort: Option<SortBy>,
    /// `asc` for buckets, otherwise `desc`, if nothing is said.
    #[param(inline)]
    order: Option<Order>,
    /// Rows of a page; 1,000 if nothing is said.
    #[param(minimum = 1, maximum = 10000)]
    limit: Option<i64>,
    /// Rows to skip.
    #[param(minimum = 0, maximum = 1000000)]
    offset: Option<i64>,
    /// `json` or `csv`. A CSV file has all rows, regardless of `limit`.
    #[param(inline)]
    format: Option<Format>,
}

/// The answer.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Costs {
    /// The first day.
    pub from: NaiveDate,
    /// The last day, included.
    pub to: NaiveDate,
    /// The zone of the days.
    pub time_zone: String,
    /// The stretches.
    pub bucket: Bucket,
    /// The table that was asked.
    pub source: Source,
    /// The first day whose sums by application, by tag and by hour are complete, if the range begins before that day; null otherwise. Calls
    /// that were dropped from the call log before tallyd kept these sums are not in them, and calls before a tag became a dimension are
    /// counted in the background.
    pub whole_from: Option<NaiveDate>,
    /// Null where the sums have every call that is loaded. While many calls are being loaded, users in descending order of cost or calls have
    /// the calls that were loaded until then; later ones may be missing.
    pub as_of: Option<DateTime<Utc>>,
    /// The groups.
    pub rows: Vec<GroupRow>,
    /// The `offset` of the next page; null after the last.
    pub next_offset: Option<i64>,
}

/// A file's columns before those of tags, and after them.
const NAMES: &[&str] = &["bucket", "provider", "model", "endpoint", "user", "app"];
const SUMS: &[&str] = &[
    "calls",
    "errors",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "requests",
    "cost_usd",
    "unpriced_calls",
    csv::ZONE,
];

async fn question(
    daemon: &SharedDaemon,
    parameters: CostParameters,
    tags: Vec<(String, String)>,
) -> Result<CostQuery, ApiError> {
    let hint = "group_by=provider,model: each of provider, model, endpoint, user, app and tags (tag:team) at most once";
    let mut group_by = Vec::new();
    for name in parameters.group_by.as_deref().unwrap_or_default().split(',').filter(|name| !name.is_empty()) {
        let dimension = Dimension::parse(name).map_err(|fault| ApiError::parameter("group_by", fault, hint))?;
        if group_by.contains(&dimension) {
            return Err(ApiError::parameter("group_by", format!("{name} is there twice"), hint));
        }
        group_by.push(dimension);
    }
    let mut filters = Vec::new();
    for (name, value) in tags {
        let dimension =
            Dimension::parse(&name).map_err(|fault| ApiError::parameter(&name, fault, "tag:team=search"))?;
        filters.push((dimension, text(&name, Some(value))?));
    }
    filters.extend([
        (Dimension::Provider, text("provider", parameters.provider)?),
        (Dimension::Model, text("model", parameters.model)?),
        (Dimension::Endpoint, text("endpoint", parameters.endpoint)?),
        (Dimension::User, text("user", parameters.user)?),
        (Dimension::App, text("app", parameters.app)?),
    ]);
    let sort = parameters.sort.unwrap_or_default();
    let order = parameters.order.unwrap_or(if sort == SortBy::Bucket { Order::Asc } else { Order::Desc });
    let mut question = CostQuery {
        from: NaiveDate::default(),
        to: NaiveDate::default(),
        zone: daemon.settings.zone.name().to_owned(),
        bucket: parameters.bucket.unwrap_or_default(),
        group_by,
        filters: filters.into_iter().filter_map(|(dimension, value)| Some((dimension, value?))).collect(),
        dimensions: Vec::new(),
        sort,
        descending: order == Order::Desc,
        limit: limit(parameters.limit, ROWS, ROWS_MAX)?,
        offset: offset(parameters.offset)?,
    };
    if question.has_tags() {
        let reading = daemon.reading().await?;
        question.learn(&reading).await?;
        reading.finish().await?;
    }
    let why = question.why_of_the_log();
    let (default, max) = if why.is_some() { (1, LOG_DAYS_MAX) } else { (DAYS, ROLLUP_DAYS_MAX) };
    let range = (parameters.days, parameters.from.as_deref(), parameters.to.as_deref());
    let asked = day_range(daemon, range, default, max);
    // A range that a rollup could answer: the reason stands in the way.
    (question.from, question.to) = match (asked, why) {
        (Err(_), Some(why)) if day_range(daemon, range, default, ROLLUP_DAYS_MAX).is_ok() => {
            return Err(ApiError::parameter("group_by", why, "ask for a shorter range, or group by less"));
        }
        (asked, _) => asked?,
    };
    Ok(question)
}

async fn ask(daemon: &SharedDaemon, question: &CostQuery) -> Result<(Groups, Option<NaiveDate>), ApiError> {
    let reading = daemon.reading().await?;
    let groups = question.ask(&reading).await?;
    let whole_from = question.whole_from(&reading).await?;
    reading.finish().await?;
    Ok((groups, whole_from))
}

fn page(daemon: SharedDaemon, mut question: CostQuery) -> PageFuture {
    Box::pin(async move {
        let zone = daemon.settings.zone;
        question.limit = csv::PAGE;
        let (Groups { rows, .. }, _) = ask(&daemon, &question).await?;
        let full = i64::try_from(rows.len()).unwrap_or(i64::MAX) == csv::PAGE;
        question.offset += csv::PAGE;
        let next = full.then(|| -> NextPage { Box::new(move || page(daemon, question)) });
        Ok(Page { rows: csv::zoned_objects(&rows, zone)?, next })
    })
}

/// Costs of any range, grouped, in buckets of time.
///
/// A parameter `tag:team=search` shows the calls with that tag only; an empty value, those without it.
#[utoipa::path(get, path = "/api/v1/costs", tag = "costs", params(CostParameters),
    responses((status = 200, description = "The groups", content((Costs = "application/json"), (String = "text/csv"))), Failures))]
pub(crate) async fn costs(
    State(daemon): State<SharedDaemon>,
    TaggedParameters(parameters, tags): TaggedParameters<CostParameters>,
) -> Result<Response, ApiError> {
    let format = parameters.format.unwrap_or_default();
    let mut question = question(&daemon, parameters, tags).await?;
    if format == Format::Csv {
        question.offset = 0;
        let tags = question.group_by.iter().filter(|dimension| matches!(dimension, Dimension::Tag(_)));
        let tags: Vec<String> = tags.map(Dimension::name).collect();
        let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        let first = page(daemon, question).await?;
        return Ok(csv::stream("costs", &[NAMES, &tags[..], SUMS].concat(), first));
    }
    // One row more than the page shows whether there is another page.
    question.limit += 1;
    let (Groups { mut rows, as_of }, whole_from) = ask(&daemon, &question).await?;
    question.limit -= 1;
    let more = i64::try_from(rows.len()).unwrap_or(i64::MAX) > question.limit;
    rows.truncate(usize::try_from(question.limit).unwrap_or(usize::MAX));
    let next_offset = more.then_some(question.offset + question.limit);
    let source = question.source();
    let CostQuery { from, to, zone, bucket, .. } = question;
    Ok(Json(Costs { from, to, time_zone: zone, bucket, source, whole_from, as_of, rows, next_offset }).into_response())
}
