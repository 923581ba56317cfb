//! Admits records, in MessagePack or JSON ([`Encoded`]): each is validated, normalised, priced and becomes a [`Call`],
//! or is refused with a reason.
//!
//! Values that PostgreSQL would refuse are refused here, with the field's name, while the sender can be told: a NUL, a
//! number beyond its column, metadata that is not a JSON object. Other metadata is made storable instead, because it
//! must not cost a call.
//!
//! Refusals and their reasons are written here and in [`super::rules`] alone. [`array`] handles only records that
//! cannot be refused.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Display;

use chrono::DateTime;
use uuid::Uuid;

use super::raw::RawRecord;
use super::raw_value::{Decimal, Field, IdValue, Int, ObjectText, TextField, TimeValue, Units, Wrong};
use super::refusal::{Code, Refusal};
use super::rules::{Admission, Admitted, LATENCY_MAX_MS, STATUS_MAX, check_text, echo};
use super::tags::Tags;
use super::{array, frame};
use tallyd_model::call::{Call, Cost, Stated};
use tallyd_model::json;
use tallyd_model::pricing::{Quantity, Tokens, Usd, normalise_platform, normalise_provider, normalise_tier};

/// A record's bytes and their format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoded<'a> {
    /// A map of MessagePack, or an array in the order of the protocol's fields.
    MessagePack(&'a [u8]),
    /// A JSON object.
    Json(&'a [u8]),
}

impl<'a> Encoded<'a> {
    /// The bytes.
    #[must_use]
    pub const fn bytes(self) -> &'a [u8] {
        match self {
            Self::MessagePack(bytes) | Self::Json(bytes) => bytes,
        }
    }

    /// The format's name in the WAL and the dead letters.
    #[must_use]
    pub const fn format(self) -> &'static str {
        match self {
            Self::MessagePack(_) => "msgpack",
            Self::Json(_) => "json",
        }
    }

    /// Reads the record without checks. [`Admission::admit`] is the complete operation.
    ///
    /// # Errors
    /// The [`Refusal`] for the sender.
    pub fn read(self) -> Result<RawRecord<'a>, Refusal> {
        match self {
            Self::MessagePack(bytes) => frame::decode(bytes),
            Self::Json(bytes) => read_line(bytes),
        }
    }
}

/// Reads a line of newline-delimited JSON.
///
/// # Errors
/// The [`Refusal`] for the sender.
fn read_line(line: &[u8]) -> Result<RawRecord<'_>, Refusal> {
    let text = std::str::from_utf8(line).map_err(|error| {
        let at = error.valid_up_to();
        Refusal::new(Code::Encoding, "", format!("the line is not UTF-8 from byte {at} on"))
    })?;
    if !text.starts_with('{') && json::check(text).is_ok() {
        return Err(Refusal::new(Code::Type, "", "a record is a JSON object"));
    }
    json::from_str(text).map_err(|error| {
        if error.is_data() {
            return frame::refusal(&error.to_string());
        }
        Refusal::new(Code::Format, "", format!("the line is not a JSON object: {error}"))
    })
}

/// Defaults for a record's id and time, from its request or dead letter.
#[derive(Clone, Copy, Default)]
pub struct Absent<'a> {
    /// Makes the id, which then counts as stated. None: a new id, which does not.
    pub id: Option<&'a dyn Fn() -> [u8; 16]>,
    /// The time, microseconds since 1970. None: now.
    pub occurred_at_us: Option<i64>,
}

/// Texts of a call that differ from the record's bytes.
#[derive(Default)]
pub(crate) struct Scratch<'a> {
    provider: Cow<'a, str>,
    service_tier: Cow<'a, str>,
    platform: Cow<'a, str>,
    extra_units: String,
    quantities: Vec<(Cow<'a, str>, Quantity)>,
    metadata: Cow<'a, str>,
    tags: Tags,
}

impl Admission<'_> {
    /// Admits a record, and passes the call or the refusal to `take`. The usual record of a client is not copied.
    #[inline]
    pub fn admit<T>(&self, record: Encoded<'_>, take: impl FnOnce(Admitted<&Call<'_>>) -> T) -> T {
        let mut tags = Tags::default();
        if let Encoded::MessagePack(bytes) = record
            && let Some(call) = array::admit(self, bytes, &mut tags)
        {
            return take(Ok(&call));
        }
        self.admit_with(record, Absent::default(), take)
    }

    /// Admits a record. `absent` supplies the id and the time if the record does not state them.
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
            // So that the id names the call even after its source has been forgotten elsewhere.
            call.stated.id = true;
        }
        take(admitted.as_ref().map_err(Refusal::clone))
    }

    /// The call borrows from the record and from `scratch`.
    pub(crate) fn admit_raw<'a>(&self, raw: &'a RawRecord<'a>, scratch: &'a mut Scratch<'a>) -> Admitted<Call<'a>> {
        let provider = normalise_provider(self.text("provider", &raw.provider)?);
        // Surrounding blanks do not count, and may be all there is.
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
        scratch.tags = Tags::read(&raw.tags)?;
        let scratch = &*scratch;
        let mut call = Call {
            id: self.id(&raw.id)?,
            occurred_at_us: self.occurred_at(&raw.occurred_at)?,
            provider: &scratch.provider,
            model: self.text("model", &raw.model)?,
            endpoint: self.endpoint(&raw.endpoint)?,
            user_id: self.text("user_id", &raw.user_id)?,
            app: scratch.tags.app_or(self.text("app", &raw.app)?),
            request_id: self.text("request_id", &raw.request_id)?,
            tokens: self.tokens(raw)?,
            requests: self.count("requests", &raw.requests, 1)?,
            extra_units: &scratch.extra_units,
            service_tier: &scratch.service_tier,
            status: integer("status", &raw.status, STATUS_MAX)?.unwrap_or(200),
            latency_ms: integer("latency_ms", &raw.latency_ms, LATENCY_MAX_MS)?,
            cost: Cost::Unpriced,
            metadata: &scratch.metadata,
            platform: &scratch.platform,
            tags: &scratch.tags.stored,
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

    fn text<'a>(&self, field: &'static str, text: &'a TextField<'_>) -> Admitted<&'a str> {
        match text {
            Field::Absent => Ok(""),
            Field::Given(text) => {
                check_text(field, text, self.rules.text_bytes)?;
                Ok(text)
            }
            Field::Wrong(wrong) => Err(wrong_type(field, "text", *wrong)),
        }
    }

    fn endpoint<'a>(&self, endpoint: &'a TextField<'_>) -> Admitted<&'a str> {
        // The query string is cut before the length is checked, because it makes endpoints long.
        let Field::Given(text) = endpoint else { return self.text("endpoint", endpoint) };
        let kept = self.kept(text);
        check_text("endpoint", kept, self.rules.text_bytes)?;
        Ok(kept)
    }

    fn id(&self, id: &Field<IdValue<'_>>) -> Admitted<[u8; 16]> {
        match id {
            Field::Absent => Ok(self.new_id()),
            Field::Given(IdValue::Bytes(bytes) | IdValue::Made(bytes)) => Ok(*bytes),
            Field::Given(IdValue::Text(text)) => Uuid::try_parse(text).map(Uuid::into_bytes).map_err(|_| {
                Refusal::new(Code::Format, "id", format!("expected a UUID or no id, found {:?}", echo(text)))
            }),
            // Bytes of another length, even if they are valid text.
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

    fn metadata<'a>(&self, metadata: &'a ObjectText<'_>) -> Admitted<Cow<'a, str>> {
        let field = "metadata";
        let text = match &metadata.0 {
            Field::Absent => return Ok(Cow::Borrowed("")),
            Field::Given(text) => text,
            Field::Wrong(wrong) => return Err(wrong_type(field, "a map, or a JSON object's text", *wrong)),
        };
        self.metadata_text(text)
    }

    fn stated_cost(&self, cost: &Decimal<'_>) -> Admitted<Option<Usd>> {
        let text = match &cost.0 {
            Field::Absent => return Ok(None),
            Field::Given(text) => text,
            Field::Wrong(wrong) => return Err(wrong_type("cost_usd", "a decimal as text", *wrong)),
        };
        self.stated_usd(text).map(Some)
    }
}

pub(super) fn wrong_type(field: &'static str, expected: &str, wrong: Wrong) -> Refusal {
    match wrong {
        Wrong::Encoding => Refusal::new(Code::Encoding, field, "the text is not UTF-8"),
        Wrong::Binary => Refusal::new(Code::Type, field, format!("expected {expected}, found binary data")),
        Wrong::Kind(kind) => Refusal::new(Code::Type, field, format!("expected {expected}, found {kind}")),
    }
}

fn integer<T: TryFrom<i128> + Copy + PartialOrd + Display>(
    field: &'static str,
    value: &Int,
    max: T,
) -> Admitted<Option<T>> {
    match value {
        Field::Absent => Ok(None),
        Field::Given(value) => match T::try_from(*value) {
            Ok(given) if given <= max => Ok(Some(given)),
            _ => Err(Refusal::new(Code::Range, field, format!("expected 0 to {max}, found {value}"))),
        },
        Field::Wrong(wrong) => Err(wrong_type(field, "an integer", *wrong)),
    }
}

#[cfg(test)]
mod tests;
