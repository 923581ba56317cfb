//! Users: what each has cost in all, joined with Supabase's `auth.users` where there is one that may be read.

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use tokio_postgres::types::Type;
use utoipa::ToSchema;

use super::sums::{OF_ROLLUP, Sums};
use super::{Parameter, QueryError, Reading, containing};
use crate::pricing::Usd;

/// A user and their lifetime totals. `email` and what follows it come from `auth.users`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct UserTotals {
    /// The user's id, as records have it.
    pub id: String,
    /// All calls.
    pub total_calls: i64,
    /// Calls of Claude.
    pub total_claude_calls: i64,
    /// Calls of RentCast.
    pub total_rentcast_calls: i64,
    /// Calls with a status of 400 or above.
    pub errors: i64,
    /// Calls without a known price.
    pub unpriced_calls: i64,
    /// Exact cost in USD, decimal text.
    #[schema(value_type = String, example = "1.25")]
    pub cost_usd: Usd,
    /// The first call, if there was one.
    pub first_call_at: Option<DateTime<Utc>>,
    /// The last call, if there was one.
    pub last_call_at: Option<DateTime<Utc>>,
    /// The address, if it is known.
    pub email: Option<String>,
    /// When the user signed up, if it is known.
    pub created_at: Option<DateTime<Utc>>,
    /// The last sign-in, if it is known.
    pub last_sign_in_at: Option<DateTime<Utc>>,
}

/// What users are ordered by.
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
    /// How many there are on all pages.
    pub total: i64,
    /// Whether `auth.users` was joined; without it only users with calls are listed.
    pub joined: bool,
}

/// A question about users.
#[derive(Debug, Clone)]
pub struct UserQuestion {
    /// Only users whose id or address contains this.
    pub search: Option<String>,
    /// Only this user.
    pub id: Option<String>,
    /// The order.
    pub sort: UserSort,
    /// From the largest on.
    pub descending: bool,
    /// Users of a page.
    pub limit: i64,
    /// Users to skip.
    pub offset: i64,
}

const TOTALS: &str = "SELECT user_id, sum(calls)::int8 AS calls, \
    coalesce(sum(calls) FILTER (WHERE provider = 'claude'), 0)::int8 AS claude_calls, \
    coalesce(sum(calls) FILTER (WHERE provider = 'rentcast'), 0)::int8 AS rentcast_calls, \
    sum(errors)::int8 AS errors, sum(unpriced_calls)::int8 AS unpriced, round(sum(cost_usd), 18) AS cost, \
    min(first_call_at) AS first_call, max(last_call_at) AS last_call \
    FROM public.user_api_totals WHERE user_id <> '' GROUP BY user_id";

impl UserQuestion {
    /// Asks it.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn ask(&self, reading: &Reading) -> Result<UserPage, QueryError> {
        let joined = has_accounts(reading).await?;
        let search = self.search.as_deref().map(containing);
        let values: [Parameter<'_>; 4] =
            [(&search, Type::TEXT), (&self.id, Type::TEXT), (&self.limit, Type::INT8), (&self.offset, Type::INT8)];
        let count = format!("SELECT count(*) FROM ({}) AS u", self.filtered(joined));
        let total = reading.query_typed(&count, &values[..2]).await?.first().map_or(0, |row| row.get(0));
        let rows = reading.query_typed(&self.sql(joined), &values).await?;
        let users = rows.iter().map(read).collect::<Result<_, QueryError>>()?;
        Ok(UserPage { users, total, joined })
    }

    fn filtered(&self, joined: bool) -> String {
        let source = if joined {
            format!(
                "SELECT coalesce(t.user_id, a.id::text) AS id, t.calls, t.claude_calls, t.rentcast_calls, t.errors, \
                 t.unpriced, t.cost, t.first_call, t.last_call, a.email::text AS email, a.created_at, a.last_sign_in_at \
                 FROM ({TOTALS}) AS t FULL JOIN (SELECT * FROM auth.users WHERE deleted_at IS NULL) AS a \
                 ON a.id::text = t.user_id"
            )
        } else {
            format!(
                "SELECT user_id AS id, calls, claude_calls, rentcast_calls, errors, unpriced, cost, first_call, last_call, \
                 NULL::text AS email, NULL::timestamptz AS created_at, NULL::timestamptz AS last_sign_in_at \
                 FROM ({TOTALS}) AS t"
            )
        };
        format!(
            "SELECT * FROM ({source}) AS s WHERE ($1 IS NULL OR id ILIKE $1 OR email ILIKE $1) AND ($2 IS NULL OR id = $2)"
        )
    }

    fn sql(&self, joined: bool) -> String {
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
             coalesce(unpriced, 0), coalesce(cost, 0), first_call, last_call, email, created_at, last_sign_in_at \
             FROM ({}) AS u ORDER BY {column} {direction}, id LIMIT $3 OFFSET $4",
            self.filtered(joined)
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
        email: row.get(9),
        created_at: row.get(10),
        last_sign_in_at: row.get(11),
    })
}

/// Whether there is an `auth.users` with the columns that are shown.
async fn has_accounts(reading: &Reading) -> Result<bool, QueryError> {
    let sql = "SELECT count(*) = 5 FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
        WHERE n.nspname = 'auth' AND c.relname = 'users' AND NOT a.attisdropped \
        AND a.attname IN ('id', 'email', 'created_at', 'last_sign_in_at', 'deleted_at') \
        AND has_schema_privilege(n.oid, 'USAGE') AND has_column_privilege(c.oid, a.attnum, 'SELECT')";
    Ok(reading.query_typed(sql, &[]).await?.first().is_some_and(|row| row.get(0)))
}

/// A user's day with one provider.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct UserDay {
    /// The day, in the reporting time zone.
    pub day: NaiveDate,
    /// The provider.
    pub provider: String,
    /// What the day added up to.
    #[serde(flatten)]
    pub sums: Sums,
}

/// One user's days, newest first.
///
/// # Errors
/// [`QueryError`].
pub async fn days(reading: &Reading, user: &str, from: NaiveDate, to: NaiveDate) -> Result<Vec<UserDay>, QueryError> {
    let sql = format!(
        "SELECT day, provider, {OF_ROLLUP} FROM public.daily_user_api_costs \
         WHERE user_id = $1 AND day BETWEEN $2 AND $3 GROUP BY 1, 2 ORDER BY 1 DESC, 2"
    );
    let values: [Parameter<'_>; 3] = [(&user, Type::TEXT), (&from, Type::DATE), (&to, Type::DATE)];
    let rows = reading.query_typed(&sql, &values).await?;
    rows.iter().map(|row| Ok(UserDay { day: row.get(0), provider: row.get(1), sums: Sums::read(row, 2)? })).collect()
}
