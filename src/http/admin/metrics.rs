//! `GET /api/admin/metrics`: the numbers in the head of the replaced system's admin page, with the session counts.

use std::collections::BTreeMap;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::cost_history::{DayCosts, days};
use crate::http::SharedDaemon;
use crate::http::answer::{Failures, Json, Number, add};
use crate::http::error::ApiError;
use crate::http::parameters::today;
use crate::http::{Health, HealthReport};
use tallyd_store::queries::costs::{history, lifetime};
use tallyd_store::queries::users::{UserQuestion, UserSort};
use tallyd_store::sessions::{SessionsByUser, sessions};
use tallyd_store::whole::Whole;

/// The numbers.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AdminMetrics {
    /// Seconds since the daemon started.
    pub uptime_seconds: u64,
    /// How the daemon is.
    pub status: Health,
    /// The day so far.
    pub today: DayCosts,
    /// All calls ever.
    pub total_calls: Whole,
    /// Calls of Claude.
    pub total_claude_calls: Whole,
    /// Calls of RentCast.
    pub total_rentcast_calls: Whole,
    /// Cost of all of them, in USD.
    #[schema(value_type = f64)]
    pub total_cost: Number,
    /// How many users there are.
    pub total_users: i64,
    /// Sessions in the shape of the replaced system.
    pub sessions: LegacySessions,
    /// Sessions that could be used now; null without Supabase's tables.
    pub active_sessions: Option<i64>,
    /// Sessions that were used within 24 hours; null without Supabase's tables.
    pub refreshed_sessions_24h: Option<i64>,
    /// Users who signed in within 24 hours; null without Supabase's tables.
    pub signed_in_users_24h: Option<i64>,
}

/// Sessions; zeros without Supabase's tables. `/api/v1/sessions` explains each number.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LegacySessions {
    /// Sessions that could be used now.
    pub active: i64,
    /// All sessions that were not signed out, those that have expired included.
    pub total: i64,
    /// The active ones by the column `users.tier_column` of their users; empty where the table has no such column.
    pub by_tier: BTreeMap<String, i64>,
}

/// The numbers of the admin page's head.
#[utoipa::path(get, path = "/api/admin/metrics", tag = "admin",
    responses((status = 200, description = "The numbers", body = AdminMetrics), Failures))]
pub(crate) async fn metrics(State(daemon): State<SharedDaemon>) -> Result<Json<AdminMetrics>, ApiError> {
    let day = today(&daemon);
    let users = UserQuestion { search: None, id: None, sort: UserSort::Id, descending: false, limit: 1, offset: 0 };
    let reading = daemon.reading().await?;
    let rows = history(&reading, day, day).await?;
    let providers = lifetime(&reading).await?;
    let users = users.ask(&reading, &daemon.settings.users).await?;
    let sessions = sessions(&*reading, (&daemon.settings.users).into()).await?;
    let by_user = SessionsByUser::read(&reading, &daemon.settings.users).await?;
    reading.finish().await?;
    let calls_of = |name: &str| providers.iter().filter(|(of, _)| of == name).map(|(_, sums)| sums.calls).sum();
    let mut total_cost = Number::default();
    for (_, sums) in &providers {
        total_cost = Number(add(total_cost.0, sums.cost_usd)?);
    }
    Ok(Json(AdminMetrics {
        uptime_seconds: daemon.started.elapsed().as_secs(),
        status: HealthReport::of(&daemon).status,
        today: days(&rows)?.pop().unwrap_or_else(|| DayCosts::empty(day)),
        total_calls: providers.iter().map(|(_, sums)| sums.calls).sum(),
        total_claude_calls: calls_of("claude"),
        total_rentcast_calls: calls_of("rentcast"),
        total_cost,
        total_users: users.total,
        active_sessions: sessions.as_ref().map(|counts| counts.active.count),
        refreshed_sessions_24h: sessions.as_ref().map(|counts| counts.refreshed_24h.count),
        signed_in_users_24h: sessions.as_ref().map(|counts| counts.signed_in_24h.count),
        sessions: LegacySessions { active: by_user.active, total: by_user.total, by_tier: by_user.by_tier },
    }))
}
