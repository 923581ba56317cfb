//! Alerts: raised, listed as people see them, and acknowledged.
//!
//! An alert is a fact of a moment, and is never deleted. It is *new* until a person acknowledges it, and *current*
//! during its period or day: alerts about past days need not be resolved.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use serde_json::json;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, GenericClient};
use utoipa::ToSchema;

use super::outbox::Event;
use crate::queries::audit::{self, Actor, Change};
use tallyd_config::DEFAULT_ROUTE;
use tallyd_model::json::Text;

/// How an alert got on with its route's receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// It was only noted: a higher threshold of the same budget was told.
    None,
    /// It is due, or is tried again.
    Due,
    /// The receiver took it.
    Delivered,
}

/// An alert to raise, unless its key exists.
pub(crate) struct NewAlert {
    pub kind: &'static str,
    pub key: String,
    pub message: String,
    pub details: serde_json::Value,
    /// False: stored, and not delivered.
    pub deliver: bool,
    /// Urgent messages do not wait for the end of quiet hours.
    pub urgent: bool,
    /// The receiver's name.
    pub route: String,
    pub event: Event,
    /// The common subject of a trigger and its resolve; empty for a notice.
    pub subject: String,
    /// Not delivered before; none: at once.
    pub not_before: Option<DateTime<Utc>>,
    /// The reader from the start, where nobody needs to look at it; none: it is new.
    pub seen_by: Option<&'static str>,
}

impl Default for NewAlert {
    fn default() -> Self {
        Self {
            kind: "",
            key: String::new(),
            message: String::new(),
            details: serde_json::Value::Null,
            deliver: true,
            urgent: false,
            route: DEFAULT_ROUTE.to_owned(),
            event: Event::Notice,
            subject: String::new(),
            not_before: None,
            seen_by: None,
        }
    }
}

/// Stores alerts. Returns the number of those that did not exist.
///
/// # Errors
/// PostgreSQL's.
pub(crate) async fn raise(client: &Client, alerts: &[NewAlert]) -> Result<u64, tokio_postgres::Error> {
    if alerts.is_empty() {
        return Ok(0);
    }
    let sql = "INSERT INTO public.api_alerts (kind, key, message, details, next_attempt_at, route, event, subject, urgent, \
            acknowledged_at, acknowledged_by) \
         SELECT kind, key, message, details, CASE WHEN deliver THEN coalesce(not_before, clock_timestamp()) END, route, event, \
            subject, urgent, CASE WHEN seen_by IS NOT NULL THEN clock_timestamp() END, seen_by \
         FROM unnest($1::text[], $2::text[], $3::text[], $4::jsonb[], $5::bool[], $6::timestamptz[], $7::text[], $8::text[], \
                $9::text[], $10::bool[], $11::text[]) \
            AS a (kind, key, message, details, deliver, not_before, route, event, subject, urgent, seen_by) \
         ON CONFLICT DO NOTHING";
    let texts = |of: fn(&NewAlert) -> &str| alerts.iter().map(of).collect::<Vec<_>>();
    let (kinds, keys, messages) = (texts(|a| a.kind), texts(|a| &a.key), texts(|a| &a.message));
    let (routes, events, subjects) = (texts(|a| &a.route), texts(|a| a.event.name()), texts(|a| &a.subject));
    let details: Vec<&serde_json::Value> = alerts.iter().map(|alert| &alert.details).collect();
    let deliver: Vec<bool> = alerts.iter().map(|alert| alert.deliver).collect();
    let not_before: Vec<Option<DateTime<Utc>>> = alerts.iter().map(|alert| alert.not_before).collect();
    let urgent: Vec<bool> = alerts.iter().map(|alert| alert.urgent).collect();
    let seen_by: Vec<Option<&str>> = alerts.iter().map(|alert| alert.seen_by).collect();
    let parameters: [(&(dyn ToSql + Sync), Type); 11] = [
        (&kinds, Type::TEXT_ARRAY),
        (&keys, Type::TEXT_ARRAY),
        (&messages, Type::TEXT_ARRAY),
        (&details, Type::JSONB_ARRAY),
        (&deliver, Type::BOOL_ARRAY),
        (&not_before, Type::TIMESTAMPTZ_ARRAY),
        (&routes, Type::TEXT_ARRAY),
        (&events, Type::TEXT_ARRAY),
        (&subjects, Type::TEXT_ARRAY),
        (&urgent, Type::BOOL_ARRAY),
        (&seen_by, Type::TEXT_ARRAY),
    ];
    client.execute_typed(sql, &parameters).await
}

/// An alert.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Alert {
    /// Its number, rising.
    pub id: i64,
    /// `budget`, `spend`, `rule`, `report` or `test`.
    pub kind: String,
    /// The receiver's name.
    pub route: String,
    /// `trigger` and `resolve`: begin and end of a rule's alert; `notice`.
    pub event: String,
    /// When it was raised.
    pub at: DateTime<Utc>,
    /// The alert in a sentence.
    pub message: String,
    /// The facts: `budget_id`, `percent`, `spent_usd`, `period_start`, `forecast_usd`, `top` …; for `spend` `what`, `name`, `day`, `usual_usd` …
    #[schema(value_type = Object)]
    pub details: Text,
    /// True while its period, or its day, is the current one.
    pub current: bool,
    /// How it got on with the webhook.
    pub delivery: Delivery,
    /// Why the receiver did not take it at the last attempt; empty if it did, or was not asked.
    pub delivery_error: String,
    /// When somebody said that they have seen it; null while it is new.
    pub acknowledged_at: Option<DateTime<Utc>>,
    /// The author.
    pub acknowledged_by: Option<String>,
}

/// Filters of a list.
#[derive(Debug, Clone, Copy)]
pub struct AlertFilter {
    /// Only alerts that were not acknowledged.
    pub only_new: bool,
    /// Only those with a lower number.
    pub before: Option<i64>,
    /// Largest number of alerts.
    pub limit: i64,
}

/// Alerts, newest first. `today` is in the reporting time zone.
///
/// # Errors
/// PostgreSQL's.
pub async fn list(
    client: &Client,
    wanted: &AlertFilter,
    today: NaiveDate,
) -> Result<Vec<Alert>, tokio_postgres::Error> {
    let sql = "SELECT a.id, a.kind, a.at, a.message, a.details, \
            CASE a.kind WHEN 'budget' THEN EXISTS (SELECT FROM public.api_budget_states AS s \
                    WHERE s.budget_id::text = a.details ->> 'budget_id' AND s.period_start::text = a.details ->> 'period_start' \
                    AND s.period_end > $4) \
                WHEN 'rule' THEN a.event = 'trigger' AND EXISTS (SELECT FROM public.tallyd_alert_rule_states AS r \
                    WHERE r.rule_id::text = a.details ->> 'rule_id' AND r.episode::text = a.details ->> 'episode' \
                    AND r.level <> 'normal') \
                ELSE a.details ->> 'day' = $4::text END, \
            a.delivered_at IS NOT NULL, a.next_attempt_at IS NOT NULL, a.last_error, a.acknowledged_at, a.acknowledged_by, \
            a.route, a.event \
        FROM public.api_alerts AS a \
        WHERE a.id < coalesce($1, 9223372036854775807) AND ($2 IS FALSE OR a.acknowledged_at IS NULL) \
        ORDER BY a.id DESC LIMIT $3";
    let values: [(&(dyn ToSql + Sync), Type); 4] = [
        (&wanted.before, Type::INT8),
        (&wanted.only_new, Type::BOOL),
        (&wanted.limit, Type::INT8),
        (&today, Type::DATE),
    ];
    let rows = client.query_typed(sql, &values).await?;
    let alert = |row: &tokio_postgres::Row| Alert {
        id: row.get(0),
        kind: row.get(1),
        at: row.get(2),
        message: row.get(3),
        details: row.get(4),
        current: row.get::<_, Option<bool>>(5).unwrap_or(false),
        delivery: match (row.get(6), row.get(7)) {
            (true, _) => Delivery::Delivered,
            (false, true) => Delivery::Due,
            (false, false) => Delivery::None,
        },
        delivery_error: row.get(8),
        acknowledged_at: row.get(9),
        acknowledged_by: row.get(10),
        route: row.get(11),
        event: row.get(12),
    };
    Ok(rows.iter().map(alert).collect())
}

/// The number of alerts that were not acknowledged.
///
/// # Errors
/// PostgreSQL's.
pub async fn count_new(client: &impl GenericClient) -> Result<i64, tokio_postgres::Error> {
    let sql = "SELECT count(*) FROM public.api_alerts WHERE acknowledged_at IS NULL";
    Ok(client.query_typed(sql, &[]).await?.first().map_or(0, |row| row.get(0)))
}

/// Acknowledges these alerts, or all up to a number. Returns how many were new.
///
/// # Errors
/// PostgreSQL's; nothing has changed then.
pub async fn acknowledge(
    client: &mut Client,
    which: &WhichAlerts,
    by: &Actor<'_>,
) -> Result<u64, tokio_postgres::Error> {
    let (ids, up_to) = match which {
        WhichAlerts::These(ids) => (Some(ids), None),
        WhichAlerts::UpTo(id) => (None, Some(id)),
    };
    let transaction = client.transaction().await?;
    let sql = "UPDATE public.api_alerts SET acknowledged_at = clock_timestamp(), acknowledged_by = $3 \
        WHERE acknowledged_at IS NULL AND (id = ANY ($1) OR id <= $2) RETURNING id";
    let values: [(&(dyn ToSql + Sync), Type); 3] =
        [(&ids, Type::INT8_ARRAY), (&up_to, Type::INT8), (&by.name, Type::TEXT)];
    let mut seen: Vec<i64> = transaction.query_typed(sql, &values).await?.iter().map(|row| row.get(0)).collect();
    seen.sort_unstable();
    if let Some(first) = seen.first() {
        let object = if seen.len() == 1 { format!("alert {first}") } else { format!("{} alerts", seen.len()) };
        let new = Some(json!({ "alerts": seen.len(), "ids": &seen[..seen.len().min(NAMED)] }));
        audit::write(transaction.client(), &Change { new, ..by.change("alert.acknowledge", &object) }).await?;
    }
    transaction.commit().await?;
    Ok(seen.len() as u64)
}

/// Largest number of alert ids in an audit entry.
const NAMED: usize = 200;

/// The alerts to acknowledge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WhichAlerts {
    /// Those of these numbers.
    These(Vec<i64>),
    /// Those up to this number: the alerts on the screen, without later ones.
    UpTo(i64),
}
