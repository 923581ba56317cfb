//! A route's receiver: reads its secrets when a message is sent, renders the message, and sends it.

use std::time::Duration;

use super::{chat, mail, pagerduty, signed};
use crate::outbound::post_json;
use tallyd_config::{Route, RouteKind, Secret};
use tallyd_model::report::{self, Report};
use tallyd_store::budgets::outbox::{Event, Message};

/// How long a receiver is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
const _: () = assert!(PATIENCE.as_secs() * 2 < tallyd_store::budgets::outbox::CLAIM.as_secs());

/// A message in the forms that receivers take.
pub(super) struct Shown {
    /// One line.
    pub headline: String,
    /// All of it; the headline is the first line.
    pub lines: Vec<String>,
    /// The same as a document.
    pub html: Option<String>,
}

impl Shown {
    /// A report is rendered from its facts. One of a later version, which cannot be read, is its headline.
    fn of(message: &Message) -> Self {
        if message.kind == "report"
            && let Ok(found) = serde_json::from_value::<Report>(message.details.clone())
        {
            let html = Some(report::html(&found));
            return Self { headline: message.text.clone(), lines: report::lines(&found), html };
        }
        Self { headline: message.text.clone(), lines: vec![message.text.clone()], html: None }
    }
}

/// Sends a message. `seconds` is the time since 1970 UTC.
///
/// # Errors
/// A sentence without secrets.
pub(crate) async fn send(route: &Route, message: &Message, seconds: i64) -> Result<(), String> {
    let sending = send_unbounded(route, message, seconds);
    let late = || format!("{} did not take it within {} s", route.name, PATIENCE.as_secs());
    tokio::time::timeout(PATIENCE, sending).await.unwrap_or_else(|_| Err(late()))
}

async fn send_unbounded(route: &Route, message: &Message, seconds: i64) -> Result<(), String> {
    let url = route.url.as_ref().map(Secret::read).transpose()?;
    let secret = route.secret.as_ref().map(Secret::read).transpose()?;
    let url = url.as_deref().unwrap_or(pagerduty::URL);
    let shown = Shown::of(message);
    let posted = match route.kind {
        RouteKind::Slack => post_json(url, &[], &chat::slack(&shown), PATIENCE).await,
        RouteKind::Teams => post_json(url, &[], &chat::teams(&shown), PATIENCE).await,
        RouteKind::PagerDuty => {
            let event = pagerduty::event(&secret.unwrap_or_default(), message, &shown);
            post_json(url, &[], &event, PATIENCE).await
        }
        RouteKind::Webhook => {
            let (id, body) = (signed::id(message), signed::body(message, &shown));
            // `post_json` sends this text.
            let signature = signed::signature(&secret.unwrap_or_default(), &id, seconds, &body.to_string())?;
            let time = seconds.to_string();
            let headers = [
                ("webhook-id", id.as_str()),
                ("webhook-timestamp", time.as_str()),
                ("webhook-signature", signature.as_str()),
            ];
            post_json(url, &headers, &body, PATIENCE).await
        }
        RouteKind::Email => return mail::send(route, url, secret, message, &shown, PATIENCE).await,
    };
    posted.map_err(|error| error.to_string())
}

/// Sends a message that says it is a test. PagerDuty gets its end, too, so that nobody is woken for long.
///
/// # Errors
/// As [`send`].
pub(crate) async fn test(route: &Route, now: chrono::DateTime<chrono::Utc>) -> Result<(), String> {
    let mut message = Message {
        id: 0,
        kind: "test".to_owned(),
        event: Event::Trigger,
        subject: format!("test/{}", route.name),
        is_urgent: false,
        at: now,
        text: format!("tallyd: a test of the route {}. Nothing has happened", route.name),
        details: serde_json::json!({}),
        attempts: 1,
    };
    send(route, &message, now.timestamp()).await?;
    if route.kind == RouteKind::PagerDuty {
        message.event = Event::Resolve;
        send(route, &message, now.timestamp()).await?;
    }
    Ok(())
}
