//! Delivers alerts to the webhook: Slack's `{"text": …}`, which many other services also accept.
//!
//! An alert is delivered in the transaction that stores its delivery, one at a time, by the first daemon that locks it.
//! A failure is stored, and retried for a week; the pause doubles each time, up to an hour.

use std::fmt::Display;
use std::time::Duration;

use metrics::counter;
use serde_json::{Value, json};
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::slack;
use tallyd_base::registry;
use tallyd_config::Alerts;

/// The webhook's time limit.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest number of alerts in one round.
const ROUND: usize = 20;

/// Delivers due alerts. `post` gets the address, the body and the webhook's time limit. Returns the number of delivered
/// alerts.
///
/// # Errors
/// PostgreSQL's. A failure of the webhook is not an error: it is stored with the alert.
pub async fn deliver<E: Display>(
    client: &mut Client,
    options: &Alerts,
    post: impl AsyncFn(&str, &Value, Duration) -> Result<(), E>,
) -> Result<u64, tokio_postgres::Error> {
    let Some(url) = &options.webhook_url else { return Ok(0) };
    let mut delivered = 0;
    for _ in 0..ROUND {
        let transaction = client.transaction().await?;
        let due = "SELECT id, message, attempts FROM public.api_alerts \
             WHERE next_attempt_at <= clock_timestamp() AND at > clock_timestamp() - interval '7 days' \
             ORDER BY next_attempt_at, id LIMIT 1 FOR UPDATE SKIP LOCKED";
        let rows = transaction.query_typed(due, &[]).await?;
        let Some(row) = rows.first() else { break };
        let (id, message, attempts): (i64, String, i32) = (row.get(0), row.get(1), row.get(2));
        let outcome = post(url.expose(), &json!({ "text": slack::text(&message) }), PATIENCE).await;
        let (error, pause_ms) = match &outcome {
            Ok(()) => (String::new(), None),
            Err(error) => (error.to_string(), Some(pause_ms(options, attempts))),
        };
        let note = "UPDATE public.api_alerts SET attempts = attempts + 1, last_error = $2, \
             delivered_at = CASE WHEN $3::int8 IS NULL THEN clock_timestamp() END, \
             next_attempt_at = clock_timestamp() + $3 * interval '1 millisecond' WHERE id = $1";
        let parameters: [(&(dyn ToSql + Sync), Type); 3] =
            [(&id, Type::INT8), (&error, Type::TEXT), (&pause_ms, Type::INT8)];
        transaction.query_typed(note, &parameters).await?;
        transaction.commit().await?;
        if outcome.is_err() {
            counter!(registry::ALERT_FAILURES).increment(1);
            tracing::warn!(alert = id, error, "an alert was not delivered; it is tried again");
            // The others would fail likewise; they are due at the next round.
            break;
        }
        counter!(registry::ALERTS_DELIVERED).increment(1);
        delivered += 1;
    }
    Ok(delivered)
}

/// The pause doubles each time, up to an hour, with jitter, so that failed deliveries do not return together.
fn pause_ms(options: &Alerts, attempts: i32) -> i64 {
    let base = i64::try_from(options.retry_min.as_millis()).unwrap_or(i64::MAX);
    let doubled = base.saturating_mul(1 << attempts.clamp(0, 20)).min(3_600_000);
    doubled / 2 + rand::random_range(0..=doubled / 2)
}
