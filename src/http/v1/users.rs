//! `GET /api/v1/users` and `GET /api/v1/users/{id}`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::SharedDaemon;
use crate::http::admin::users::Order;
use crate::http::answer::{Failures, Json};
use crate::http::csv::{self, Format, NextPage, Page, PageFuture};
use crate::http::error::{ApiError, ErrorBody};
use crate::http::parameters::{Name, Parameters, ROLLUP_DAYS_MAX, day_range, limit, offset, text};
use tallyd_store::queries::users::{UserDay, UserPage, UserQuestion, UserSort, UserTotals, days};

const USERS: i64 = 100;
const USERS_MAX: i64 = 1_000;
const DAYS: u64 = 30;

/// Which users.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct UserParameters {
    /// Only users whose id or a shown column contains this.
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
    /// Users to skip.
    #[param(minimum = 0, maximum = 1000000)]
    offset: Option<i64>,
    /// `json` or `csv`. A CSV file has all users, regardless of `limit`.
    #[param(inline)]
    format: Option<Format>,
}

/// A page of users.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Users {
    /// The users, with their lifetime totals.
    pub users: Vec<UserTotals>,
    /// How many there are in all.
    pub total: i64,
    /// Whether the application's table of users was joined; without it only users with calls are known, and only by their ids.
    pub joined: bool,
    /// The `offset` of the next page; null after the last.
    pub next_offset: Option<i64>,
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

async fn ask(daemon: &SharedDaemon, question: &UserQuestion) -> Result<UserPage, ApiError> {
    let reading = daemon.reading().await?;
    let found = question.ask(&reading, &daemon.settings.users).await?;
    reading.finish().await?;
    Ok(found)
}

fn page(daemon: SharedDaemon, mut question: UserQuestion) -> PageFuture {
    Box::pin(async move {
        question.limit = csv::PAGE;
        let found = ask(&daemon, &question).await?;
        question.offset += csv::PAGE;
        let more = question.offset < found.total;
        let next = more.then(|| -> NextPage { Box::new(move || page(daemon, question)) });
        Ok(Page { rows: csv::objects(&found.users)?, next })
    })
}

/// Users with their lifetime totals.
#[utoipa::path(get, path = "/api/v1/users", tag = "users", params(UserParameters),
    responses((status = 200, description = "A page", content((Users = "application/json"), (String = "text/csv"))), Failures))]
pub(crate) async fn users(
    State(daemon): State<SharedDaemon>,
    Parameters(parameters): Parameters<UserParameters>,
) -> Result<Response, ApiError> {
    let question = UserQuestion {
        search: text("search", parameters.search)?.filter(|search| !search.is_empty()),
        id: None,
        sort: parameters.sort.unwrap_or_default(),
        descending: parameters.order != Some(Order::Asc),
        limit: limit(parameters.limit, USERS, USERS_MAX)?,
        offset: offset(parameters.offset)?,
    };
    if parameters.format == Some(Format::Csv) {
        let first = page(daemon, UserQuestion { offset: 0, ..question }).await?;
        return Ok(csv::stream("users", COLUMNS, first));
    }
    let UserPage { users, total, joined } = ask(&daemon, &question).await?;
    let next = question.offset + question.limit;
    Ok(Json(Users { users, total, joined, next_offset: (next < total).then_some(next) }).into_response())
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
    let question =
        UserQuestion { search: None, id: Some(id.clone()), sort: UserSort::Id, descending: false, limit: 1, offset: 0 };
    let reading = daemon.reading().await?;
    let totals = question.ask(&reading, &daemon.settings.users).await?.users.pop();
    let days = days(&reading, &id, from, to).await?;
    reading.finish().await?;
    let nobody = || ApiError::not_found("no user of this id is known", "GET /api/v1/users?search=… finds users");
    Ok(Json(UserDetail { totals: totals.ok_or_else(nobody)?, days }))
}
