//! `GET /api/user/all` and `GET /api/admin/user-stats`: users and what they have called.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::database::queries::users::{UserQuestion, UserSort, UserTotals};
use crate::http::answer::{Failures, Number};
use crate::http::error::ApiError;
use crate::http::parameters::{Parameters, limit, text, within};
use crate::http::router::Handle;

/// Users of a page.
const PAGE: i64 = 100;
const PAGE_MAX: i64 = 1_000;
const PAGES_MAX: i64 = 10_000;

/// Which users.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AllUsersParameters {
    /// The page, from 1 on.
    #[param(minimum = 1, maximum = 10000)]
    page: Option<i64>,
    /// Users of a page; 100 if nothing is said.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<i64>,
    /// Only users whose id or address contains this.
    #[param(max_length = 512)]
    search: Option<String>,
    /// What to order by; `cost` if nothing is said.
    #[param(inline)]
    sort: Option<UserSort>,
    /// `desc` if nothing is said.
    #[param(inline)]
    order: Option<Order>,
}

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// The smallest first.
    Asc,
    /// The largest first.
    Desc,
}

/// A user, with lifetime totals.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LegacyUser {
    /// The id.
    pub id: String,
    /// The address, if it is known.
    pub email: Option<String>,
    /// When they signed up, if it is known.
    pub created_at: Option<DateTime<Utc>>,
    /// When they last signed in, if it is known.
    pub last_sign_in_at: Option<DateTime<Utc>>,
    /// Calls of Claude.
    pub total_claude_calls: i64,
    /// Calls of RentCast.
    pub total_rentcast_calls: i64,
    /// All calls.
    pub total_calls: i64,
    /// What they cost, in USD.
    #[schema(value_type = f64)]
    pub total_cost: Number,
    /// The last call.
    pub last_call_at: Option<DateTime<Utc>>,
}

/// A page of users.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AllUsers {
    /// The users.
    pub users: Vec<LegacyUser>,
    /// How many there are in all.
    pub total: i64,
    /// This page.
    pub page: i64,
    /// Users of a page.
    pub limit: i64,
    /// Where the users come from: `auth.users`, or the calls alone.
    pub source: &'static str,
}

impl From<UserTotals> for LegacyUser {
    fn from(user: UserTotals) -> Self {
        Self {
            id: user.id,
            email: user.email,
            created_at: user.created_at,
            last_sign_in_at: user.last_sign_in_at,
            total_claude_calls: user.total_claude_calls,
            total_rentcast_calls: user.total_rentcast_calls,
            total_calls: user.total_calls,
            total_cost: Number(user.cost_usd),
            last_call_at: user.last_call_at,
        }
    }
}

/// Every user with their lifetime totals, a page at a time.
#[utoipa::path(get, path = "/api/user/all", tag = "admin", params(AllUsersParameters),
    responses((status = 200, description = "A page", body = AllUsers), Failures))]
pub async fn all(
    State(view): State<Handle>,
    Parameters(parameters): Parameters<AllUsersParameters>,
) -> Result<Json<AllUsers>, ApiError> {
    let limit = limit(parameters.limit, PAGE, PAGE_MAX)?;
    let page = within("page", parameters.page.unwrap_or(1), 1, PAGES_MAX)?;
    let question = UserQuestion {
        search: text("search", parameters.search)?.filter(|search| !search.is_empty()),
        id: None,
        sort: parameters.sort.unwrap_or_default(),
        descending: parameters.order != Some(Order::Asc),
        limit,
        offset: (page - 1) * limit,
    };
    let reading = view.reading().await?;
    let found = question.ask(&reading).await?;
    reading.finish().await?;
    let users = found.users.into_iter().map(LegacyUser::from).collect();
    let source = if found.joined { "auth.users" } else { "calls" };
    Ok(Json(AllUsers { users, total: found.total, page, limit, source }))
}

/// A user's totals.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserStat {
    /// The id.
    pub user_id: String,
    /// The address, if it is known.
    pub email: Option<String>,
    /// All calls.
    pub total_calls: i64,
    /// Calls of Claude.
    pub claude_calls: i64,
    /// Calls of RentCast.
    pub rentcast_calls: i64,
    /// What they cost, in USD.
    #[schema(value_type = f64)]
    pub total_cost: Number,
    /// The last call.
    pub last_call_at: Option<DateTime<Utc>>,
}

/// The users who cost most.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserStats {
    /// How many users there are.
    pub total_users: i64,
    /// The hundred who cost most, the most expensive first.
    pub users: Vec<UserStat>,
}

/// The users who cost most.
#[utoipa::path(get, path = "/api/admin/user-stats", tag = "admin",
    responses((status = 200, description = "The users", body = UserStats), Failures))]
pub async fn user_stats(State(view): State<Handle>) -> Result<Json<UserStats>, ApiError> {
    let question =
        UserQuestion { search: None, id: None, sort: UserSort::Cost, descending: true, limit: PAGE, offset: 0 };
    let reading = view.reading().await?;
    let found = question.ask(&reading).await?;
    reading.finish().await?;
    let stat = |user: UserTotals| UserStat {
        user_id: user.id,
        email: user.email,
        total_calls: user.total_calls,
        claude_calls: user.total_claude_calls,
        rentcast_calls: user.total_rentcast_calls,
        total_cost: Number(user.cost_usd),
        last_call_at: user.last_call_at,
    };
    Ok(Json(UserStats { total_users: found.total, users: found.users.into_iter().map(stat).collect() }))
}
