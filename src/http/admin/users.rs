//! `GET /api/user/all` and `GET /api/admin/user-stats`: users with their calls, as lists.
//!
//! Both answer with a JSON array of one page. `X-Total-Count` has the number of users on all pages, of more than 5,000 an estimate, and `Link`
//! (RFC 8288) the next page.

use axum::extract::State;
use axum::http::header::LINK;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, Serializer};
use utoipa::{IntoParams, ToSchema};

use crate::http::SharedDaemon;
use crate::http::answer::{Failures, Json, Number};
use crate::http::error::ApiError;
use crate::http::parameters::{Parameters, limit, text};
use crate::http::v1::users::cursor;
use tallyd_model::json::{self, Raw};
use tallyd_store::queries::users::list::List;
use tallyd_store::queries::users::{Profile, UserQuestion, UserSort, UserTotals, calls_of_endpoint};
use tallyd_store::whole::Whole;

/// Users of a page by default.
const PAGE: i64 = 100;
const PAGE_MAX: i64 = 1_000;

/// The number of users on all pages.
pub(crate) const TOTAL_COUNT: HeaderName = HeaderName::from_static("x-total-count");

/// Which users.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AllUsersParameters {
    /// Where the page begins: as the `Link` of the page before has it.
    #[param(max_length = 640)]
    cursor: Option<String>,
    /// Users of a page; 100 if nothing is said.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<i64>,
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
    users: Vec<UserTotals>,
    headers: HeaderMap,
}

async fn page(daemon: &SharedDaemon, parameters: AllUsersParameters, uri: &Uri) -> Result<Page, ApiError> {
    let sort = parameters.sort.unwrap_or_default();
    let question = UserQuestion {
        search: text("search", parameters.search)?.filter(|search| !search.is_empty()),
        sort,
        descending: parameters.order != Some(Order::Asc),
        limit: limit(parameters.limit, PAGE, PAGE_MAX)?.unsigned_abs() as usize,
        after: cursor(sort, parameters.cursor.as_deref())?,
    };
    let reading = daemon.reading().await?;
    let list = List::open(&reading, &daemon.settings.users).await?;
    let (found, count) = (list.page(&question).await?, list.count(question.search.as_deref()).await?);
    reading.finish().await?;
    let mut headers = HeaderMap::new();
    headers.insert(TOTAL_COUNT, count.users.into());
    if let Some(link) = found.next.and_then(|cursor| link(uri, &cursor.to_string())) {
        headers.insert(LINK, link);
    }
    Ok(Page { users: found.users, headers })
}

/// The next page: this request's path and parameters with another cursor.
fn link(uri: &Uri, cursor: &str) -> Option<HeaderValue> {
    let kept =
        uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("cursor="));
    let kept: String = kept.map(|pair| format!("{pair}&")).collect();
    let encoded = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    let cursor: String = cursor.bytes().map(encoded).collect();
    // A request's path and query are ASCII.
    HeaderValue::from_str(&format!("<{}?{kept}cursor={cursor}>; rel=\"next\"", uri.path())).ok()
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
        headers(("x-total-count" = i64, description = "Users on all pages; of more than 5,000 an estimate"), ("link" = String, description = "The next page"))), Failures))]
pub(crate) async fn all(
    State(daemon): State<SharedDaemon>,
    uri: Uri,
    Parameters(parameters): Parameters<AllUsersParameters>,
) -> Result<(HeaderMap, Json<Vec<LegacyUser>>), ApiError> {
    let Page { users, headers } = page(&daemon, parameters, &uri).await?;
    Ok((headers, Json(users.into_iter().map(LegacyUser::from).collect())))
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
        headers(("x-total-count" = i64, description = "Users on all pages; of more than 5,000 an estimate"), ("link" = String, description = "The next page"))), Failures))]
pub(crate) async fn user_stats(
    State(daemon): State<SharedDaemon>,
    uri: Uri,
    Parameters(parameters): Parameters<AllUsersParameters>,
) -> Result<(HeaderMap, Json<Vec<UserStat>>), ApiError> {
    let Page { users, headers } = page(&daemon, parameters, &uri).await?;
    let ids: Vec<&str> = users.iter().map(|user| user.id.as_str()).collect();
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
    Ok((headers, Json(users.into_iter().map(stat).collect())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_to_the_next_page_and_keeps_the_other_parameters() {
        let link = |uri: &str| link(&uri.parse().unwrap(), "id:called::a b&c").unwrap().to_str().unwrap().to_owned();
        assert_eq!(link("/a"), "</a?cursor=id%3Acalled%3A%3Aa%20b%26c>; rel=\"next\"");
        let kept = "</a?sort=id&limit=10&cursor=id%3Acalled%3A%3Aa%20b%26c>; rel=\"next\"";
        assert_eq!(link("/a?cursor=x&sort=id&limit=10"), kept);
    }
}
