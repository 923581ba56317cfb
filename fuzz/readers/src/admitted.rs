//! Properties of every record that was read, accepted or not.

use serde_json::{Map, Value};
use tallyd_protocol::{Record, limits, record};

use tallyd_intake::frame::{self, ClientFrame};
use tallyd_intake::raw_value::Field;
use tallyd_intake::tags::Tags;
use tallyd_intake::{Absent, Admission, Code, Encoded, Refusal, Rules, array};
use tallyd_model::call::{Call, Cost, Stated};
use tallyd_model::field_of;
use tallyd_model::pricing::{Catalog, PricingOptions, Quantity};
use tallyd_store::load::copy_row::Layout;
use tallyd_wal::chunk::{Chunk, ChunkBuilder, Columns, Entry, PayloadReader, Refused};

/// The time at which everything is read: 2026-11-23.
const NOW_US: i64 = 1_795_392_000_000_000;

/// Admits a record the long way, checks the outcome, and returns whether it was accepted.
pub fn check(record: Encoded<'_>) -> bool {
    let rules = Rules::default();
    let catalog = catalog();
    let admission = Admission { rules: &rules, catalog, now_us: NOW_US };
    admission.admit_with(record, Absent::default(), |admitted| match admitted {
        Ok(call) => {
            check_call(call, &rules);
            check_chunk(call);
            check_resend(call, &admission);
            true
        }
        Err(refusal) => {
            check_refusal(&refusal, record);
            false
        }
    })
}

/// Decoding the short way gives the same result as the long way, or nothing.
pub fn check_short_way(bytes: &[u8]) {
    let rules = Rules::default();
    let admission = Admission { rules: &rules, catalog: catalog(), now_us: NOW_US };
    let mut tags = Tags::default();
    let Some(short) = array::admit(&admission, bytes, &mut tags) else { return };
    let record = Encoded::MessagePack(bytes);
    let has_id = record.read().expect("what is read by hand decodes").id != Field::Absent;
    admission.admit_with(record, Absent::default(), |long| {
        let long = *long.expect("what is admitted by hand is admitted");
        // Without an id, each way draws a random one.
        let id = if has_id { long.id } else { short.id };
        assert_eq!(short, Call { id, ..long });
    });
}

/// The built-in prices, read once.
fn catalog() -> &'static Catalog {
    static CATALOG: std::sync::OnceLock<Catalog> = std::sync::OnceLock::new();
    CATALOG.get_or_init(|| Catalog::builtin(&PricingOptions::default()).expect("the catalog's own tests read it"))
}

/// A refusal can be printed, stored and counted.
fn check_refusal(refusal: &Refusal, record: Encoded<'_>) {
    assert!(Code::ALL.contains(&refusal.code));
    assert!(!refusal.message.is_empty(), "{refusal:?}");
    for text in [&refusal.field, &refusal.message] {
        assert!(!text.contains('\0'), "PostgreSQL cannot store it: {refusal:?}");
        assert!(text.len() <= 4_096, "it echoes what was sent without a bound: {} bytes", text.len());
    }
    let refused = Refused {
        code: refusal.code.name(),
        field: &refusal.field,
        message: &refusal.message,
        payload_format: record.format(),
        payload: record.bytes(),
        ..Default::default()
    };
    let mut builder = ChunkBuilder::new();
    assert!(builder.push_refused(1, &refused).is_none());
    let chunk = builder.finish().expect("an entry was pushed");
    let [Entry::Refused(read)] = entries(&chunk)[..] else { panic!("one refused record was written") };
    assert_eq!((read.code, read.field, read.message), (refused.code, refused.field, refused.message));
    assert!(record.bytes().starts_with(read.payload));
}

/// The bounds of the wire specification, stated a second time.
fn check_call(call: &Call<'_>, rules: &Rules) {
    assert!(!call.provider.is_empty() && !call.service_tier.is_empty());
    assert!(!call.provider.bytes().any(|byte| byte.is_ascii_uppercase()));
    record_of(call).each_text(|text| {
        // Units, a cost and metadata are bounded below.
        assert!(text.len() <= limits::TEXT_BYTES || **text == *call.metadata, "{text:?}");
        assert!(!text.contains('\0'), "{text:?}");
    });
    assert!(!call.endpoint.contains(['?', '#']) || !rules.strip_query, "{:?}", call.endpoint);
    let tokens = &call.tokens;
    for count in
        [tokens.input, tokens.output, tokens.cache_read, tokens.cache_write_5m, tokens.cache_write_1h, call.requests]
    {
        assert!(count <= limits::TOKENS);
    }
    assert!(call.status <= 999);
    assert!(call.latency_ms.is_none_or(|ms| i32::try_from(ms).is_ok()));
    assert!((limits::OCCURRED_AT_MIN_US..=NOW_US + limits::AHEAD_US).contains(&call.occurred_at_us));
    if let Cost::Client(usd) = call.cost {
        assert!(usd.fits_a_record());
    }
    // A number or a nested value that becomes text gets quotes and escapes.
    assert!(call.metadata.len() <= 3 * limits::METADATA_BYTES);
    assert!(!call.metadata.contains('\0'));
    assert!(call.metadata.is_empty() || object(call.metadata).is_some(), "{}", call.metadata);
    assert!(units(call.extra_units).len() <= limits::EXTRA_UNITS);
    let tags = tags(call.tags);
    assert!(tags.len() <= limits::TAGS && tags.is_sorted(), "{tags:?}");
    for (name, value) in &tags {
        assert!((1..=limits::TAG_NAME_BYTES).contains(&name.len()) && name != "app", "{name:?}");
        assert!((1..=limits::TAG_VALUE_BYTES).contains(&value.len()), "{value:?}");
    }
}

fn object(text: &str) -> Option<Map<String, Value>> {
    serde_json::from_str(text).ok()
}

/// The units as they are stored: an object of canonical decimals.
fn units(text: &str) -> Vec<(String, String)> {
    if text.is_empty() {
        return Vec::new();
    }
    let units = object(text).expect("units are stored as an object");
    assert!(!units.is_empty());
    let read = units.into_iter().map(|(unit, quantity)| {
        let quantity = quantity.as_str().expect("a quantity is stored as text").to_owned();
        let parsed = Quantity::parse(&quantity).expect("a quantity is stored as a decimal");
        assert_eq!(parsed.to_string(), quantity);
        assert!(!unit.contains('\0'));
        (unit, quantity)
    });
    read.collect()
}

/// The tags as they are stored: an object of texts.
fn tags(text: &str) -> Vec<(String, String)> {
    if text.is_empty() {
        return Vec::new();
    }
    let tags = object(text).expect("tags are stored as an object");
    assert!(!tags.is_empty());
    let text = |value: Value| value.as_str().expect("a tag's value is text").to_owned();
    tags.into_iter().map(|(name, value)| (name, text(value))).collect()
}

/// The call survives the encoding in which it travels to PostgreSQL.
fn check_chunk(call: &Call<'_>) {
    let mut builder = ChunkBuilder::new();
    // Twice: the second one refers to the first one's names.
    let mut chunks: Vec<_> = [1, 2].into_iter().filter_map(|seq| builder.push_call(seq, call)).collect();
    chunks.extend(builder.finish());
    let read: Vec<_> = chunks.iter().flat_map(entries).collect();
    assert_eq!(read, [Entry::Call(*call); 2]);
    let needed = Columns::of(call);
    assert!(chunks.iter().all(|chunk| chunk.columns.has(needed)));
    for columns in [needed, Columns::EVERY] {
        let mut row = Vec::new();
        Layout::new("t", columns).write(&mut row, call, 0);
        assert!(!row.is_empty());
    }
}

fn entries(chunk: &Chunk) -> Vec<Entry<'_>> {
    PayloadReader::new(&chunk.payload).collect::<Result<_, _>>().expect("what was written reads back")
}

macro_rules! record_of {
    ($($(#[doc = $doc:literal])* $name:ident: $type:ty = $default:expr, $kind:ident;)*) => {
        /// The record of which the call was made, or an equivalent one, with an id made by a client.
        fn record_of(call: &Call<'_>) -> Record {
            Record { $($name: sent::$kind(field_of!(call, $name)),)* made_id: true }
        }
    };
}

tallyd_protocol::for_each_field!(record_of);

/// A call's field in the form that a record has: a function for each kind of field.
mod sent {
    use tallyd_model::call::Cost;
    use tallyd_model::pricing::Usd;
    use tallyd_protocol::record::Text;

    pub(super) use self::{same as count, same as latency, same as status, some as id, some as time, text as required};

    pub(super) fn same<T>(value: T) -> T {
        value
    }

    pub(super) fn some<T>(value: T) -> Option<T> {
        Some(value)
    }

    pub(super) fn text(text: &str) -> Text {
        text.to_owned().into()
    }

    pub(super) fn units(stored: &str) -> Vec<(Text, Text)> {
        super::units(stored).into_iter().map(|(unit, count)| (unit.into(), count.into())).collect()
    }

    pub(super) fn tags(stored: &str) -> Vec<(Text, Text)> {
        super::tags(stored).into_iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    pub(super) fn decimal(cost: Cost) -> Option<Text> {
        match cost {
            Cost::Client(usd) => Some(Usd::to_string(&usd).into()),
            Cost::Catalog { .. } | Cost::Unpriced => None,
        }
    }

    pub(super) fn json(stored: &str) -> Option<Text> {
        (!stored.is_empty()).then(|| text(stored))
    }
}

/// A client that sends an accepted record again has it accepted as the same call.
fn check_resend(call: &Call<'_>, admission: &Admission<'_>) {
    let sent = record_of(call);
    let mut body = Vec::new();
    tallyd_protocol::message::write_records_head(&mut body, 1, 1);
    record::write(&mut body, &sent);
    if call.metadata.len() > limits::METADATA_BYTES {
        return;
    }
    let Ok(ClientFrame::Records(records)) = frame::read(&body, limits::FRAME_RECORDS) else {
        panic!("a written frame reads back")
    };
    for bytes in records.encoded() {
        let again = |again: Result<&Call<'_>, Refusal>| {
            let again = *again.expect("what was accepted is accepted again");
            assert_eq!(again, Call { stated: Stated::default(), ..*call }, "an id that a client made states nothing");
        };
        admission.admit(Encoded::MessagePack(bytes), again);
    }
}
