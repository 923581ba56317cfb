//! Users: the lifetime cost of each, joined with the application's own table of users if that may be read
//! ([`super::accounts`]). Users that only one side knows are in the list, too, so that no costs disappear. [`list`] reads them.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize, Serializer};
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use utoipa::ToSchema;

pub mod cursor;
pub mod list;

use super::sums::{OF_ROLLUP, Sums};
use super::{Parameter, QueryError, Reading};
use crate::whole::Whole;
use tallyd_model::json::Raw;
use tallyd_model::pricing::Usd;

/// The shown columns of a user, as the text of a JSON object, passed on as PostgreSQL wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile(pub String);

impl Profile {
    /// An object of nothing.
    pub(super) fn empty() -> Self {
        Self("{}".into())
    }
}

impl Serialize for Profile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = Raw::checked(&self.0).ok_or_else(|| serde::ser::Error::custom("the profile is not JSON"))?;
        text.serialize(serializer)
    }
}

/// A user and their lifetime totals.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct UserTotals {
    /// The user's id, as records have it.
    pub id: String,
    /// All calls.
    pub total_calls: Whole,
    /// Calls of Claude.
    pub total_claude_calls: Whole,
    /// Calls of RentCast.
    pub total_rentcast_calls: Whole,
    /// Calls with a status of 400 or above.
    pub errors: Whole,
    /// Unpriced calls.
    pub unpriced_calls: Whole,
    /// Exact cost in USD, decimal text.
    #[schema(value_type = String, example = "1.25")]
    pub cost_usd: Usd,
    /// The first call, if there was one.
    pub first_call_at: Option<DateTime<Utc>>,
    /// The last call, if there was one.
    pub last_call_at: Option<DateTime<Utc>>,
    /// The shown name: the first column of `users.columns`, the e-mail address by default; null if it is not known.
    pub shown: Option<String>,
    /// The shown columns of the application's table. A number, flag or text without a value, or of a user whom the table does not know, is 0,
    /// false or empty; anything else is null.
    #[schema(value_type = Object, example = json!({"email": "ann@example.com", "tier": "pro"}))]
    pub profile: Profile,
}

impl UserTotals {
    /// A user whom no call names.
    fn uncalled(id: String) -> Self {
        Self {
            id,
            total_calls: Whole::default(),
            total_claude_calls: Whole::default(),
            total_rentcast_calls: Whole::default(),
            errors: Whole::default(),
            unpriced_calls: Whole::default(),
            cost_usd: Usd::ZERO,
            first_call_at: None,
            last_call_at: None,
            shown: None,
            profile: Profile::empty(),
        }
    }
}

/// The order of users. Users of the same value follow one another by the bytes of their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UserSort {
    /// Cost.
    #[default]
    Cost,
    /// Calls.
    Calls,
    /// Calls of Claude.
    ClaudeCalls,
    /// Calls of RentCast.
    RentcastCalls,
    /// The last call.
    LastCall,
    /// The id.
    Id,
}

/// How many users there are on all pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserCount {
    /// The number.
    pub users: i64,
    /// What it is.
    pub is: CountIs,
}

/// What a number of users is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CountIs {
    /// Counted.
    Exact,
    /// PostgreSQL's estimate: more than 5,000 are not counted for each request.
    Estimate,
    /// There are at least so many: a search looks at 1,000 users.
    AtLeast,
}

/// A page of users.
#[derive(Debug, Clone)]
pub struct UserPage {
    /// The users.
    pub users: Vec<UserTotals>,
    /// The cursor of the next page. None after the last.
    pub next: Option<cursor::Cursor>,
}

/// A request for users.
#[derive(Debug, Clone, Default)]
pub struct UserQuestion {
    /// Only users whose id begins with this, or who have it in a shown column.
    pub search: Option<String>,
    /// The order.
    pub sort: UserSort,
    /// True for the largest first.
    pub descending: bool,
    /// Users of a page.
    pub limit: usize,
    /// Where the page begins: `next` of the page before.
    pub after: Option<cursor::Cursor>,
}

/// Each user's number of calls of one endpoint, by the present call log. Users without such a call are left out.
///
/// # Errors
/// [`QueryError`].
pub async fn calls_of_endpoint(
    client: &Client,
    endpoint: &str,
    users: &[&str],
) -> Result<HashMap<String, i64>, QueryError> {
    let sql =
        "SELECT user_id, count(*) FROM public.api_usage_log WHERE endpoint = $1 AND user_id = ANY ($2) GROUP BY 1";
    let rows = client.query_typed(sql, &[(&endpoint, Type::TEXT), (&users, Type::TEXT_ARRAY)]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// A user's day with one provider.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct UserDay {
    /// The day, in the reporting time zone.
    pub day: NaiveDate,
    /// The provider.
    pub provider: String,
    /// The day's sums.
    #[serde(flatten)]
    pub sums: Sums,
}

/// One user's days, newest first.
///
/// # Errors
/// [`QueryError`].
pub async fn days(reading: &Reading, user: &str, from: NaiveDate, to: NaiveDate) -> Result<Vec<UserDay>, QueryError> {
    let sql = format!(
        "SELECT day, provider, {OF_ROLLUP} FROM public.tallyd_user_day_parts \
         WHERE user_id = $1 AND day BETWEEN $2 AND $3 GROUP BY 1, 2 ORDER BY 1 DESC, 2"
    );
    let values: [Parameter<'_>; 3] = [(&user, Type::TEXT), (&from, Type::DATE), (&to, Type::DATE)];
    let rows = reading.query_typed(&sql, &values).await?;
    rows.iter().map(|row| Ok(UserDay { day: row.get(0), provider: row.get(1), sums: Sums::read(row, 2)? })).collect()
}
