//! The bounds of a record's values, and each value's stored form. Both paths, [`super::admit`] and [`super::array`],
//! use them.

use std::borrow::Cow;

use chrono::DateTime;
use tallyd_protocol::id;

use super::not_understood;
use super::refusal::{Code, Refusal};
use tallyd_config::{Limits, StatedCosts};
use tallyd_model::call::{Call, Cost, Stated};
use tallyd_model::json;
use tallyd_model::pricing::{Catalog, Priced, Quantity, Usage, Usd};

/// The bounds of a record. The defaults are those of the wire specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Bytes of one text field.
    pub text_bytes: usize,
    /// Bytes of the metadata's JSON text.
    pub metadata_bytes: usize,
    /// Entries of `extra_units`.
    pub extra_units: usize,
    /// Tokens of one bucket, and requests.
    pub tokens: u64,
    /// The earliest `occurred_at`, microseconds since 1970.
    pub occurred_at_min_us: i64,
    /// How far `occurred_at` may be ahead, microseconds.
    pub ahead_us: i64,
    /// Cuts the query string off endpoints: it may hold private data, such as street addresses.
    pub strip_query: bool,
    /// Costs that the sender may state.
    pub stated_costs: StatedCosts,
    /// The highest cost under [`StatedCosts::NonNegative`].
    pub stated_cost_max: Usd,
    /// True if a `request_id` of any form is the vendor's, and identifies the call: an instrumentation has read it from
    /// the response.
    pub response_ids: bool,
}

impl Default for Rules {
    fn default() -> Self {
        use tallyd_protocol::limits;
        let configured = Limits::default();
        Self {
            text_bytes: limits::TEXT_BYTES,
            metadata_bytes: limits::METADATA_BYTES,
            extra_units: limits::EXTRA_UNITS,
            tokens: limits::TOKENS,
            occurred_at_min_us: limits::OCCURRED_AT_MIN_US,
            ahead_us: limits::AHEAD_US,
            strip_query: true,
            stated_costs: configured.stated_costs,
            stated_cost_max: configured.stated_cost_max_usd,
            response_ids: false,
        }
    }
}

/// Admits records: the rules, the prices, and the common properties of a batch of records.
pub struct Admission<'c> {
    /// The bounds.
    pub rules: &'c Rules,
    /// The prices.
    pub catalog: &'c Catalog,
    /// The time, microseconds since 1970.
    pub now_us: i64,
}

pub(super) type Admitted<T> = Result<T, Refusal>;

pub(super) const STATUS_MAX: u16 = 999;
/// The column's highest value.
pub(super) const LATENCY_MAX_MS: u32 = i32::MAX.cast_unsigned();

impl Admission<'_> {
    /// The call's cost by the catalog. Usage that was not fully understood is unpriced.
    pub(super) fn price(&self, call: &Call<'_>, extra_units: &[(Cow<'_, str>, Quantity)]) -> Cost {
        if not_understood::of(call.metadata).is_some() {
            return Cost::Unpriced;
        }
        match self.look_up(call, extra_units) {
            Priced::Catalog { cost, price_id } => Cost::Catalog { usd: cost, price_id },
            Priced::Unpriced(_) => Cost::Unpriced,
        }
    }

    pub(super) fn look_up(&self, call: &Call<'_>, extra_units: &[(Cow<'_, str>, Quantity)]) -> Priced {
        let usage = Usage {
            provider: call.provider,
            platform: call.platform,
            model: call.model,
            endpoint: call.endpoint,
            service_tier: call.service_tier,
            occurred_at_us: call.occurred_at_us,
            tokens: call.tokens,
            requests: call.requests,
            extra_units,
        };
        self.catalog.price(&usage)
    }

    /// The stored part of an endpoint.
    pub(super) fn kept<'a>(&self, endpoint: &'a str) -> &'a str {
        let query = endpoint.bytes().position(|byte| matches!(byte, b'?' | b'#')).filter(|_| self.rules.strip_query);
        &endpoint[..query.unwrap_or(endpoint.len())]
    }

    /// The stated parts of a call's identity. A stated id is enough: two ids mean two calls, for any `request_id`.
    pub(super) fn stated(&self, id: bool, call: &Call<'_>) -> Stated {
        let response = if self.rules.response_ids {
            !call.request_id.is_empty()
        } else {
            !id && is_vendors_id(call.provider, call.request_id)
        };
        Stated { id, response }
    }

    /// An id for a call without one.
    pub(super) fn new_id(&self) -> [u8; 16] {
        id::v7(self.now_us, rand::random())
    }

    pub(super) fn in_time(&self, us: i128) -> Admitted<i64> {
        let field = "occurred_at";
        if us < i128::from(self.rules.occurred_at_min_us) {
            let (min, found) = (instant(self.rules.occurred_at_min_us.into()), instant(us));
            let message = format!("expected {min} (limits.occurred_at_min) or later, found {found}, {us} microseconds");
            return Err(Refusal::new(Code::TooEarly, field, message));
        }
        let max = i128::from(self.now_us) + i128::from(self.rules.ahead_us);
        match i64::try_from(us) {
            Ok(at_us) if us <= max => Ok(at_us),
            _ => {
                let (max, found) = (instant(max), instant(us));
                let message = format!("expected {max} (limits.ahead_ms) or earlier, found {found}, {us} microseconds");
                Err(Refusal::new(Code::TooLate, field, message))
            }
        }
    }

    /// Bounded by its sent length, without white space between its values. Text that `jsonb` would refuse is changed,
    /// never refused: [`json::storable`].
    pub(super) fn metadata_text<'a>(&self, text: &'a str) -> Admitted<Cow<'a, str>> {
        let field = "metadata";
        let max = self.rules.metadata_bytes;
        let is_object = text.trim_ascii_start().starts_with('{');
        let Some(stored) = json::storable(text).ok().filter(|_| is_object) else {
            return Err(Refusal::new(Code::Format, field, "metadata is a JSON object"));
        };
        if text.len() <= max {
            return Ok(stored);
        }
        let compact = json::storable::compact(text);
        if compact.len() > max {
            let message = format!("metadata has at most {max} bytes of JSON; it has {}", compact.len());
            return Err(Refusal::new(Code::TooLong, field, message));
        }
        Ok(match stored {
            Cow::Borrowed(_) => Cow::Owned(compact),
            // A changed text does not have white space.
            changed => changed,
        })
    }

    /// A stated cost, within this sender's rights. Sums of such costs stay exact: a record has at most 10^9 USD, which
    /// is 10^27 units of 10^-18 USD, and 128 bits are enough for 1.7 * 10^11 such records.
    pub(super) fn stated_usd(&self, text: &str) -> Admitted<Usd> {
        let field = "cost_usd";
        let usd = Usd::parse_rounded(text).map_err(|error| {
            Refusal::new(Code::Format, field, format!("expected a decimal, found {:?}: {error}", echo(text)))
        })?;
        let (min, max, hint) = match self.rules.stated_costs {
            StatedCosts::Refuse => {
                let message = format!("this sender may not state costs, found {usd} USD; leave cost_usd out");
                return Err(Refusal::new(Code::Forbidden, field, message));
            }
            StatedCosts::NonNegative if usd < Usd::ZERO => {
                (Usd::ZERO, self.rules.stated_cost_max, "; a credit needs an admin's token")
            }
            StatedCosts::NonNegative => (Usd::ZERO, self.rules.stated_cost_max, ""),
            StatedCosts::Allow => (Usd::from_attos(-Usd::RECORD_MAX.attos()), Usd::RECORD_MAX, ""),
        };
        if usd < min || usd > max {
            let message = format!("expected {min} to {max} USD, found {usd}{hint}");
            return Err(Refusal::new(Code::Range, field, message));
        }
        Ok(usd)
    }
}

/// Characters of a value in a message.
const ECHO_CHARS: usize = 64;

/// A sender's value, shortened for a message.
pub(super) fn echo(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(ECHO_CHARS).collect()
}

/// An instant as text; beyond the calendar as a number.
fn instant(us: i128) -> String {
    let time = i64::try_from(us).ok().and_then(DateTime::from_timestamp_micros);
    time.map_or_else(|| us.to_string(), |time| time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
}

pub(super) fn check_text(field: &'static str, text: &str, max: usize) -> Admitted<()> {
    if text.len() > max {
        return Err(Refusal::new(Code::TooLong, field, format!("at most {max} bytes; it has {}", text.len())));
    }
    if text.as_bytes().contains(&0) {
        return Err(Refusal::new(Code::Nul, field, "a NUL character cannot be stored"));
    }
    Ok(())
}

/// Beginnings of providers' ids; none means any provider, because many use OpenAI's protocol.
const FORMS: [(Option<&str>, &str, Rest); 6] = [
    (None, "chatcmpl-", Rest::Any),
    (None, "resp_", Rest::Long),
    (Some("claude"), "msg_bdrk_", Rest::Any),
    (Some("claude"), "msg_vrtx_", Rest::Any),
    (Some("claude"), "msg_", Rest::MixedCase),
    (Some("claude"), "req_", Rest::MixedCase),
];

/// The form of the text after the beginning.
#[derive(Clone, Copy)]
enum Rest {
    Any,
    /// As long as OpenAI's, because products also number their own responses.
    Long,
    /// With a capital letter, which ids that products make in this style (TypeID) do not have.
    MixedCase,
}

/// True if the id is the provider's, by its name in the call log. `request_id` is free text: a product may put its own
/// request's id there, for several calls. Only a vendor's form of an id identifies a call.
fn is_vendors_id(provider: &str, request_id: &str) -> bool {
    // Most records do not have one.
    !request_id.is_empty()
        && FORMS.iter().any(|(of, start, rest)| {
            let Some(text) = request_id.strip_prefix(start).filter(|text| !text.is_empty()) else { return false };
            of.is_none_or(|of| of == provider)
                && match rest {
                    Rest::Any => true,
                    Rest::Long => text.len() >= 32,
                    Rest::MixedCase => text.bytes().any(|byte| byte.is_ascii_uppercase()),
                }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vendors_form_is_known_and_a_products_own_id_is_not() {
        for (provider, id) in [
            ("claude", "msg_01XFDUDYJgAACzvnptvVoYEL"),
            ("claude", "msg_bdrk_01abc"),
            ("claude", "req_011CSHoEeqs5C35K2UUqR7Fy"),
            ("openai", "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT"),
            ("deepseek", "chatcmpl-1"),
            ("openai", "resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b"),
        ] {
            assert!(is_vendors_id(provider, id), "{provider} {id}");
        }
        for (provider, id) in [
            ("claude", ""),
            ("claude", "msg_01h455vb4pex5vsknk084sn02q"),
            ("openai", "msg_01XFDUDYJgAACzvnptvVoYEL"),
            ("openai", "req_7"),
            ("openai", "resp_7"),
            ("rentcast", "0192f0c1-7a10-7000-8000-000000000001"),
            ("openai", "chatcmpl-"),
        ] {
            assert!(!is_vendors_id(provider, id), "{provider} {id}");
        }
    }
}
