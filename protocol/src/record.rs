//! One paid API call, as a client describes it, and its encoding as a MessagePack array.
//!
//! The array's order is the order of [`FIELDS`]. Trailing defaults are left off; a default in the middle is nil or the
//! default itself. The daemon also accepts maps with the same names, which take more bytes.

use std::borrow::Cow;

use rmp::encode;

use crate::for_each_field;

/// The first of the 17 bytes of an id that a client library made. An id that the application states has 16 bytes.
pub const MADE_ID: u8 = 1;

/// Text that is usually a constant, such as a provider's or a model's name, and then needs no allocation.
pub type Text = Cow<'static, str>;

macro_rules! record {
    ($($(#[doc = $doc:literal])* $name:ident: $type:ty = $default:expr, $kind:ident;)*) => {
        /// The names of a record's fields, in the order of the array form.
        pub const FIELDS: [&str; [$(stringify!($name)),*].len()] = [$(stringify!($name)),*];

        /// One paid API call. Token buckets are disjoint: `input_tokens` excludes tokens read from or written to a cache.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Record {
            $($(#[doc = $doc])* pub $name: $type,)*
            /// True if a client library made `id` and the application did not state one. The sequence number already prevents
            /// a second count of such a record, so the daemon does not look the id up.
            pub made_id: bool,
        }

        impl Default for Record {
            fn default() -> Self {
                Self { $($name: $default,)* made_id: false }
            }
        }

        impl Record {
            /// The length of the array form: up to the last field that is not at its default, and at least to `provider`.
            fn array_len(&self) -> u32 {
                let (mut place, mut len) = (0, 0);
                $(
                    place += 1;
                    if self.$name.differs(&$default) {
                        len = place;
                    }
                )*
                len.max(ALWAYS)
            }

            /// Calls `each` with every text of the record, those of its units included.
            pub fn each_text<'a>(&'a self, mut each: impl FnMut(&'a Text)) {
                $(self.$name.each_text(&mut each);)*
            }
        }

        /// Appends the record's array form.
        pub fn write(out: &mut Vec<u8>, record: &Record) {
            let mut left = record.array_len();
            encode::write_array_len(out, left).expect(OK);
            $(
                if left == 0 {
                    return;
                }
                left -= 1;
                record.$name.write(out, record.made_id);
            )*
        }
    };
}

for_each_field!(record);

/// The id of the first of some encoded records: after the array's head (1 or 3 bytes) comes `bin 8` of 16 bytes, or of 17 if
/// the client made the id.
#[must_use]
pub fn id_of(records: &[u8]) -> Option<[u8; 16]> {
    let head = if *records.first()? == 0xdc { 3 } else { 1 };
    let id = records.get(head..)?.strip_prefix(&[0xc4])?;
    let id = id.strip_prefix(&[16]).or_else(|| id.strip_prefix(&[17, MADE_ID]))?;
    id.first_chunk().copied()
}

/// The fields up to `provider` are always written.
const ALWAYS: u32 = 3;
/// MessagePack's markers of a text below 32 bytes (with its length), of an integer of 64 bits, and of up to 255 bytes.
const FIX_STR: u8 = 0xa0;
const U64: u8 = 0xcf;
const BIN_8: u8 = 0xc4;
/// Every write goes into a `Vec`, which cannot fail.
const OK: &str = "a Vec takes every write";

/// The encoding of a field, by its type, and its texts. A client writes records on the application's threads, so the usual
/// values are written without the general encoder's steps.
trait Value: PartialEq {
    /// `made_id` concerns ids only: see [`Record::made_id`].
    fn write(&self, out: &mut Vec<u8>, made_id: bool);

    fn differs(&self, default: &Self) -> bool {
        self != default
    }

    fn each_text<'a>(&'a self, _each: &mut impl FnMut(&'a Text)) {}
}

impl Value for Text {
    #[inline]
    fn write(&self, out: &mut Vec<u8>, _: bool) {
        match u8::try_from(self.len()) {
            Ok(0) => out.push(FIX_STR),
            Ok(bytes @ 1..32) => {
                out.push(FIX_STR | bytes);
                out.extend_from_slice(self.as_bytes());
            }
            _ => encode::write_str(out, self).expect(OK),
        }
    }

    /// Most texts are empty, and most defaults: compared by their lengths alone.
    #[inline]
    fn differs(&self, default: &Self) -> bool {
        self.len() != default.len() || (!self.is_empty() && self != default)
    }

    fn each_text<'a>(&'a self, each: &mut impl FnMut(&'a Text)) {
        each(self);
    }
}

impl Value for u64 {
    fn write(&self, out: &mut Vec<u8>, _: bool) {
        encode::write_uint(out, *self).expect(OK);
    }
}

impl Value for u32 {
    fn write(&self, out: &mut Vec<u8>, _: bool) {
        encode::write_uint(out, u64::from(*self)).expect(OK);
    }
}

impl Value for u16 {
    fn write(&self, out: &mut Vec<u8>, _: bool) {
        encode::write_uint(out, u64::from(*self)).expect(OK);
    }
}

impl Value for i64 {
    #[inline]
    fn write(&self, out: &mut Vec<u8>, _: bool) {
        if *self > i64::from(u32::MAX) {
            let [a, b, c, d, e, f, g, h] = self.to_be_bytes();
            out.extend_from_slice(&[U64, a, b, c, d, e, f, g, h]);
        } else {
            encode::write_sint(out, *self).expect(OK);
        }
    }
}

impl Value for [u8; 16] {
    fn write(&self, out: &mut Vec<u8>, made_id: bool) {
        if made_id {
            let mut made = [MADE_ID; 19];
            (made[0], made[1]) = (BIN_8, 17);
            made[3..].copy_from_slice(self);
            out.extend_from_slice(&made);
        } else {
            encode::write_bin(out, self).expect(OK);
        }
    }
}

impl Value for Vec<(Text, Text)> {
    fn write(&self, out: &mut Vec<u8>, _: bool) {
        let units = u32::try_from(self.len()).expect("a record has a handful of units");
        encode::write_map_len(out, units).expect(OK);
        for (unit, quantity) in self {
            encode::write_str(out, unit).expect(OK);
            encode::write_str(out, quantity).expect(OK);
        }
    }

    fn each_text<'a>(&'a self, each: &mut impl FnMut(&'a Text)) {
        for (unit, quantity) in self {
            each(unit);
            each(quantity);
        }
    }
}

impl<T: Value> Value for Option<T> {
    fn write(&self, out: &mut Vec<u8>, made_id: bool) {
        match self {
            Some(value) => value.write(out, made_id),
            None => encode::write_nil(out).expect(OK),
        }
    }

    fn each_text<'a>(&'a self, each: &mut impl FnMut(&'a Text)) {
        if let Some(value) = self {
            value.each_text(each);
        }
    }
}

impl Record {
    /// A call to a Claude model.
    pub fn claude(model: impl Into<Text>, input_tokens: u64, output_tokens: u64) -> Self {
        Self { provider: "claude".into(), model: model.into(), input_tokens, output_tokens, ..Self::default() }
    }

    /// A call to a RentCast endpoint.
    pub fn rentcast(endpoint: impl Into<Text>) -> Self {
        Self { provider: "rentcast".into(), endpoint: endpoint.into(), ..Self::default() }
    }

    /// Names the user on whose behalf the call was made.
    #[must_use]
    pub fn user(mut self, user_id: impl Into<Text>) -> Self {
        self.user_id = user_id.into();
        self
    }

    /// Adds a tag, such as the team that pays.
    #[must_use]
    pub fn tag(mut self, name: impl Into<Text>, value: impl Into<Text>) -> Self {
        self.tags.push((name.into(), value.into()));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_at_the_end_are_left_off() {
        let mut out = Vec::new();
        write(&mut out, &Record { provider: "x".into(), ..Record::default() });
        assert_eq!(out, [0x93, 0xc0, 0xc0, 0xa1, b'x']);
    }

    #[test]
    fn every_text_is_handed_over() {
        let record = Record {
            extra_units: vec![("image".into(), "2".into())],
            metadata: Some("{}".into()),
            ..Record::claude("m", 1, 2).user("u").tag("team", "search")
        };
        let mut texts = Vec::new();
        record.each_text(|text| texts.push(&**text));
        texts.retain(|text| !text.is_empty());
        assert_eq!(texts, ["claude", "m", "u", "image", "2", "standard", "{}", "team", "search"]);
    }

    #[test]
    fn a_late_field_keeps_its_place() {
        let record = Record::rentcast("/avm/value").tag("team", "search");
        let mut out = Vec::new();
        write(&mut out, &record);
        let decoded: Vec<serde::de::IgnoredAny> = rmp_serde::from_slice(&out).unwrap();
        assert_eq!(decoded.len(), FIELDS.len());
    }
}
