//! The fast path to a call: reads by hand the array form that clients write.
//!
//! serde asks each value for its type through a visitor, which takes several times as long as the reading itself. Its
//! result is large, and is then examined field by field. But nearly every record is an array whose fields have the
//! specified types, within all bounds. Such a record becomes a [`Call`] directly, without a copy.
//!
//! For any other record this path gives up: a map of its fields, a nested value, a negative number, a name that is too long or has
//! upper case. Then [`frame::decode`](super::frame::decode) and [`Admission::admit_with`] decide: only they describe the
//! problem. If this path succeeds, its result equals theirs; a property test compares them.

use std::borrow::Cow;

use tallyd_protocol::record::MADE_ID;

use super::rules::{Admission, LATENCY_MAX_MS, STATUS_MAX, check_text};
use super::tags::Tags;
use tallyd_model::call::{Call, Cost, Stated};
use tallyd_model::pricing::{Tokens, normalise_platform, normalise_provider, normalise_tier};

const NIL: u8 = 0xc0;
const BIN8: u8 = 0xc4;
const EMPTY_MAP: u8 = 0x80;

/// Admits a record in exactly the clients' form and order; otherwise none. The call borrows its tags from `tags`.
#[must_use]
#[inline]
pub fn admit<'a>(admission: &Admission<'_>, bytes: &'a [u8], tags: &'a mut Tags) -> Option<Call<'a>> {
    let mut fields = Fields::new(bytes, admission)?;
    let (id, source) = fields.id()?;
    let mut call = Call {
        id,
        occurred_at_us: fields.time()?,
        provider: fields.provider()?,
        model: fields.text()?,
        endpoint: fields.endpoint()?,
        user_id: fields.text()?,
        app: fields.text()?,
        request_id: fields.text()?,
        tokens: Tokens {
            input: fields.count(0)?,
            output: fields.count(0)?,
            cache_read: fields.count(0)?,
            cache_write_5m: fields.count(0)?,
            cache_write_1h: fields.count(0)?,
        },
        requests: fields.count(1)?,
        extra_units: fields.no_map()?,
        service_tier: fields.tier()?,
        status: fields.number(STATUS_MAX)?.unwrap_or(200),
        latency_ms: fields.number(LATENCY_MAX_MS)?,
        cost: fields.cost()?,
        metadata: fields.metadata()?,
        platform: "",
        tags: "",
        stated: Stated::default(),
    };
    call.platform = fields.platform(call.provider)?;
    *tags = fields.tags()?;
    (call.tags, call.app) = (&tags.stored, tags.app_or(call.app));
    if fields.left > 0 || !fields.rest.is_empty() {
        return None;
    }
    if call.cost == Cost::Unpriced {
        call.cost = admission.price(&call, &[]);
    }
    match source {
        IdOrigin::Client => {}
        IdOrigin::Sender => call.stated = admission.stated(true, &call),
        IdOrigin::Nobody => call.stated = admission.stated(false, &call),
    }
    Some(call)
}

/// Origin of an id.
#[derive(Clone, Copy)]
enum IdOrigin {
    /// A client library made it for this record alone.
    Client,
    /// The sender stated it.
    Sender,
    /// It is made here.
    Nobody,
}

/// The remaining array. Fields beyond its end are absent.
struct Fields<'a, 'r> {
    rest: &'a [u8],
    left: usize,
    admission: &'r Admission<'r>,
}

impl<'a, 'r> Fields<'a, 'r> {
    #[inline]
    fn new(bytes: &'a [u8], admission: &'r Admission<'r>) -> Option<Self> {
        let (left, rest) = match *bytes {
            [head @ 0x90..=0x9f, ref rest @ ..] => (usize::from(head & 0x0f), rest),
            [0xdc, high, low, ref rest @ ..] => (usize::from(u16::from_be_bytes([high, low])), rest),
            _ => return None,
        };
        Some(Self { rest, left, admission })
    }

    /// The next value's first byte; none past the end, or for nil. The outer none means giving up.
    #[inline]
    fn head(&mut self) -> Option<Option<u8>> {
        if self.left == 0 {
            return Some(None);
        }
        let (head, rest) = self.rest.split_first()?;
        self.left -= 1;
        self.rest = rest;
        Some((*head != NIL).then_some(*head))
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*bytes)
    }

    /// Nil, or an empty map.
    #[inline]
    fn no_map(&mut self) -> Option<&'static str> {
        matches!(self.head()?, None | Some(EMPTY_MAP)).then_some("")
    }

    /// At most 15 tags: more have another kind of head.
    #[inline]
    fn tags(&mut self) -> Option<Tags> {
        match self.head()? {
            None | Some(EMPTY_MAP) => Some(Tags::default()),
            Some(head @ 0x81..=0x8f) => {
                let pairs: Option<Vec<_>> =
                    (0..head & 0x0f).map(|_| Some((self.element()?, self.element()?))).collect();
                Tags::of(pairs?.into_iter().map(Ok)).ok()
            }
            Some(_) => None,
        }
    }

    /// A text within a map.
    #[inline]
    fn element(&mut self) -> Option<&'a str> {
        // The array's count is of its own fields.
        self.left += 1;
        std::str::from_utf8(self.raw()??).ok()
    }

    #[inline]
    fn unsigned(&mut self, head: u8) -> Option<u64> {
        Some(match head {
            0..=0x7f => head.into(),
            0xcc => self.array::<1>()?[0].into(),
            0xcd => u16::from_be_bytes(self.array()?).into(),
            0xce => u32::from_be_bytes(self.array()?).into(),
            0xcf => u64::from_be_bytes(self.array()?),
            _ => return None,
        })
    }

    /// A number up to `max`; otherwise gives up.
    #[inline]
    fn number<T: TryFrom<u64> + PartialOrd>(&mut self, max: T) -> Option<Option<T>> {
        let Some(head) = self.head()? else { return Some(None) };
        let value = T::try_from(self.unsigned(head)?).ok()?;
        (value <= max).then_some(Some(value))
    }

    #[inline]
    fn count(&mut self, default: u64) -> Option<u64> {
        Some(self.number(self.admission.rules.tokens)?.unwrap_or(default))
    }

    #[inline]
    fn time(&mut self) -> Option<i64> {
        let us = match self.head()? {
            None => self.admission.now_us.into(),
            Some(head) => self.unsigned(head)?.into(),
        };
        self.admission.in_time(us).ok()
    }

    #[inline]
    fn id(&mut self) -> Option<([u8; 16], IdOrigin)> {
        match self.head()? {
            None => Some((self.admission.new_id(), IdOrigin::Nobody)),
            Some(BIN8) => match self.array::<1>()? {
                [17] if self.array::<1>()? == [MADE_ID] => Some((self.array()?, IdOrigin::Client)),
                [16] => Some((self.array()?, IdOrigin::Sender)),
                _ => None,
            },
            Some(_) => None,
        }
    }

    /// The bytes of a text; none past the end, or for nil.
    #[inline]
    fn raw(&mut self) -> Option<Option<&'a [u8]>> {
        let Some(head) = self.head()? else { return Some(None) };
        let len = match head {
            0xa0..=0xbf => usize::from(head & 0x1f),
            0xd9 => usize::from(self.array::<1>()?[0]),
            0xda => usize::from(u16::from_be_bytes(self.array()?)),
            _ => return None,
        };
        let (bytes, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(Some(bytes))
    }

    #[inline]
    fn text(&mut self) -> Option<&'a str> {
        let Some(bytes) = self.raw()? else { return Some("") };
        self.checked(std::str::from_utf8(bytes).ok()?)
    }

    #[inline]
    fn checked(&self, text: &'a str) -> Option<&'a str> {
        check_text("", text, self.admission.rules.text_bytes).ok().map(|()| text)
    }

    /// A provider whose stored name is its text, or a known name.
    #[inline]
    fn provider(&mut self) -> Option<&'a str> {
        match normalise_provider(self.text()?) {
            Cow::Borrowed("") | Cow::Owned(_) => None,
            Cow::Borrowed(provider) => Some(provider),
        }
    }

    /// The query string may be any text.
    #[inline]
    fn endpoint(&mut self) -> Option<&'a str> {
        let Some(bytes) = self.raw()? else { return Some("") };
        self.checked(self.admission.kept(std::str::from_utf8(bytes).ok()?))
    }

    /// A platform whose stored name is its text, or a known name.
    #[inline]
    fn platform(&mut self, provider: &str) -> Option<&'a str> {
        match normalise_platform(self.text()?, provider) {
            Cow::Owned(_) => None,
            Cow::Borrowed(platform) => Some(platform),
        }
    }

    /// A tier whose stored name is its text, or a known name.
    #[inline]
    fn tier(&mut self) -> Option<&'a str> {
        match normalise_tier(self.text()?) {
            Cow::Owned(_) => None,
            Cow::Borrowed(tier) => Some(tier),
        }
    }

    /// The stated cost; unpriced if absent.
    #[inline]
    fn cost(&mut self) -> Option<Cost> {
        let Some(bytes) = self.raw()? else { return Some(Cost::Unpriced) };
        self.admission.stated_usd(std::str::from_utf8(bytes).ok()?).ok().map(Cost::Client)
    }

    #[inline]
    fn metadata(&mut self) -> Option<&'a str> {
        let Some(bytes) = self.raw()? else { return Some("") };
        // A changed text would need memory of its own, which this path does not have.
        match self.admission.metadata_text(std::str::from_utf8(bytes).ok()?) {
            Ok(Cow::Borrowed(text)) => Some(text),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
