//! Events of PagerDuty's Events API v2. A trigger and its resolve have the same `dedup_key`, so a trigger that is sent
//! again opens no second incident.

use serde_json::{Value, json};

use super::receiver::Shown;
use tallyd_model::quote;
use tallyd_store::budgets::outbox::{Event, Message};

/// Where events are posted, unless the route has another address.
pub(super) const URL: &str = "https://events.pagerduty.com/v2/enqueue";
/// Bytes of a key, and characters of a summary, that PagerDuty accepts.
const KEY_BYTES_MAX: usize = 255;
const SUMMARY_CHARS_MAX: usize = 1_024;

/// The event's body.
pub(super) fn event(routing_key: &str, message: &Message, shown: &Shown) -> Value {
    let action = if message.event == Event::Resolve { "resolve" } else { "trigger" };
    let severity = if message.is_urgent { "critical" } else { "warning" };
    let summary: String = quote::line(&shown.headline).chars().take(SUMMARY_CHARS_MAX).collect();
    json!({
        "routing_key": routing_key,
        "event_action": action,
        "dedup_key": key(&message.subject),
        "payload": {
            "summary": summary, "source": "tallyd", "severity": severity, "timestamp": message.at,
            "class": message.kind, "custom_details": message.details,
        },
    })
}

/// A subject with a long name keeps its begin, and a hash of the whole.
fn key(subject: &str) -> String {
    use sha2::{Digest, Sha256};
    let key = format!("tallyd/{subject}");
    if key.len() <= KEY_BYTES_MAX {
        return key;
    }
    let hash = hex::encode(Sha256::digest(&key));
    let mut end = KEY_BYTES_MAX - hash.len() - 1;
    while !key.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}/{hash}", &key[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_subjects_have_keys_that_differ() {
        let long = |end: &str| key(&format!("spend/user/{}{end}", "ü".repeat(400)));
        assert_eq!(key("rule/3"), "tallyd/rule/3");
        assert!(long("a").len() <= KEY_BYTES_MAX && long("a") != long("b"));
    }
}
