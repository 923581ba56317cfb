//! The short way to a record: the array form that clients write, read by hand.
//!
//! serde asks each value what it is and is told by a visitor, which takes several times as long as the reading. Nearly
//! every record is an array whose fields have the types that the specification gives, so those are read straight off. At
//! anything else (a map, a nested value, a negative number, text that is not UTF-8) this way gives up, and serde decides: it
//! alone says what is wrong. Both ways agree on what they both read; a property test holds them together.

use std::borrow::Cow;

use super::raw::RawRecord;
use super::raw_value::{Decimal, Field, IdValue, Int, Object, Text, TimeValue, Units};

const NIL: u8 = 0xc0;
const BIN8: u8 = 0xc4;
const EMPTY_MAP: u8 = 0x80;

/// Reads a record that is exactly as clients write them; otherwise none.
#[must_use]
pub fn read(bytes: &[u8]) -> Option<RawRecord<'_>> {
    let mut fields = Fields::new(bytes)?;
    let record = RawRecord {
        id: fields.id()?,
        occurred_at: fields.time()?,
        provider: fields.text()?,
        model: fields.text()?,
        endpoint: fields.text()?,
        user_id: fields.text()?,
        app: fields.text()?,
        request_id: fields.text()?,
        input_tokens: fields.int()?,
        output_tokens: fields.int()?,
        cache_read_tokens: fields.int()?,
        cache_write_5m_tokens: fields.int()?,
        cache_write_1h_tokens: fields.int()?,
        requests: fields.int()?,
        extra_units: Units(fields.no_units()?),
        service_tier: fields.text()?,
        status: fields.int()?,
        latency_ms: fields.int()?,
        cost_usd: Decimal(fields.text()?),
        metadata: Object(fields.text()?),
    };
    (fields.left == 0 && fields.rest.is_empty()).then_some(record)
}

/// What is left of the array. Fields beyond its end are absent.
struct Fields<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Fields<'a> {
    fn new(bytes: &'a [u8]) -> Option<Self> {
        match *bytes {
            [head @ 0x90..=0x9f, ref rest @ ..] => Some(Self { rest, left: usize::from(head & 0x0f) }),
            [0xdc, high, low, ref rest @ ..] => Some(Self { rest, left: usize::from(u16::from_be_bytes([high, low])) }),
            _ => None,
        }
    }

    /// The next value's first byte; none past the end, or for nil. The outer none gives up.
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
    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(bytes)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*bytes)
    }

    /// Nil, or a map of nothing.
    fn no_units<T: Default>(&mut self) -> Option<Field<T>> {
        match self.head()? {
            None => Some(Field::Absent),
            Some(EMPTY_MAP) => Some(Field::Given(T::default())),
            Some(_) => None,
        }
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

    #[inline]
    fn int(&mut self) -> Option<Int> {
        let Some(head) = self.head()? else { return Some(Field::Absent) };
        Some(Field::Given(self.unsigned(head)?.into()))
    }

    fn time(&mut self) -> Option<Field<TimeValue<'a>>> {
        let Some(head) = self.head()? else { return Some(Field::Absent) };
        Some(Field::Given(TimeValue::Micros(self.unsigned(head)?.into())))
    }

    fn id(&mut self) -> Option<Field<IdValue<'a>>> {
        match self.head()? {
            None => Some(Field::Absent),
            Some(BIN8) if self.array::<1>()? == [16] => Some(Field::Given(IdValue::Bytes(self.array()?))),
            Some(_) => None,
        }
    }

    #[inline]
    fn text(&mut self) -> Option<Text<'a>> {
        let Some(head) = self.head()? else { return Some(Field::Absent) };
        let len = match head {
            0xa0..=0xbf => usize::from(head & 0x1f),
            0xd9 => usize::from(self.array::<1>()?[0]),
            0xda => usize::from(u16::from_be_bytes(self.array()?)),
            _ => return None,
        };
        let bytes = self.bytes(len)?;
        // Names and ids nearly always are: the shorter question first.
        let text = if bytes.is_ascii() {
            // SAFETY: every byte is ASCII, and any sequence of ASCII bytes is UTF-8.
            unsafe { std::str::from_utf8_unchecked(bytes) }
        } else {
            std::str::from_utf8(bytes).ok()?
        };
        Some(Field::Given(Cow::Borrowed(text)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tallyd_protocol::Record;

    use super::*;

    fn written(record: &Record) -> Vec<u8> {
        let mut bytes = Vec::new();
        tallyd_protocol::record::write(&mut bytes, record);
        bytes
    }

    fn full() -> Record {
        Record {
            id: Some([7; 16]),
            occurred_at: Some(1_700_000_000_000_001),
            cost_usd: Some("0.20".into()),
            metadata: Some(r#"{"k":"v"}"#.into()),
            status: 529,
            latency_ms: Some(70_000),
            ..Record::claude("claude-sonnet-4-5", 10, 1 << 33).user("u".repeat(300))
        }
    }

    /// A value, as likely as not of a type that some field expects.
    fn value() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            Just(vec![NIL]),
            any::<u64>().prop_map(|number| {
                let mut bytes = Vec::new();
                rmp::encode::write_uint(&mut bytes, number).unwrap();
                bytes
            }),
            "\\PC{0,40}".prop_map(|text| {
                let mut bytes = Vec::new();
                rmp::encode::write_str(&mut bytes, &text).unwrap();
                bytes
            }),
            any::<[u8; 16]>().prop_map(|id| [&[BIN8, 16][..], &id].concat()),
            any::<i8>().prop_map(|byte| vec![0xd0, byte as u8]),
            Just(vec![0x80]),
            Just(vec![0xa1, 0xff]),
            Just(vec![0xcb, 0, 0, 0, 0, 0, 0, 0, 0]),
        ]
    }

    proptest! {
        #[test]
        fn both_ways_agree(values in prop::collection::vec(value(), 0..23), cut in 0..3_usize) {
            let mut bytes = vec![0xdc, 0, values.len() as u8];
            bytes.extend(values.concat());
            bytes.truncate(bytes.len().saturating_sub(cut));
            if let Some(record) = read(&bytes) {
                prop_assert_eq!(rmp_serde::from_slice::<RawRecord<'_>>(&bytes).unwrap(), record);
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            if let Some(record) = read(&bytes) {
                prop_assert_eq!(rmp_serde::from_slice::<RawRecord<'_>>(&bytes).unwrap(), record);
            }
        }
    }

    #[test]
    fn what_clients_write_takes_the_short_way() {
        for record in [full(), Record::rentcast("/avm"), Record::claude("m", 1, 2)] {
            let bytes = written(&record);
            assert_eq!(read(&bytes), Some(rmp_serde::from_slice(&bytes).unwrap()), "{record:?}");
        }
    }

    #[test]
    fn what_is_unusual_is_left_to_serde() {
        let units = Record { extra_units: vec![("image".into(), "2".into())], ..full() };
        assert_eq!(read(&written(&units)), None);
        assert_eq!(read(&[0x80]), None, "a map");
        assert_eq!(read(&[0x93, NIL, 0xff, NIL]), None, "a negative time");
        assert_eq!(read(&[0x91, NIL, NIL]), None, "more bytes than the array has");
    }
}
