use proptest::prelude::*;
use tallyd_protocol::Record;

use tallyd_protocol::limits;

use super::super::admit::Scratch;
use super::super::{Refusal, frame};
use super::*;
use crate::Rules;
use tallyd_model::pricing::{Catalog, PricingOptions};

const NOW_US: i64 = 1_750_000_000_000_000;

fn with_admission<T>(strip_query: bool, check: impl FnOnce(&Admission<'_>) -> T) -> T {
    static CATALOG: std::sync::OnceLock<Catalog> = std::sync::OnceLock::new();
    let catalog = CATALOG.get_or_init(|| Catalog::builtin(&PricingOptions::default()).unwrap());
    check(&Admission { rules: &Rules { strip_query, ..Rules::default() }, catalog, now_us: NOW_US })
}

/// The result of the slow path. A generated id is 0.
fn by_the_long_way(admission: &Admission<'_>, bytes: &[u8]) -> Result<String, Refusal> {
    let raw = frame::decode(bytes)?;
    let mut scratch = Scratch::default();
    let mut call = admission.admit_raw(&raw, &mut scratch)?;
    call.id = if raw.id == super::super::raw_value::Field::Absent { [0; 16] } else { call.id };
    Ok(format!("{call:?}"))
}

/// Compares both paths; true if the fast one succeeded.
fn agrees(bytes: &[u8], strip_query: bool) -> Result<bool, TestCaseError> {
    with_admission(strip_query, |admission| {
        let mut tags = Tags::default();
        let Some(mut call) = admit(admission, bytes, &mut tags) else { return Ok(false) };
        if matches!(Fields::new(bytes, admission).and_then(|mut fields| fields.head()), Some(None)) {
            call.id = [0; 16];
        }
        prop_assert_eq!(Ok(format!("{call:?}")), by_the_long_way(admission, bytes));
        Ok(true)
    })
}

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
        ..Record::claude("claude-sonnet-4-5", 10, 1 << 29).user("u".repeat(300))
    }
}

/// A value, often of a type that some field expects.
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

/// Text around every bound, and special values of some fields.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => "[a-z]{0,20}",
        1 => (510..515_usize).prop_map(|len| "x".repeat(len)),
        1 => (254..258_usize).prop_map(|len| "ä".repeat(len)),
        1 => "[a-z]{0,17}\u{0}[a-z]{0,17}",
        1 => "[a-z]{0,9}[?#]\\PC{0,9}\u{0}?",
        1 => (500..515_usize).prop_map(|len| format!("/{}?{}", "x".repeat(len), "y".repeat(600))),
        1 => "\\PC{0,40}",
        1 => "(msg_|chatcmpl-|req_|resp_)[A-Za-z0-9]{0,40}",
    ]
}

fn provider() -> impl Strategy<Value = String> {
    let known = ["claude", "anthropic", "Anthropic", "rentcast", "RENTCAST", "gemini", "gcp.gemini", "openai", ""];
    prop_oneof![8 => prop::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => text()]
}

fn model() -> impl Strategy<Value = String> {
    let known = ["claude-sonnet-4-5", "claude-sonnet-4-20250514", "claude-sonnet-4-5-20250929", "nobody-knows", ""];
    prop_oneof![4 => prop::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => text()]
}

fn tokens() -> impl Strategy<Value = u64> {
    prop_oneof![4 => Just(0), 8 => 0..300_000_u64, 1 => limits::TOKENS - 2..limits::TOKENS + 3, 1 => any::<u64>()]
}

fn time() -> impl Strategy<Value = Option<i64>> {
    let (min, max) = (limits::OCCURRED_AT_MIN_US, NOW_US + limits::AHEAD_US);
    prop_oneof![
        1 => Just(None),
        4 => (min..max).prop_map(Some),
        1 => (min - 2..min + 3).prop_map(Some),
        1 => (max - 2..max + 3).prop_map(Some),
        1 => any::<i64>().prop_map(Some),
    ]
}

fn cost() -> impl Strategy<Value = Option<String>> {
    let stated = ["0", "0.25", "-1e3", "1000000000", "1000000000.1", "nothing", "0.0000000000000000001", ""];
    prop_oneof![2 => Just(None), 1 => prop::sample::select(stated.to_vec()).prop_map(|text| Some(text.to_owned()))]
}

fn metadata() -> impl Strategy<Value = Option<String>> {
    let given = [r#"{"a":1}"#, "[1]", "{}", "", "{", r#"{"a":"\u0000"}"#, r#"{"a":"\\u0000"}"#, r#"{"ä":"ö"}"#];
    prop_oneof![
        4 => Just(None),
        2 => prop::sample::select(given.to_vec()).prop_map(|text| Some(text.to_owned())),
        1 => (limits::METADATA_BYTES - 10..limits::METADATA_BYTES).prop_map(|len| Some(format!(r#"{{"a":"{}"}}"#, "y".repeat(len)))),
    ]
}

fn tags() -> impl Strategy<Value = Vec<(Cow<'static, str>, Cow<'static, str>)>> {
    let name = prop_oneof![
        8 => "[a-d]{1,2}".boxed(),
        1 => prop_oneof![Just("app"), Just("api_key"), Just(""), Just("\"\n")].prop_map(str::to_owned).boxed(),
        1 => text().boxed(),
    ];
    let value = prop_oneof![4 => "[a-c\"\\\\]{0,3}".boxed(), 1 => text().boxed()];
    let tag = (name, value).prop_map(|(name, value)| (name.into(), value.into()));
    let some = prop::collection::vec(tag, 1..6);
    // One above each bound: of the short way, and of a record.
    let many = (14..=limits::TAGS + 1).prop_map(|len| (0..len).map(|at| (at.to_string().into(), "x".into())).collect());
    prop_oneof![5 => Just(vec![]), 4 => some, 1 => many]
}

fn record() -> impl Strategy<Value = Record> {
    let names = (provider(), model(), prop::array::uniform5(text()));
    let tier = prop_oneof![3 => Just("standard".to_owned()), 1 => Just("batch".to_owned()), 1 => text()];
    let units = prop_oneof![9 => Just(vec![]), 1 => Just(vec![("image".into(), "2".into())])];
    let status = prop_oneof![2 => Just(200_u16), 1 => 995..1_004_u16, 1 => any::<u16>()];
    let latency = prop_oneof![
        Just(None),
        (0..9_000_u32).prop_map(Some),
        (i32::MAX as u32 - 2..=i32::MAX as u32 + 2).prop_map(Some)
    ];
    let numbers = (prop::array::uniform5(tokens()), prop_oneof![3 => Just(1), 1 => tokens()]);
    let rest = (units, tier, status, latency, cost(), metadata(), tags());
    (any::<Option<([u8; 16], bool)>>(), time(), names, numbers, rest).prop_map(
        |(id, occurred_at, (provider, model, names), (tokens, requests), rest)| {
            let [endpoint, user_id, app, request_id, platform] = names;
            let (extra_units, service_tier, status, latency_ms, cost_usd, metadata, tags) = rest;
            Record {
                id: id.map(|(id, _)| id),
                made_id: id.is_some_and(|(_, is_made)| is_made),
                occurred_at,
                provider: provider.into(),
                model: model.into(),
                endpoint: endpoint.into(),
                user_id: user_id.into(),
                app: app.into(),
                request_id: request_id.into(),
                input_tokens: tokens[0],
                output_tokens: tokens[1],
                cache_read_tokens: tokens[2],
                cache_write_5m_tokens: tokens[3],
                cache_write_1h_tokens: tokens[4],
                requests,
                extra_units,
                service_tier: service_tier.into(),
                status,
                latency_ms,
                cost_usd: cost_usd.map(Into::into),
                metadata: metadata.map(Into::into),
                platform: platform.into(),
                tags,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]
    #[test]
    fn both_ways_agree_on_records(record in record(), strip_query: bool) {
        agrees(&written(&record), strip_query)?;
    }

    /// A usual record with one field near its bounds: both sides of each bound occur.
    #[test]
    fn both_ways_agree_at_each_bound(odd in record(), field in 0..22_usize, strip_query: bool) {
        let mut record = full();
        match field {
            0 => (record.id, record.made_id) = (odd.id, odd.made_id),
            1 => record.occurred_at = odd.occurred_at,
            2 => record.provider = odd.provider,
            3 => record.model = odd.model,
            4 => record.endpoint = odd.endpoint,
            5 => record.user_id = odd.user_id,
            6 => record.app = odd.app,
            7 => record.request_id = odd.request_id,
            8 => record.input_tokens = odd.input_tokens,
            9 => record.output_tokens = odd.output_tokens,
            10 => record.cache_read_tokens = odd.cache_read_tokens,
            11 => record.cache_write_5m_tokens = odd.cache_write_5m_tokens,
            12 => record.cache_write_1h_tokens = odd.cache_write_1h_tokens,
            13 => record.requests = odd.requests,
            14 => record.extra_units = odd.extra_units,
            15 => record.service_tier = odd.service_tier,
            16 => record.status = odd.status,
            17 => record.latency_ms = odd.latency_ms,
            18 => record.cost_usd = odd.cost_usd,
            19 => record.metadata = odd.metadata,
            20 => record.platform = odd.platform,
            _ => record.tags = odd.tags,
        }
        let bytes = written(&record);
        let is_refused = with_admission(strip_query, |admission| by_the_long_way(admission, &bytes).is_err());
        // The accepted records on which it gives up are known.
        let is_lowered = [&record.provider, &record.platform].iter().any(|name| matches!(normalise_provider(name), Cow::Owned(_)));
        let is_joined = matches!(normalise_tier(&record.service_tier), Cow::Owned(_));
        let is_changed = |metadata: &str| matches!(tallyd_model::json::storable(metadata), Ok(Cow::Owned(_)));
        let is_unusual = is_lowered
            || is_joined
            || !record.extra_units.is_empty()
            || record.tags.len() > 15
            || record.metadata.as_deref().is_some_and(is_changed);
        prop_assert_eq!(agrees(&bytes, strip_query)?, !is_refused && !is_unusual);
    }

    #[test]
    fn both_ways_agree(values in prop::collection::vec(value(), 0..24), cut in 0..3_usize) {
        let mut bytes = vec![0xdc, 0, values.len() as u8];
        bytes.extend(values.concat());
        bytes.truncate(bytes.len().saturating_sub(cut));
        agrees(&bytes, true)?;
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
        agrees(&bytes, true)?;
    }
}

#[test]
fn what_clients_write_takes_the_short_way() {
    let tagged = full().tag("team", "a \"b\"").tag("app", "web").tag("api_key", "sk-secret");
    for record in [full(), tagged, Record::rentcast("/avm"), Record::claude("m", 1, 2)] {
        assert!(agrees(&written(&record), true).unwrap(), "{record:?}");
    }
}

#[test]
fn what_is_unusual_is_left_to_the_long_way() {
    let units = Record { extra_units: vec![("image".into(), "2".into())], ..full() };
    let upper = Record { provider: "Nobody".into(), ..full() };
    let negative = vec![0x93, NIL, 0xff, NIL];
    for bytes in [written(&units), written(&upper), vec![0x80], negative, vec![0x91, NIL, NIL]] {
        assert!(!agrees(&bytes, true).unwrap(), "{bytes:?}");
    }
}
