//! Sessions and recent sign-ins, counted in Supabase's auth schema.
//!
//! The numbers come from `public.tallyd_session_counts()` (`migrations/V11__sessions.sql`), which runs with the rights
//! of the role that migrated, because row level security hides `auth.sessions` from other roles. Each number has its
//! definition with it, because "active users" has no common one.

use std::collections::BTreeMap;

use serde::Serialize;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, GenericClient};
use utoipa::ToSchema;

use super::queries::accounts::{identifier, qualified, readable};
use tallyd_model::wording::noun;

/// The limits of a session in the Supabase project. None: there is no such limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionLimits {
    /// A session ends after this number of minutes without a refresh.
    pub max_idle_minutes: Option<u32>,
    /// A session ends this number of minutes after its beginning.
    pub max_age_minutes: Option<u32>,
}

impl From<&tallyd_config::Users> for SessionLimits {
    fn from(users: &tallyd_config::Users) -> Self {
        let limit = |minutes: u32| (minutes > 0).then_some(minutes);
        Self {
            max_idle_minutes: limit(users.session_max_idle_minutes),
            max_age_minutes: limit(users.session_max_age_minutes),
        }
    }
}

/// A number with its definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Counted {
    /// The number.
    pub count: i64,
    /// The definition of the number, in a sentence.
    pub definition: String,
}

/// The three numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Sessions {
    /// Sessions that could still be refreshed.
    pub active: Counted,
    /// Of those, the ones that were begun or refreshed within 24 hours.
    pub refreshed_24h: Counted,
    /// Users who signed in within 24 hours.
    pub signed_in_24h: Counted,
    /// Distinct users of the active sessions.
    pub active_users: i64,
}

/// Counts. None if `auth.sessions` or `auth.users` is missing, or the role that migrated may not read them.
///
/// # Errors
/// PostgreSQL's.
pub async fn sessions(
    client: &impl GenericClient,
    limits: SessionLimits,
) -> Result<Option<Sessions>, tokio_postgres::Error> {
    let sql = "SELECT active, active_users, refreshed, signed_in FROM public.tallyd_session_counts( \
        make_interval(secs => $1 * 60), make_interval(secs => $2 * 60))";
    let (idle, age) = (limits.max_idle_minutes.map(f64::from), limits.max_age_minutes.map(f64::from));
    let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&idle, Type::FLOAT8), (&age, Type::FLOAT8)];
    let rows = client.query_typed(sql, &parameters).await?;
    Ok(rows.first().map(|row| Sessions {
        active: Counted { count: row.get(0), definition: active(limits) },
        active_users: row.get(1),
        refreshed_24h: Counted {
            count: row.get(2),
            definition: "Active sessions that were begun or refreshed within the last 24 hours.".into(),
        },
        signed_in_24h: Counted {
            count: row.get(3),
            definition:
                "Users, neither banned nor deleted, who signed in within the last 24 hours, whether or not they \
                         have signed out since."
                    .into(),
        },
    }))
}

/// Numbers of sessions, in total and by their users' tier.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionsByUser {
    /// Sessions that could be used now.
    pub active: i64,
    /// All sessions that were not signed out.
    pub total: i64,
    /// The active ones by the users' tier; at most [`TIERS_MAX`] tiers, the rest under `(other)`.
    pub by_tier: BTreeMap<String, i64>,
}

/// Bound on tiers with a number of their own.
const TIERS_MAX: usize = 50;

impl SessionsByUser {
    /// Reads them. Zeros if `auth.sessions` is missing or may not be read.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn read(client: &Client, users: &tallyd_config::Users) -> Result<Self, tokio_postgres::Error> {
        let tiers = tiers(client, users).await?;
        let sql = format!(
            "SELECT t.tier, sum(s.active)::int8, sum(s.total)::int8 FROM public.tallyd_sessions_by_user( \
             make_interval(secs => $1 * 60), make_interval(secs => $2 * 60)) AS s LEFT JOIN ({tiers}) AS t ON t.id = s.user_id \
             GROUP BY 1 ORDER BY 2 DESC, 1"
        );
        let limits = SessionLimits::from(users);
        let (idle, age) = (limits.max_idle_minutes.map(f64::from), limits.max_age_minutes.map(f64::from));
        let mut counted = Self::default();
        for row in client.query_typed(&sql, &[(&idle, Type::FLOAT8), (&age, Type::FLOAT8)]).await? {
            let (tier, active, total): (Option<String>, i64, i64) = (row.get(0), row.get(1), row.get(2));
            counted.active += active;
            counted.total += total;
            let Some(tier) = tier.filter(|_| active > 0) else { continue };
            let is_room = counted.by_tier.len() < TIERS_MAX || counted.by_tier.contains_key(&tier);
            *counted.by_tier.entry(if is_room { tier } else { "(other)".to_owned() }).or_default() += active;
        }
        Ok(counted)
    }
}

/// The query of each user's tier; empty if the users' table does not have such a column.
async fn tiers(client: &Client, users: &tallyd_config::Users) -> Result<String, tokio_postgres::Error> {
    let columns = readable(client, &users.table).await?;
    if ![&users.id_column, &users.tier_column].iter().all(|wanted| columns.iter().any(|(name, _)| name == *wanted)) {
        return Ok("SELECT NULL::text AS id, NULL::text AS tier WHERE false".to_owned());
    }
    let (id, tier, table) = (identifier(&users.id_column), identifier(&users.tier_column), qualified(&users.table));
    Ok(format!("SELECT p.{id}::text AS id, coalesce(p.{tier}::text, 'none') AS tier FROM {table} AS p"))
}

fn active(limits: SessionLimits) -> String {
    let mut text = "Sessions that have not expired".to_owned();
    if let Some(minutes) = limits.max_age_minutes {
        text.push_str(&format!(", began less than {} ago", noun(minutes, "minute", "minutes")));
    }
    if let Some(minutes) = limits.max_idle_minutes {
        text.push_str(&format!(", were refreshed within {}", noun(minutes, "minute", "minutes")));
    }
    text + ", of users neither banned nor deleted. Sessions that were signed out are gone."
}
