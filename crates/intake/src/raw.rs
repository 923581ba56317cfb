//! A received record, from MessagePack (a map or an array) or JSON.

use serde::Deserialize;

macro_rules! raw_record {
    ($($(#[doc = $doc:literal])* $name:ident: $type:ty = $default:expr, $kind:ident;)*) => {
        /// A record before any check.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct RawRecord<'a> {
            $(
                $(#[doc = $doc])*
                #[serde(borrow)]
                pub $name: kind::$kind<'a>,
            )*
        }
    };
}

tallyd_protocol::for_each_field!(raw_record);

/// The Rust type for each kind of field.
#[expect(non_camel_case_types, reason = "the kinds' names")]
mod kind {
    use crate::raw_value::{Decimal, Field, IdValue, Int, ObjectText, TextField, TimeValue, Units};

    pub(super) type id<'a> = Field<IdValue<'a>>;
    pub(super) type time<'a> = Field<TimeValue<'a>>;
    pub(super) type required<'a> = TextField<'a>;
    pub(super) type text<'a> = TextField<'a>;
    pub(super) type count<'a> = Int;
    pub(super) type units<'a> = Units<'a>;
    pub(super) type status<'a> = Int;
    pub(super) type latency<'a> = Int;
    pub(super) type decimal<'a> = Decimal<'a>;
    pub(super) type json<'a> = ObjectText<'a>;
    pub(super) type tags<'a> = Units<'a>;
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use tallyd_protocol::Record;

    use super::*;
    use crate::raw_value::{Decimal, Field, IdValue, ObjectText, TimeValue, Units, Wrong};

    #[test]
    fn the_order_of_the_fields_is_the_protocols() {
        let error = tallyd_model::json::from_str::<RawRecord<'_>>(r#"{"nonsense": 1}"#).unwrap_err().to_string();
        let expected: Vec<_> = tallyd_protocol::record::FIELDS.iter().map(|name| format!("`{name}`")).collect();
        assert!(error.contains(&format!("expected one of {}", expected.join(", "))), "{error}");
    }

    #[test]
    fn json_numbers_keep_their_digits_and_text_is_borrowed() {
        let json = r#"{"provider":"x","cost_usd":0.1000000000000000055,"input_tokens":-5,"latency_ms":1.5,
            "extra_units":{"image":2.50},"metadata":{"a":1.10,"b":{"c":[null]}},"status":"200"}"#;
        let raw: RawRecord<'_> = tallyd_model::json::from_str(json).unwrap();
        assert!(matches!(raw.provider, Field::Given(Cow::Borrowed("x"))));
        assert_eq!(raw.cost_usd, Decimal(Field::Given("0.1000000000000000055".into())));
        assert_eq!(raw.input_tokens, Field::Given(-5));
        assert_eq!(raw.latency_ms, Field::Wrong(Wrong::Kind("a number with a fraction or an exponent")));
        assert_eq!(raw.extra_units, Units(Field::Given(vec![("image".into(), Decimal(Field::Given("2.50".into())))])));
        assert_eq!(raw.metadata, ObjectText(Field::Given(r#"{"a":1.10,"b":{"c":[null]}}"#.into())));
        assert_eq!(raw.status, Field::Given(200));
    }

    #[test]
    fn a_messagepack_float_is_not_an_amount() {
        let mut bytes = Vec::new();
        rmp::encode::write_map_len(&mut bytes, 1).unwrap();
        rmp::encode::write_str(&mut bytes, "cost_usd").unwrap();
        rmp::encode::write_f64(&mut bytes, 0.1).unwrap();
        let raw: RawRecord<'_> = rmp_serde::from_slice(&bytes).unwrap();
        assert_eq!(raw.cost_usd, Decimal(Field::Wrong(Wrong::Kind("a binary floating-point number"))));
    }

    #[test]
    fn what_the_client_writes_is_what_arrives() {
        let record = Record {
            id: Some([7; 16]),
            occurred_at: Some(1_700_000_000_000_001),
            extra_units: vec![("web_search".into(), "3".into())],
            cost_usd: Some("0.20".into()),
            metadata: Some(r#"{"k":"v"}"#.into()),
            status: 529,
            ..Record::claude("claude-sonnet-4-5", 10, 20).user("u")
        };
        let mut bytes = Vec::new();
        tallyd_protocol::record::write(&mut bytes, &record);
        let raw: RawRecord<'_> = rmp_serde::from_slice(&bytes).unwrap();
        assert_eq!(raw.id, Field::Given(IdValue::Bytes([7; 16])));
        assert_eq!(raw.occurred_at, Field::Given(TimeValue::Micros(1_700_000_000_000_001)));
        assert!(matches!(raw.model, Field::Given(Cow::Borrowed("claude-sonnet-4-5"))));
        assert_eq!((raw.input_tokens, raw.output_tokens), (Field::Given(10), Field::Given(20)));
        assert_eq!((raw.status, raw.latency_ms), (Field::Given(529), Field::Absent));
        assert_eq!(raw.cost_usd, Decimal(Field::Given("0.20".into())));
        assert_eq!(raw.metadata, ObjectText(Field::Given(r#"{"k":"v"}"#.into())));
    }
}
