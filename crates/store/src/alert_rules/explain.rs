//! The rest of a rule's alert: the largest parts of its calls, and the largest calls of a short window.

use chrono::{DateTime, TimeZone};
use serde_json::{Value, json};
use tallyd_model::zone::Tz;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row};
use uuid::Uuid;

use super::measure::{Calls, Source, begins};
use tallyd_model::pricing::Usd;
use tallyd_model::wording::{named, usd};

/// Parts that an alert names, and calls.
const PARTS_MAX: i64 = 3;
const CALLS_MAX: i64 = 5;
/// The longest window whose calls are looked at, in hours: further back the call log is too large for a glance.
const CALLS_HOURS_MAX: i32 = 24;

/// The additions to an alert's sentence and facts.
#[derive(Default)]
pub(super) struct Explanation {
    /// Begins with `; `, or is empty.
    pub text: String,
    pub top: Value,
    pub calls: Value,
}

/// Reads the parts and calls of a window.
pub(super) async fn explain(client: &Client, calls: &Calls, now: &DateTime<Tz>) -> Result<Explanation, Error> {
    let top = parts(client, calls, now).await?;
    let mut text = String::new();
    if !top.is_empty() {
        let names: Vec<String> =
            top.iter().map(|(name, cost)| format!("{} {}", named(name), usd(*cost, false))).collect();
        text.push_str(&format!("; top: {}", names.join(", ")));
    }
    let is_short = calls.window.size <= if calls.window.in_hours { CALLS_HOURS_MAX } else { 1 };
    let largest = if is_short { largest(client, calls, now).await? } else { Vec::new() };
    if let Some(first) = largest.first() {
        let (cost, model) =
            (first["cost_usd"].as_str().unwrap_or_default(), first["model"].as_str().unwrap_or_default());
        let cost = Usd::parse(cost).unwrap_or_default();
        text.push_str(&format!("; largest call {} of {}", usd(cost, false), named(model)));
    }
    let top = top.iter().map(|(name, cost)| json!({ "name": name, "cost_usd": cost })).collect();
    Ok(Explanation { text, top, calls: largest.into() })
}

async fn parts(client: &Client, calls: &Calls, now: &DateTime<Tz>) -> Result<Vec<(String, Usd)>, Error> {
    let source = calls.source();
    let (time, kind) = (source.time(), if source == Source::Hours { "timestamptz" } else { "date" });
    // Its calls as a row `r`, as the rules' conditions have them; PostgreSQL folds it into the statement. A user's rows are on
    // one of Citus' nodes.
    let (wanted, condition) = if source == Source::Users {
        ("", "m.user_id = $6 AND ($2 = '' OR m.provider = $2)".to_owned())
    } else {
        let row = ", (SELECT $2::text AS provider, $3::text AS model, $4::text AS dimension, $5::text AS value) AS r";
        (row, source.condition())
    };
    let sql = format!(
        "SELECT {part} AS name, round(sum(m.cost_usd), 18) FROM public.{table} AS m{wanted} \
         WHERE m.{time} >= $1::{kind} AND {condition} GROUP BY 1 HAVING sum(m.cost_usd) > 0 ORDER BY 2 DESC, 1 LIMIT {PARTS_MAX}",
        part = source.part(),
        table = source.table(),
    );
    let (hour, day) = begins(calls.window, now);
    let since: (&(dyn ToSql + Sync), Type) =
        if source == Source::Hours { (&hour, Type::TIMESTAMPTZ) } else { (&day, Type::DATE) };
    let parameters: [(&(dyn ToSql + Sync), Type); 6] = [
        since,
        (&calls.provider, Type::TEXT),
        (&calls.model, Type::TEXT),
        (&calls.dimension, Type::TEXT),
        (&calls.value, Type::TEXT),
        (&calls.user, Type::TEXT),
    ];
    let rows = client.query_typed(&sql, &parameters).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// The calls with the largest cost, from the call log. None if that takes longer than two seconds, or fails: an alert does
/// not wait for them. The statement has a savepoint and a time limit of its own.
async fn largest(client: &Client, calls: &Calls, now: &DateTime<Tz>) -> Result<Vec<Value>, Error> {
    client.batch_execute("SAVEPOINT largest; SET LOCAL statement_timeout = '2s'").await?;
    let found = read_largest(client, calls, now).await;
    // The time limit goes with the savepoint.
    client.batch_execute("ROLLBACK TO SAVEPOINT largest").await?;
    Ok(found.unwrap_or_else(|error| {
        tracing::debug!(error = crate::describe(&error), "the largest calls of an alert were not read");
        Vec::new()
    }))
}

async fn read_largest(client: &Client, calls: &Calls, now: &DateTime<Tz>) -> Result<Vec<Value>, Error> {
    let sql = format!(
        "SELECT m.id, m.occurred_at, m.provider, m.model, m.app, round(m.cost_usd, 18) FROM public.api_usage_log AS m \
         WHERE m.occurred_at >= $1 AND m.cost_usd > 0 AND ($2 = '' OR m.provider = $2) AND ($3 = '' OR m.model = $3) \
         AND ($6 = '' OR m.user_id = $6) \
         AND CASE $4 WHEN '' THEN true WHEN 'app' THEN m.app = $5 ELSE coalesce(m.tags ->> $4, '') = $5 END \
         ORDER BY m.cost_usd DESC, m.occurred_at, m.id LIMIT {CALLS_MAX}"
    );
    let (hour, day) = begins(calls.window, now);
    let midnight = now.timezone().from_local_datetime(&day.and_time(chrono::NaiveTime::MIN)).earliest();
    let since = if calls.window.in_hours { hour } else { midnight.map_or(hour, |midnight| midnight.to_utc()) };
    let parameters: [(&(dyn ToSql + Sync), Type); 6] = [
        (&since, Type::TIMESTAMPTZ),
        (&calls.provider, Type::TEXT),
        (&calls.model, Type::TEXT),
        (&calls.dimension, Type::TEXT),
        (&calls.value, Type::TEXT),
        (&calls.user, Type::TEXT),
    ];
    let call = |row: &Row| {
        json!({
            "id": row.get::<_, Uuid>(0), "occurred_at": row.get::<_, DateTime<chrono::Utc>>(1),
            "provider": row.get::<_, &str>(2), "model": row.get::<_, &str>(3), "app": row.get::<_, &str>(4),
            "cost_usd": row.get::<_, Usd>(5),
        })
    };
    Ok(client.query_typed(&sql, &parameters).await?.iter().map(call).collect())
}
