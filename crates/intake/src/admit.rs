//! Validation, normalisation and pricing: a [`RawRecord`] becomes a [`Call`], or is refused with a reason.
//!
//! Everything that PostgreSQL could choke on is refused here, with the field's name, where the sender can still hear
//! it: a NUL, a number beyond its column, metadata that is not a JSON object. Metadata that is one is made storable instead:
//! it is not worth a call's money.
//!
//! What is refused, and why, is said here alone. [`array`] only knows the records that need no such answer.

use std::borrow::Cow;
use std::collections::BTreeMap;

use chrono::DateTime;
use tallyd_protocol::id;
use uuid::Uuid;

use super::raw::RawRecord;
use super::raw_value::{Decimal, Field, IdValue, Int, Object, Text, TimeValue, Units, Wrong};
use super::refusal::{Code, Refusal};
use super::{Absent, Encoded, array, not_understood, vendors_id};
use tallyd_config::{Limits, StatedCosts};
use tallyd_model::call::{Call, Cost, Stated};
use tallyd_model::json;
use tallyd_model::pricing::{
    Catalog, Priced, Quantity, Tokens, Usage, Usd, normalise_platform, normalise_provider, normalise_tier,
};

/// The bounds of a record. The defaults are the wire specification's.
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
    /// Cuts the query string off endpoints: it may hold what should not be kept, such as street addresses.
    pub strip_query: bool,
    /// Costs that the sender may state.
    pub stated_costs: StatedCosts,
    /// The highest under [`StatedCosts::NonNegative`].
    pub stated_cost_max: Usd,
    /// A `request_id` is the vendor's, whatever its form, and names the call beside its id: an instrumentation has read it from the
    /// response.
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

/// Who admits records: the rules, the prices, and what a batch of records has in common.
pub struct Admission<'c> {
    /// The bounds.
    pub rules: &'c Rules,
    /// The prices.
    pub catalog: &'c Catalog,
    /// The time, microseconds since 1970.
    pub now_us: i64,
}

/// What a call needs that is not in its record's bytes.
#[derive(Default)]
pub(crate) struct Scratch<'a> {
    provider: Cow<'a, str>,
    service_tier: Cow<'a, str>,
    platform: Cow<'a, str>,
    extra_units: String,
    quantities: Vec<(Cow<'a, str>, Quantity)>,
    metadata: Cow<'a, str>,
}

type Admitted<T> = Result<T, Refusal>;

impl Admission<'_> {
    /// Admits a record, and hands `take` the call or the reason against it. Nothing of a client's usual record is copied on its
    /// way.
    #[inline]
    pub fn admit<T>(&self, record: Encoded<'_>, take: impl FnOnce(Admitted<&Call<'_>>) -> T) -> T {
        if let Encoded::MessagePack(bytes) = record
            && let Some(call) = array::admit(self, bytes)
        {
            return take(Ok(&call));
        }
        self.admit_with(record, Absent::default(), take)
    }

    /// Admits a record. `absent` supplies the id and the time where the record states none.
    pub fn admit_with<T>(
        &self,
        record: Encoded<'_>,
        absent: Absent<'_>,
        take: impl FnOnce(Admitted<&Call<'_>>) -> T,
    ) -> T {
        let mut raw = match record.read() {
            Ok(raw) => raw,
            Err(refusal) => return take(Err(refusal)),
        };
        if let (Field::Absent, Some(us)) = (&raw.occurred_at, absent.occurred_at_us) {
            raw.occurred_at = Field::Given(TimeValue::Micros(us.into()));
        }
        let mut scratch = Scratch::default();
        let mut admitted = self.admit_raw(&raw, &mut scratch);
        if let (Ok(call), Field::Absent, Some(id)) = (&mut admitted, &raw.id, absent.id) {
            call.id = id();
            // Known by it, too, once what it was made of is forgotten for others.
            call.stated.id = true;
        }
        take(admitted.as_ref().map_err(Refusal::clone))
    }

    /// The call borrows from the record and from `scratch`.
    pub(crate) fn admit_raw<'a>(&self, raw: &'a RawRecord<'a>, scratch: &'a mut Scratch<'a>) -> Admitted<Call<'a>> {
        let provider = normalise_provider(self.text("provider", &raw.provider)?);
        // Blanks around it mean nothing, and so may be all that there is.
        if provider.is_empty() {
            return Err(Refusal::new(
                Code::Missing,
                "provider",
                "a record names its provider: claude, rentcast, openai …",
            ));
        }
        scratch.provider = provider;
        self.read_units(&raw.extra_units, scratch)?;
        scratch.service_tier = normalise_tier(self.text("service_tier", &raw.service_tier)?);
        scratch.platform = normalise_platform(self.text("platform", &raw.platform)?, &scratch.provider);
        scratch.metadata = self.metadata(&raw.metadata)?;
        let scratch = &*scratch;
        let mut call = Call {
            id: self.id(&raw.id)?,
            occurred_at_us: self.occurred_at(&raw.occurred_at)?,
            provider: &scratch.provider,
            model: self.text("model", &raw.model)?,
            endpoint: self.endpoint(&raw.endpoint)?,
            user_id: self.text("user_id", &raw.user_id)?,
            app: self.text("app", &raw.app)?,
            request_id: self.text("request_id", &raw.request_id)?,
            tokens: self.tokens(raw)?,
            requests: self.count("requests", &raw.requests, 1)?,
            extra_units: &scratch.extra_units,
            service_tier: &scratch.service_tier,
            status: status(&raw.status)?,
            latency_ms: latency(&raw.latency_ms)?,
            cost: Cost::Unpriced,
            metadata: &scratch.metadata,
            platform: &scratch.platform,
            stated: Stated::default(),
        };
        call.stated = match &raw.id {
            Field::Given(IdValue::Made(_)) => Stated::default(),
            Field::Absent => self.stated(false, &call),
            _ => self.stated(true, &call),
        };
        call.cost = match self.stated_cost(&raw.cost_usd)? {
            Some(usd) => Cost::Client(usd),
            None => self.price(&call, &scratch.quantities),
        };
        Ok(call)
    }

    /// What the catalog says a call costs. Usage that was not understood whole has no price.
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

    fn tokens(&self, raw: &RawRecord<'_>) -> Admitted<Tokens> {
        Ok(Tokens {
            input: self.count("input_tokens", &raw.input_tokens, 0)?,
            output: self.count("output_tokens", &raw.output_tokens, 0)?,
            cache_read: self.count("cache_read_tokens", &raw.cache_read_tokens, 0)?,
            cache_write_5m: self.count("cache_write_5m_tokens", &raw.cache_write_5m_tokens, 0)?,
            cache_write_1h: self.count("cache_write_1h_tokens", &raw.cache_write_1h_tokens, 0)?,
        })
    }

    fn count(&self, field: &'static str, value: &Int, default: u64) -> Admitted<u64> {
        integer(field, value, self.rules.tokens).map(|value| value.unwrap_or(default))
    }

    fn text<'a>(&self, field: &'static str, text: &'a Text<'_>) -> Admitted<&'a str> {
        match text {
            Field::Absent => Ok(""),
            Field::Given(text) => {
                check_text(field, text, self.rules.text_bytes)?;
                Ok(text)
            }
            Field::Wrong(wrong) => Err(wrong_type(field, "text", *wrong)),
        }
    }

    fn endpoint<'a>(&self, endpoint: &'a Text<'_>) -> Admitted<&'a str> {
        // The query string is cut before the length is checked: it is what makes endpoints long.
        let Field::Given(text) = endpoint else { return self.text("endpoint", endpoint) };
        let kept = self.kept(text);
        check_text("endpoint", kept, self.rules.text_bytes)?;
        Ok(kept)
    }

    /// What is kept of an endpoint.
    pub(super) fn kept<'a>(&self, endpoint: &'a str) -> &'a str {
        let query = endpoint.bytes().position(|byte| matches!(byte, b'?' | b'#')).filter(|_| self.rules.strip_query);
        &endpoint[..query.unwrap_or(endpoint.len())]
    }

    /// What of a call's identity its sender states. A stated id is enough: two ids tell two calls apart, whatever their `request_id`.
    pub(super) fn stated(&self, id: bool, call: &Call<'_>) -> Stated {
        let response = if self.rules.response_ids {
            !call.request_id.is_empty()
        } else {
            !id && vendors_id::is_of(call.provider, call.request_id)
        };
        Stated { id, response }
    }

    /// An id for a call without one.
    pub(super) fn new_id(&self) -> [u8; 16] {
        id::v7(self.now_us, rand::random())
    }

    fn id(&self, id: &Field<IdValue<'_>>) -> Admitted<[u8; 16]> {
        match id {
            Field::Absent => Ok(self.new_id()),
            Field::Given(IdValue::Bytes(bytes) | IdValue::Made(bytes)) => Ok(*bytes),
            Field::Given(IdValue::Text(text)) => Uuid::try_parse(text).map(Uuid::into_bytes).map_err(|_| {
                Refusal::new(Code::Format, "id", format!("expected a UUID or no id, found {:?}", echo(text)))
            }),
            // Bytes of another length, whatever they would be as text.
            Field::Wrong(Wrong::Encoding | Wrong::Binary) => {
                Err(Refusal::new(Code::Format, "id", "a binary id has 16 bytes, or 17 with 1 before them"))
            }
            Field::Wrong(wrong) => Err(wrong_type("id", "16 bytes or a UUID's text", *wrong)),
        }
    }

    fn occurred_at(&self, at: &Field<TimeValue<'_>>) -> Admitted<i64> {
        let field = "occurred_at";
        let us = match at {
            Field::Absent => i128::from(self.now_us),
            Field::Given(TimeValue::Micros(us)) => *us,
            Field::Given(TimeValue::Text(text)) => {
                DateTime::parse_from_rfc3339(text).map(|time| i128::from(time.timestamp_micros())).map_err(|_| {
                    let message =
                        format!("expected RFC 3339 text with its zone or microseconds, found {:?}", echo(text));
                    Refusal::new(Code::Format, field, message)
                })?
            }
            Field::Wrong(wrong) => return Err(wrong_type(field, "microseconds since 1970 or RFC 3339 text", *wrong)),
        };
        self.in_time(us)
    }

    pub(super) fn in_time(&self, us: i128) -> Admitted<i64> {
        let field = "occurred_at";
        if us < i128::from(self.rules.occurred_at_min_us) {
            let (min, found) = (instant(self.rules.occurred_at_min_us.into()), instant(us));
            let message = format!("expected {min} (limits.occurred_at_min) or later, found {found}, {us} microseconds");
            return Err(Refusal::new(Code::TooEarly, field, message));
        }
        if us > i128::from(self.now_us) + i128::from(self.rules.ahead_us) {
            let max = instant(i128::from(self.now_us) + i128::from(self.rules.ahead_us));
            let message =
                format!("expected {max} (limits.ahead_ms) or earlier, found {}, {us} microseconds", instant(us));
            return Err(Refusal::new(Code::TooLate, field, message));
        }
        // Between two 64-bit bounds.
        Ok(us as i64)
    }

    fn read_units<'a>(&self, units: &Units<'a>, scratch: &mut Scratch<'a>) -> Admitted<()> {
        let field = "extra_units";
        let units = match &units.0 {
            Field::Absent => return Ok(()),
            Field::Given(units) => units,
            Field::Wrong(wrong) => return Err(wrong_type(field, "a map of unit to quantity", *wrong)),
        };
        if units.len() > self.rules.extra_units {
            return Err(Refusal::new(
                Code::TooLong,
                field,
                format!("at most {} units; it has {}", self.rules.extra_units, units.len()),
            ));
        }
        let mut stored: BTreeMap<&str, String> = BTreeMap::new();
        for (unit, quantity) in units {
            check_text(field, unit, self.rules.text_bytes)?;
            let Field::Given(digits) = &quantity.0 else {
                return Err(Refusal::new(Code::Type, field, "a quantity is decimal text or an integer"));
            };
            let parsed = Quantity::parse_rounded(digits);
            let Ok(parsed) = parsed else {
                return Err(Refusal::new(
                    Code::Range,
                    field,
                    format!("expected a decimal from 0 on with at most 9 decimals, found {}", echo(digits)),
                ));
            };
            if stored.insert(unit, parsed.to_string()).is_some() {
                return Err(Refusal::new(Code::Format, field, "a unit is there twice"));
            }
            scratch.quantities.push((unit.clone(), parsed));
        }
        if !stored.is_empty() {
            scratch.extra_units = json::to_string(&stored).expect("a map of texts serializes");
        }
        Ok(())
    }

    fn metadata<'a>(&self, metadata: &'a Object<'_>) -> Admitted<Cow<'a, str>> {
        let field = "metadata";
        let text = match &metadata.0 {
            Field::Absent => return Ok(Cow::Borrowed("")),
            Field::Given(text) => text,
            Field::Wrong(wrong) => return Err(wrong_type(field, "a map, or a JSON object's text", *wrong)),
        };
        self.metadata_text(text)
    }

    /// Bounded as it was sent, without the white space between its values. What `jsonb` would not take is changed, never
    /// refused: [`json::storable`].
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
            // White space is left out of it already.
            changed => changed,
        })
    }

    fn stated_cost(&self, cost: &Decimal<'_>) -> Admitted<Option<Usd>> {
        let text = match &cost.0 {
            Field::Absent => return Ok(None),
            Field::Given(text) => text,
            Field::Wrong(wrong) => return Err(wrong_type("cost_usd", "a decimal as text", *wrong)),
        };
        self.stated_usd(text).map(Some)
    }

    /// A cost that the sender states, within what this sender may state. Sums of such costs stay exact: a record has at most
    /// 10^9 USD, which is 10^27 units of 10^-18 USD, and the sums' 128 bits hold 1.7 * 10^11 such records.
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

/// Characters of a value that a message says back.
const ECHO_CHARS: usize = 64;

/// A value of the sender's, short enough to be said back.
fn echo(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(ECHO_CHARS).collect()
}

/// An instant as text; beyond the calendar as it is.
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

fn wrong_type(field: &'static str, expected: &str, wrong: Wrong) -> Refusal {
    match wrong {
        Wrong::Encoding => Refusal::new(Code::Encoding, field, "the text is not UTF-8"),
        Wrong::Binary => Refusal::new(Code::Type, field, format!("expected {expected}, found binary data")),
        Wrong::Kind(kind) => Refusal::new(Code::Type, field, format!("expected {expected}, found {kind}")),
    }
}

pub(super) const STATUS_MAX: u64 = 999;
pub(super) const LATENCY_MAX_MS: u64 = i32::MAX as u64;

fn status(value: &Int) -> Admitted<u16> {
    // Bounded to three digits, so it fits.
    integer("status", value, STATUS_MAX).map(|value| value.unwrap_or(200) as u16)
}

fn latency(value: &Int) -> Admitted<Option<u32>> {
    // Bounded to the column's type, so it fits.
    integer("latency_ms", value, LATENCY_MAX_MS).map(|value| value.map(|ms| ms as u32))
}

fn integer(field: &'static str, value: &Int, max: u64) -> Admitted<Option<u64>> {
    match value {
        Field::Absent => Ok(None),
        Field::Given(value) => match u64::try_from(*value) {
            Ok(value) if value <= max => Ok(Some(value)),
            _ => Err(Refusal::new(Code::Range, field, format!("expected 0 to {max}, found {value}"))),
        },
        Field::Wrong(wrong) => Err(wrong_type(field, "an integer", *wrong)),
    }
}

#[cfg(test)]
mod tests;
