//! Webhooks that are signed as Standard Webhooks describes it: HMAC-SHA256 over the message's id, the time and the body.
//! The receiver compares the signature, refuses old times, and knows a repeated message by its id.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde_json::{Value, json};

use super::receiver::Shown;
use tallyd_store::budgets::outbox::Message;

/// Bytes of a key.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The message's id, the same at each attempt. The number alone is not enough: a receiver may serve several databases.
pub(super) fn id(message: &Message) -> String {
    format!("tallyd_{}_{}", message.id, message.at.timestamp_micros())
}

/// The body.
pub(super) fn body(message: &Message, shown: &Shown) -> Value {
    json!({
        "type": format!("{}.{}", message.kind, message.event.name()),
        "timestamp": message.at,
        "data": {
            "subject": message.subject, "urgent": message.is_urgent, "text": shown.lines.join("\n"),
            "details": message.details,
        },
    })
}

/// The value of `webhook-signature`. `secret` is `whsec_` and base64.
///
/// # Errors
/// A sentence, if the secret has another form.
pub(super) fn signature(secret: &str, id: &str, seconds: i64, body: &str) -> Result<String, String> {
    let key = secret.strip_prefix("whsec_").and_then(|text| STANDARD.decode(text).ok());
    let Some(key) = key.filter(|key| KEY_BYTES.contains(&key.len())) else {
        return Err("the secret is not whsec_ and base64 of 24 to 64 bytes".to_owned());
    };
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let tag = hmac::sign(&key, format!("{id}.{seconds}.{body}").as_bytes());
    Ok(format!("v1,{}", STANDARD.encode(tag.as_ref())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's reference libraries.
    #[test]
    fn a_signature_is_the_one_that_the_reference_libraries_compute() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let signed = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signed.unwrap(), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        for wrong in ["", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ", "whsec_!"] {
            assert!(signature(wrong, "m", 0, "").is_err(), "{wrong}");
        }
    }
}
