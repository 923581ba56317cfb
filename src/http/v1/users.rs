//! `GET /api/v1/users` and `GET /api/v1/users/{id}`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::SharedDaemon;
use crate::http::admin::users::Order;
use crate::http::answer::{Failures, Json};
use crate::http::csv::{self, Format, NextPage, Page, PageFuture};
use crate::http::error::{ApiError, ErrorBody};
use crate::http::parameters::{Name, Parameters, ROLLUP_DAYS_MAX, day_range, limit, text};
use tallyd_store::queries::users::cursor::Cursor;
use tallyd_store::queries::users::list::List;
use tallyd_store::queries::users::{CountIs, UserDay, UserQuestion, UserSort, UserTotals, days};

const USERS: i64 = 100;
const USERS_MAX: i64 = 1_000;
const DAYS: u64 = 30;

/// Which users.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct UserParameters {
    /// Only users whose id begins with this, as it is written, or of whom a shown column contains it. Of more than 1,000, only the first by id are
    /// found.
    #[param(max_length = 512)]
    search: Option<String>,
    /// The sort column; `cost` by default.
    #[param(inline)]
    sort: Option<UserSort>,
    /// The sort direction; `desc` by default.
    #[param(inline)]
    order: Option<Order>,
    /// Users of a page; 100 if nothing is said.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<i64>,
    /// Where the page begins: `next` of the page before, in the same order.
    #[param(max_length = 640)]
    cursor: Option<String>,
    /// `json` or `csv`. A CSV file has all users, regardless of `limit`.
    #[param(inline)]
    format: Option<Format>,
}

/// A page of users.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Users {
    /// The users, with their lifetime totals.
    pub users: Vec<UserTotals>,
    /// How many there are on all pages.
    pub total: i64,
    /// What `total` is. Up to 5,000 users are counted.
    pub total_is: CountIs,
    /// Whether the application's table of users was joined; without it only users with calls are known, and only by their ids.
    pub joined: bool,
    /// Null where the list has every call that is loaded. Otherwise many calls are being loaded, and the list, its order and its sums have
    /// the calls that were loaded until then; later ones may be missing. `GET /api/v1/users/{id}` always has all.
    pub as_of: Option<DateTime<Utc>>,
    /// The `cursor` of the next page; null after the last. A page may have fewer users than `limit` and still have a next one.
    pub next: Option<String>,
}

const COLUMNS: &[&str] = &[
    "id",
    "shown",
    "total_calls",
    "total_claude_calls",
    "total_rentcast_calls",
    "errors",
    "unpriced_calls",
    "cost_usd",
    "first_call_at",
    "last_call_at",
    "profile",
];

fn page(daemon: SharedDaemon, mut question: UserQuestion) -> PageFuture {
    Box::pin(async move {
        let reading = daemon.reading().await?;
        let found = List::open(&reading, &daemon.settings.users).await?.page(&question).await?;
        reading.finish().await?;
        question.after = found.next;
        let more = question.after.is_some();
        let next = more.then(|| -> NextPage { Box::new(move || page(daemon, question)) });
        Ok(Page { rows: csv::objects(&found.users)?, next })
    })
}

/// A cursor of the list in this order.
///
/// # Errors
/// If the text is another.
pub(crate) fn cursor(sort: UserSort, text: Option<&str>) -> Result<Option<Cursor>, ApiError> {
    let wrong =
        |_| ApiError::parameter("cursor", "it is none of this list in this order", "take `next` of the page before");
    text.map(|text| Cursor::read(text, sort).map_err(wrong)).transpose()
}

/// Users with their lifetime totals.
#[utoipa::path(get, path = "/api/v1/users", tag = "users", params(UserParameters),
    responses((status = 200, description = "A page", content((Users = "application/json"), (String = "text/csv"))), Failures))]
pub(crate) async fn users(
    State(daemon): State<SharedDaemon>,
    Parameters(parameters): Parameters<UserParameters>,
) -> Result<Response, ApiError> {
    let sort = parameters.sort.unwrap_or_default();
    let mut question = UserQuestion {
        search: text("search", parameters.search)?.filter(|search| !search.is_empty()),
        sort,
        descending: parameters.order != Some(Order::Asc),
        limit: limit(parameters.limit, USERS, USERS_MAX)?.unsigned_abs() as usize,
        after: cursor(sort, parameters.cursor.as_deref())?,
    };
    if parameters.format == Some(Format::Csv) {
        (question.after, question.limit) = (None, csv::PAGE.unsigned_abs() as usize);
        let first = page(daemon, question).await?;
        return Ok(csv::stream("users", COLUMNS, first));
    }
    let reading = daemon.reading().await?;
    let list = List::open(&reading, &daemon.settings.users).await?;
    let (found, count) = (list.page(&question).await?, list.count(question.search.as_deref()).await?);
    let (joined, as_of) = (list.is_joined(), list.as_of());
    reading.finish().await?;
    let next = found.next.map(|cursor| cursor.to_string());
    Ok(Json(Users { users: found.users, total: count.users, total_is: count.is, joined, as_of, next }).into_response())
}

/// Which days of the user.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct UserDaysParameters {
    /// Number of days up to today; 30 by default.
    #[param(minimum = 1, maximum = 3660)]
    days: Option<u64>,
    /// The first day, `YYYY-MM-DD`.
    #[param(format = Date)]
    from: Option<String>,
    /// The last day, included.
    #[param(format = Date)]
    to: Option<String>,
}

/// A user in detail.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct UserDetail {
    /// The lifetime totals.
    #[serde(flatten)]
    pub totals: UserTotals,
    /// The days of the range that have calls, newest first.
    pub days: Vec<UserDay>,
}

/// One user: lifetime totals, and days.
#[utoipa::path(get, path = "/api/v1/users/{id}", tag = "users",
    params(("id" = String, Path, description = "The user's id", max_length = 512), UserDaysParameters),
    responses((status = 200, description = "The user", body = UserDetail),
        (status = 404, description = "Nobody of this id is known", body = ErrorBody), Failures))]
pub(crate) async fn user(
    State(daemon): State<SharedDaemon>,
    Name(id): Name,
    Parameters(parameters): Parameters<UserDaysParameters>,
) -> Result<Json<UserDetail>, ApiError> {
    let range = (parameters.days, parameters.from.as_deref(), parameters.to.as_deref());
    let (from, to) = day_range(&daemon, range, DAYS, ROLLUP_DAYS_MAX)?;
    let reading = daemon.reading().await?;
    let totals = List::open(&reading, &daemon.settings.users).await?.one(&id).await?;
    let days = days(&reading, &id, from, to).await?;
    reading.finish().await?;
    let nobody = || ApiError::not_found("no user of this id is known", "GET /api/v1/users?search=… finds users");
    Ok(Json(UserDetail { totals: totals.ok_or_else(nobody)?, days }))
}
