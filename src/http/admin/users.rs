//! `GET /api/user/all` and `GET /api/admin/user-stats`: users with their calls, as lists.
//!
//! Both answer with a JSON array of one page. `X-Total-Count` has the number of users on all pages, and `Link` (RFC
//! 8288) the neighbouring pages.

use axum::extract::State;
use axum::http::header::LINK;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, Serializer};
use utoipa::{IntoParams, ToSchema};

use crate::http::SharedDaemon;
use crate::http::answer::{Failures, Json, Number};
use crate::http::error::ApiError;
use crate::http::parameters::{Parameters, limit, text, within};
use tallyd_model::json::{self, Raw};
use tallyd_store::queries::users::{Profile, UserPage, UserQuestion, UserSort, UserTotals, calls_of_endpoint};
use tallyd_store::whole::Whole;

/// Users of a page by default.
const PAGE: i64 = 100;
const PAGE_MAX: i64 = 1_000;
const PAGES_MAX: i64 = 10_000;

/// The number of users on all pages.
pub(crate) const TOTAL_COUNT: HeaderName = HeaderName::from_static("x-total-count");

/// Which users.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AllUsersParameters {
    /// The page, from 1 on.
    #[param(minimum = 1, maximum = 10000)]
    page: Option<i64>,
    /// Users of a page; 100 if nothing is said.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<i64>,
    /// Only users whose id or a shown column contains this.
    #[param(max_length = 512)]
    search: Option<String>,
    /// The sort column; `cost` by default.
    #[param(inline)]
    sort: Option<UserSort>,
    /// The sort direction; `desc` by default.
    #[param(inline)]
    order: Option<Order>,
}

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Order {
    /// The smallest first.
    Asc,
    /// The largest first.
    Desc,
}

/// A page of users, and the headers that describe the others.
struct Page {
    found: UserPage,
    headers: HeaderMap,
}

async fn page(daemon: &SharedDaemon, parameters: AllUsersParameters, uri: &Uri) -> Result<Page, ApiError> {
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
    let reading = daemon.reading().await?;
    let found = question.ask(&reading, &daemon.settings.users).await?;
    reading.finish().await?;
    let mut headers = HeaderMap::new();
    headers.insert(TOTAL_COUNT, found.total.into());
    if let Some(links) = links(uri, page, found.total, limit) {
        headers.insert(LINK, links);
    }
    Ok(Page { found, headers })
}

/// Links to the neighbouring pages: this request's path and parameters with another page.
fn links(uri: &Uri, page: i64, total: i64, limit: i64) -> Option<HeaderValue> {
    let kept = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("page="));
    let kept: String = kept.map(|pair| format!("{pair}&")).collect();
    let link = |page: i64, relation: &str| format!("<{}?{kept}page={page}>; rel=\"{relation}\"", uri.path());
    let previous = (page > 1).then(|| link(page - 1, "prev"));
    let next = (page.saturating_mul(limit) < total && page < PAGES_MAX).then(|| link(page + 1, "next"));
    let links: Vec<String> = previous.into_iter().chain(next).collect();
    // A request's path and query are ASCII.
    if links.is_empty() { None } else { HeaderValue::from_str(&links.join(", ")).ok() }
}

/// A user with lifetime totals, beside the columns of `users.columns` under their own names.
#[derive(Debug, Clone)]
pub(crate) struct LegacyUser {
    profile: Profile,
    totals: LegacyTotals,
}

/// A user's lifetime totals.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct LegacyTotals {
    /// The id.
    pub id: String,
    /// Calls of Claude.
    pub total_claude_calls: Whole,
    /// Calls of RentCast.
    pub total_rentcast_calls: Whole,
    /// All calls.
    pub total_calls: Whole,
    /// Their cost, in USD.
    #[schema(value_type = f64)]
    pub total_cost: Number,
    /// The last call.
    pub last_call_at: Option<DateTime<Utc>>,
}

impl Serialize for LegacyUser {
    /// One object: the table's columns, then the totals. A total wins over a column of the same name.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::Error;
        let totals = json::to_string(&self.totals).map_err(S::Error::custom)?;
        let object = self.profile.0.trim();
        let columns = object.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default().trim();
        let separator = if columns.is_empty() { "" } else { "," };
        let object = format!("{{{columns}{separator}{}", &totals[1..]);
        Raw::checked(&object).ok_or_else(|| S::Error::custom("the profile is not a JSON object"))?.serialize(serializer)
    }
}

impl From<UserTotals> for LegacyUser {
    fn from(user: UserTotals) -> Self {
        let totals = LegacyTotals {
            id: user.id,
            total_claude_calls: user.total_claude_calls,
            total_rentcast_calls: user.total_rentcast_calls,
            total_calls: user.total_calls,
            total_cost: Number(user.cost_usd),
            last_call_at: user.last_call_at,
        };
        Self { profile: user.profile, totals }
    }
}

/// Users with their lifetime totals: a list, a page at a time, the one who cost most first unless told otherwise.
#[utoipa::path(get, path = "/api/user/all", tag = "admin", params(AllUsersParameters),
    responses((status = 200, description = "A page", body = Vec<LegacyTotals>,
        headers(("x-total-count" = i64, description = "Users on all pages"), ("link" = String, description = "The neighbouring pages"))), Failures))]
pub(crate) async fn all(
    State(daemon): State<SharedDaemon>,
    uri: Uri,
    Parameters(parameters): Parameters<AllUsersParameters>,
) -> Result<(HeaderMap, Json<Vec<LegacyUser>>), ApiError> {
    let Page { found, headers } = page(&daemon, parameters, &uri).await?;
    Ok((headers, Json(found.users.into_iter().map(LegacyUser::from).collect())))
}

/// A user's lifetime calls.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UserStat {
    /// The id.
    pub user_id: String,
    /// The shown name, an e-mail address for example; null if it is not known.
    pub shown: Option<String>,
    /// All calls.
    pub total_calls: Whole,
    /// Calls of Claude.
    pub claude_calls: Whole,
    /// Calls of RentCast.
    pub rentcast_calls: Whole,
    /// Calls of the endpoint that `http.analysis_endpoint` names, of those that the call log still holds.
    pub analysis_calls: i64,
    /// Cost of all calls, in USD.
    #[schema(value_type = f64)]
    pub total_cost: Number,
    /// The last call.
    pub last_call_at: Option<DateTime<Utc>>,
}

/// Users' lifetime calls: a list, a page at a time, the user who cost most first unless told otherwise.
#[utoipa::path(get, path = "/api/admin/user-stats", tag = "admin", params(AllUsersParameters),
    responses((status = 200, description = "A page", body = Vec<UserStat>,
        headers(("x-total-count" = i64, description = "Users on all pages"), ("link" = String, description = "The neighbouring pages"))), Failures))]
pub(crate) async fn user_stats(
    State(daemon): State<SharedDaemon>,
    uri: Uri,
    Parameters(parameters): Parameters<AllUsersParameters>,
) -> Result<(HeaderMap, Json<Vec<UserStat>>), ApiError> {
    let Page { found, headers } = page(&daemon, parameters, &uri).await?;
    let ids: Vec<&str> = found.users.iter().map(|user| user.id.as_str()).collect();
    let reading = daemon.reading().await?;
    let analyses = calls_of_endpoint(&reading, &daemon.settings.analysis_endpoint, &ids).await?;
    reading.finish().await?;
    let stat = |user: UserTotals| UserStat {
        analysis_calls: analyses.get(&user.id).copied().unwrap_or_default(),
        user_id: user.id,
        shown: user.shown,
        total_calls: user.total_calls,
        claude_calls: user.total_claude_calls,
        rentcast_calls: user.total_rentcast_calls,
        total_cost: Number(user.cost_usd),
        last_call_at: user.last_call_at,
    };
    Ok((headers, Json(found.users.into_iter().map(stat).collect())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_the_neighbouring_pages_and_keep_the_other_parameters() {
        let links = |uri: &str, page, total| {
            links(&uri.parse().unwrap(), page, total, 10).map(|links| links.to_str().unwrap().to_owned())
        };
        assert_eq!(links("/api/user/all", 1, 10), None);
        assert_eq!(links("/a", 1, 11).as_deref(), Some("</a?page=2>; rel=\"next\""));
        let both = "</a?sort=id&limit=10&page=1>; rel=\"prev\", </a?sort=id&limit=10&page=3>; rel=\"next\"";
        assert_eq!(links("/a?page=2&sort=id&limit=10", 2, 21).as_deref(), Some(both));
    }
}
