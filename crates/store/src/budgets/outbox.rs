//! Messages that are due: alerts and reports on their way to a route's receiver.
//!
//! A daemon *claims* a message, hands it to the receiver, and *notes* the outcome. A claim is a pause of [`CLAIM`] before
//! the next attempt, so no transaction is open while the receiver is waited for, and a message whose daemon was killed
//! is delivered after it. A failure is stored, and retried for a week; the pause doubles each time, up to an hour.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

/// How long other daemons leave a claimed message alone: longer than a receiver is waited for.
pub const CLAIM: Duration = Duration::from_secs(60);

/// The place of a message in its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It has no end.
    Notice,
    /// The subject began, or became worse.
    Trigger,
    /// The subject ended.
    Resolve,
}

impl Event {
    /// Its name in the table and in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Trigger => "trigger",
            Self::Resolve => "resolve",
        }
    }

    fn by_name(name: &str) -> Self {
        match name {
            "trigger" => Self::Trigger,
            "resolve" => Self::Resolve,
            _ => Self::Notice,
        }
    }
}

/// A message for a receiver.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its number.
    pub id: i64,
    /// `budget`, `spend`, `rule`, `report` or `test`.
    pub kind: String,
    /// Begin or end of the subject.
    pub event: Event,
    /// The subject; the same for a trigger and its resolve.
    pub subject: String,
    /// Whether it does not wait for the end of quiet hours.
    pub is_urgent: bool,
    /// When it was raised.
    pub at: DateTime<Utc>,
    /// The message in a sentence.
    pub text: String,
    /// The facts.
    pub details: Value,
    /// Attempts, with this one.
    pub attempts: i32,
}

/// Claims the next due message of a route. In quiet hours only urgent ones are due. A message waits for the earlier ones
/// of its subject that are due with it.
///
/// # Errors
/// PostgreSQL's.
pub async fn claim(client: &Client, route: &str, is_quiet: bool) -> Result<Option<Message>, tokio_postgres::Error> {
    let sql = "UPDATE public.api_alerts SET attempts = attempts + 1, \
            next_attempt_at = clock_timestamp() + $3 * interval '1 second' \
        WHERE id = (SELECT a.id FROM public.api_alerts AS a \
            WHERE a.route = $1 AND a.next_attempt_at <= clock_timestamp() AND a.at > clock_timestamp() - interval '7 days' \
            AND (a.urgent OR $2 IS FALSE) AND NOT EXISTS (SELECT FROM public.api_alerts AS e \
                WHERE e.route = a.route AND e.subject = a.subject AND a.subject <> '' AND e.id < a.id AND (e.urgent OR $2 IS FALSE) \
                AND e.next_attempt_at IS NOT NULL AND e.at > clock_timestamp() - interval '7 days') \
            ORDER BY a.next_attempt_at, a.id LIMIT 1 FOR UPDATE SKIP LOCKED) \
        RETURNING id, kind, event, CASE subject WHEN '' THEN kind || '/' || key ELSE subject END, urgent, at, message, \
            details, attempts";
    let claim = i64::try_from(CLAIM.as_secs()).unwrap_or(i64::MAX);
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&route, Type::TEXT), (&is_quiet, Type::BOOL), (&claim, Type::INT8)];
    let rows = client.query_typed(sql, &parameters).await?;
    let message = |row: &tokio_postgres::Row| Message {
        id: row.get(0),
        kind: row.get(1),
        event: Event::by_name(row.get(2)),
        subject: row.get(3),
        is_urgent: row.get(4),
        at: row.get(5),
        text: row.get(6),
        details: row.get(7),
        attempts: row.get(8),
    };
    Ok(rows.first().map(message))
}

/// Notes that the receiver took a message, or why it did not, and the pause before the next attempt.
///
/// # Errors
/// PostgreSQL's.
pub async fn note(
    client: &Client,
    id: i64,
    outcome: Result<(), (&str, Duration)>,
) -> Result<(), tokio_postgres::Error> {
    let (error, pause_ms) = match outcome {
        Ok(()) => ("", None),
        Err((error, pause)) => (error, Some(i64::try_from(pause.as_millis()).unwrap_or(i64::MAX))),
    };
    let sql = "UPDATE public.api_alerts SET last_error = $2, \
         delivered_at = CASE WHEN $3::int8 IS NULL THEN clock_timestamp() END, \
         next_attempt_at = clock_timestamp() + $3 * interval '1 millisecond' WHERE id = $1";
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&id, Type::INT8), (&error, Type::TEXT), (&pause_ms, Type::INT8)];
    client.query_typed(sql, &parameters).await.map(drop)
}

/// Notes with each due message of another route that its route is not configured here. The route `default` may be left
/// out: alerts are then only listed.
///
/// # Errors
/// PostgreSQL's.
pub async fn note_unknown(client: &Client, routes: &[&str]) -> Result<(), tokio_postgres::Error> {
    let sql = "UPDATE public.api_alerts SET last_error = 'no route of the name ' || route || ' is configured' \
        WHERE next_attempt_at <= clock_timestamp() AND at > clock_timestamp() - interval '7 days' AND last_error = '' \
        AND NOT route = ANY ($1) AND route <> 'default'";
    client.query_typed(sql, &[(&routes, Type::TEXT_ARRAY)]).await.map(drop)
}

/// The pause after a failed attempt. It doubles each time, up to an hour, with jitter, so that failed deliveries do not
/// return together.
#[must_use]
pub fn pause(first: Duration, attempts: i32) -> Duration {
    let base = u64::try_from(first.as_millis()).unwrap_or(u64::MAX);
    let doubled = base.saturating_mul(1 << (attempts - 1).clamp(0, 20)).min(3_600_000);
    Duration::from_millis(doubled / 2 + rand::random_range(0..=doubled / 2))
}
