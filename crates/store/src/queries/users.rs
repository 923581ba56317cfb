//! Users: the lifetime cost of each, joined with the application's own table of users if that may be read
//! ([`super::accounts`]). Users that only one side knows are in the list, too, so that no costs disappear.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize, Serializer};
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use utoipa::ToSchema;

use super::accounts::Accounts;
use super::sums::{OF_ROLLUP, Sums};
use super::{Parameter, QueryError, Reading, containing};
use crate::whole::Whole;
use tallyd_model::json::Raw;
use tallyd_model::pricing::Usd;

/// The shown columns of a user, as the text of a JSON object, passed on as PostgreSQL wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile(pub String);

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

/// The order of users.
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

/// A page of users.
#[derive(Debug, Clone)]
pub struct UserPage {
    /// The users.
    pub users: Vec<UserTotals>,
    /// The number of users on all pages.
    pub total: i64,
    /// True if the application's table was joined; without it only users with calls are listed.
    pub joined: bool,
}

/// A request for users.
#[derive(Debug, Clone)]
pub struct UserQuestion {
    /// Only users whose id or a shown column contains this.
    pub search: Option<String>,
    /// Only this user.
    pub id: Option<String>,
    /// The order.
    pub sort: UserSort,
    /// True for the largest first.
    pub descending: bool,
    /// Largest number of users on a page.
    pub limit: i64,
    /// Users to skip.
    pub offset: i64,
}

const TOTALS: &str = "SELECT user_id, sum(calls) AS calls, \
    coalesce(sum(calls) FILTER (WHERE provider = 'claude'), 0) AS claude_calls, \
    coalesce(sum(calls) FILTER (WHERE provider = 'rentcast'), 0) AS rentcast_calls, \
    sum(errors) AS errors, sum(unpriced_calls) AS unpriced, round(sum(cost_usd), 18) AS cost, \
    min(first_call_at) AS first_call, max(last_call_at) AS last_call \
    FROM public.tallyd_user_total_parts WHERE user_id <> ''";

impl UserQuestion {
    /// Queries the configured table of users and the lifetime totals.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn ask(&self, client: &Client, users: &tallyd_config::Users) -> Result<UserPage, QueryError> {
        let accounts = Accounts::find(client, users).await?;
        let joined = accounts.is_some();
        let accounts = accounts.unwrap_or_else(Accounts::none);
        let search = self.search.as_deref().map(containing);
        let values: [Parameter<'_>; 4] =
            [(&search, Type::TEXT), (&self.id, Type::TEXT), (&self.limit, Type::INT8), (&self.offset, Type::INT8)];
        let count = format!("SELECT count(*) FROM ({}) AS u", self.filtered(&accounts));
        let total = client.query_typed(&count, &values[..2]).await?.first().map_or(0, |row| row.get(0));
        let rows = client.query_typed(&self.sql(&accounts), &values).await?;
        let users = rows.iter().map(read).collect::<Result<_, QueryError>>()?;
        Ok(UserPage { users, total, joined })
    }

    fn sql(&self, accounts: &Accounts) -> String {
        let column = match self.sort {
            UserSort::Cost => "coalesce(cost, 0)",
            UserSort::Calls => "coalesce(calls, 0)",
            UserSort::ClaudeCalls => "coalesce(claude_calls, 0)",
            UserSort::RentcastCalls => "coalesce(rentcast_calls, 0)",
            UserSort::LastCall => "coalesce(last_call, '-infinity')",
            UserSort::Id => "id",
        };
        let direction = if self.descending { "DESC" } else { "ASC" };
        format!(
            "SELECT id, coalesce(calls, 0), coalesce(claude_calls, 0), coalesce(rentcast_calls, 0), coalesce(errors, 0), \
             coalesce(unpriced, 0), coalesce(cost, 0), first_call, last_call, shown, \
             coalesce(profile, {})::text FROM ({}) AS u ORDER BY {column} {direction}, id LIMIT $3 OFFSET $4",
            accounts.unknown,
            self.filtered(accounts)
        )
    }

    /// `$1` is a pattern for the id or a shown column, `$2` the requested id.
    fn filtered(&self, accounts: &Accounts) -> String {
        // The condition is on both sides of the join: PostgreSQL does not push it below a full join, and would read
        // every user.
        let (of_totals, of_accounts) = if self.id.is_some() { ("AND user_id = $2", "WHERE id = $2") } else { ("", "") };
        format!(
            "SELECT * FROM ( \
                SELECT coalesce(t.user_id, a.id) AS id, t.calls, t.claude_calls, t.rentcast_calls, t.errors, t.unpriced, t.cost, \
                    t.first_call, t.last_call, a.shown, a.profile \
                FROM ({TOTALS} {of_totals} GROUP BY user_id) AS t \
                    FULL JOIN (SELECT * FROM ({accounts}) AS b {of_accounts}) AS a ON a.id = t.user_id) AS s \
             WHERE $1 IS NULL OR id ILIKE $1 OR EXISTS ( \
                SELECT 1 FROM jsonb_each_text(profile) AS v WHERE v.value ILIKE $1)",
            accounts = accounts.select
        )
    }
}

fn read(row: &tokio_postgres::Row) -> Result<UserTotals, QueryError> {
    Ok(UserTotals {
        id: row.get(0),
        total_calls: row.get(1),
        total_claude_calls: row.get(2),
        total_rentcast_calls: row.get(3),
        errors: row.get(4),
        unpriced_calls: row.get(5),
        cost_usd: row.try_get(6)?,
        first_call_at: row.get(7),
        last_call_at: row.get(8),
        shown: row.get(9),
        profile: Profile(row.get(10)),
    })
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
