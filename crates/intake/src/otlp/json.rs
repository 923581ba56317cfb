//! OTLP in JSON: ids are hexadecimal, 64-bit integers numbers or text, enumerations numbers; unknown names are skipped.
//!
//! The levels of a document stay slices of it ([`Raw`]) until their items are read, one at a time.

use serde::de::{self, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::attributes::{ATTRIBUTES_MAX, AttributeValue, Attributes};
use super::items::{Event, ItemSource, Metric, POINTS_MAX, Point, STATUS_ERROR, Span};
use tallyd_model::json::{self, Raw};

/// Largest number of items in one list. An export has some hundreds; refusing millions of empty ones singly would take
/// seconds.
const PARTS_MAX: usize = 65_536;

/// The items of a list, unread.
struct Parts<'b>(Vec<Raw<'b>>);

impl<'de: 'b, 'b> Deserialize<'de> for Parts<'b> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items;
        impl<'de> Visitor<'de> for Items {
            type Value = Parts<'de>;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Parts<'de>, A::Error> {
                let mut parts = Vec::new();
                while let Some(part) = items.next_element()? {
                    if parts.len() == PARTS_MAX {
                        return Err(de::Error::custom(format!("a list of more than {PARTS_MAX} items")));
                    }
                    parts.push(part);
                }
                Ok(Parts(parts))
            }
        }
        deserializer.deserialize_seq(Items)
    }
}

#[derive(Deserialize)]
struct Root<'b> {
    #[serde(borrow, default, alias = "resourceSpans", alias = "resourceLogs", alias = "resourceMetrics")]
    parts: Option<Parts<'b>>,
}

#[derive(Deserialize)]
struct Resources<'b> {
    #[serde(default)]
    resource: Option<Resource>,
    #[serde(borrow, default, alias = "scopeSpans", alias = "scopeLogs", alias = "scopeMetrics")]
    parts: Option<Parts<'b>>,
}

#[derive(Deserialize, Default)]
struct Resource {
    #[serde(default)]
    attributes: Attributes,
}

#[derive(Deserialize)]
struct Scopes<'b> {
    #[serde(default)]
    scope: Option<Scope>,
    #[serde(borrow, default, alias = "spans", alias = "logRecords", alias = "metrics")]
    parts: Option<Parts<'b>>,
}

#[derive(Deserialize, Default)]
struct Scope {
    #[serde(default)]
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonSpan {
    #[serde(default)]
    trace_id: Hex,
    #[serde(default)]
    span_id: Hex,
    #[serde(default)]
    kind: Loose<i32>,
    #[serde(default)]
    start_time_unix_nano: Loose<u64>,
    #[serde(default)]
    end_time_unix_nano: Loose<u64>,
    #[serde(default)]
    attributes: Attributes,
    #[serde(default)]
    status: Option<SpanStatus>,
}

#[derive(Deserialize)]
struct SpanStatus {
    #[serde(default)]
    code: Loose<i32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonEvent {
    #[serde(default)]
    time_unix_nano: Loose<u64>,
    #[serde(default)]
    observed_time_unix_nano: Loose<u64>,
    #[serde(default)]
    event_name: Option<String>,
    #[serde(default)]
    body: Option<AnyValue>,
    #[serde(default)]
    attributes: Attributes,
}

#[derive(Deserialize)]
struct JsonMetric<'b> {
    #[serde(default)]
    name: Option<String>,
    #[serde(borrow, default)]
    sum: Option<Sum<'b>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sum<'b> {
    #[serde(borrow, default)]
    data_points: Option<Vec<Raw<'b>>>,
    #[serde(default)]
    aggregation_temporality: Loose<i32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonPoint {
    #[serde(default)]
    start_time_unix_nano: Loose<u64>,
    #[serde(default)]
    time_unix_nano: Loose<u64>,
    #[serde(default)]
    as_int: Loose<i64>,
    #[serde(default)]
    as_double: Loose<f64>,
    #[serde(default)]
    attributes: Attributes,
}

#[derive(Deserialize)]
struct KeyValue {
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    value: Option<AnyValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnyValue {
    #[serde(default)]
    string_value: Option<String>,
    #[serde(default)]
    bool_value: Option<bool>,
    #[serde(default)]
    int_value: Loose<i64>,
    #[serde(default)]
    double_value: Loose<f64>,
    #[serde(default)]
    array_value: Option<IgnoredAny>,
    #[serde(default)]
    kvlist_value: Option<IgnoredAny>,
    #[serde(default)]
    bytes_value: Option<IgnoredAny>,
}

/// A number, its text, or nothing.
#[derive(Default)]
struct Loose<N>(Option<N>);

/// Bytes in hexadecimal digits.
#[derive(Default)]
struct Hex(Vec<u8>);

fn items(parts: Option<Parts<'_>>) -> Vec<Raw<'_>> {
    parts.map_or_else(Vec::new, |parts| parts.0)
}

pub(super) fn each_item(body: &[u8], mut take: impl FnMut(&ItemSource, &str)) -> Result<(), String> {
    let root: Root<'_> = read(std::str::from_utf8(body).map_err(|error| format!("no OTLP in JSON: {error}"))?)?;
    for resource in items(root.parts) {
        let resource: Resources<'_> = read(resource.get())?;
        let mut source =
            ItemSource { resource: resource.resource.unwrap_or_default().attributes, scope: String::new() };
        for scope in items(resource.parts) {
            let scope: Scopes<'_> = read(scope.get())?;
            source.scope = scope.scope.unwrap_or_default().name.unwrap_or_default();
            items(scope.parts).iter().for_each(|item| take(&source, item.get()));
        }
    }
    Ok(())
}

pub(super) fn span(text: &str) -> Result<Span, String> {
    let span: JsonSpan = read(text)?;
    Ok(Span {
        trace_id: span.trace_id.0,
        span_id: span.span_id.0,
        kind: span.kind.0.unwrap_or(0),
        start_ns: span.start_time_unix_nano.0.unwrap_or(0),
        end_ns: span.end_time_unix_nano.0.unwrap_or(0),
        attributes: span.attributes,
        failed: span.status.is_some_and(|status| status.code.0 == Some(STATUS_ERROR)),
    })
}

pub(super) fn event(text: &str) -> Result<Event, String> {
    let event: JsonEvent = read(text)?;
    Ok(Event {
        time_ns: event.time_unix_nano.0.unwrap_or(0),
        observed_ns: event.observed_time_unix_nano.0.unwrap_or(0),
        name: event.event_name.unwrap_or_default(),
        body: event.body.and_then(|body| body.string_value).unwrap_or_default(),
        attributes: event.attributes,
    })
}

pub(super) fn metric(text: &str) -> Result<Metric, String> {
    let metric: JsonMetric<'_> = read(text)?;
    let name = metric.name.unwrap_or_default();
    let Some(sum) = metric.sum else { return Ok(Metric { name, ..Metric::default() }) };
    let points = sum.data_points.unwrap_or_default();
    if points.len() > POINTS_MAX {
        return Err(format!("a metric of more than {POINTS_MAX} points"));
    }
    let points = points.iter().map(|text| point(text.get())).collect::<Result<_, _>>()?;
    Ok(Metric { name, temporality: sum.aggregation_temporality.0.unwrap_or(0), points })
}

fn point(text: &str) -> Result<Point, String> {
    let point: JsonPoint = read(text)?;
    let whole = |float: f64| (float.fract() == 0.0 && float.abs() < 9e15).then_some(float as i64);
    Ok(Point {
        start_ns: point.start_time_unix_nano.0.unwrap_or(0),
        time_ns: point.time_unix_nano.0.unwrap_or(0),
        value: point.as_int.0.or_else(|| point.as_double.0.and_then(whole)),
        attributes: point.attributes,
    })
}

fn read<'b, T: Deserialize<'b>>(text: &'b str) -> Result<T, String> {
    // An array would be read as an object's values, in their order.
    if !text.trim_ascii_start().starts_with('{') {
        return Err("no OTLP in JSON: an object is missing where one belongs".to_owned());
    }
    json::from_str(text).map_err(|error| format!("no OTLP in JSON: {error}"))
}

fn scalar(value: AnyValue) -> AttributeValue {
    AttributeValue::one_of([
        value.string_value.map(AttributeValue::Text),
        value.int_value.0.map(AttributeValue::Integer),
        value.double_value.0.map(AttributeValue::Float),
        value.bool_value.map(AttributeValue::Boolean),
        value.array_value.or(value.kvlist_value).or(value.bytes_value).map(|_| AttributeValue::Other),
    ])
}

impl<'de> Deserialize<'de> for Attributes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Attributes;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an array of attributes")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Attributes, E> {
                Ok(Attributes::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pairs: A) -> Result<Attributes, A::Error> {
                let mut attributes = Attributes::default();
                for _ in 0..ATTRIBUTES_MAX {
                    let Some(pair) = pairs.next_element::<KeyValue>()? else { return Ok(attributes) };
                    if let Some(key) = pair.key {
                        attributes.insert(key, pair.value.map_or(AttributeValue::Other, scalar));
                    }
                }
                match pairs.next_element::<IgnoredAny>()? {
                    None => Ok(attributes),
                    Some(_) => Err(de::Error::custom(format!("more than {ATTRIBUTES_MAX} attributes"))),
                }
            }
        }
        deserializer.deserialize_any(Pairs)
    }
}

impl<'de, N: std::str::FromStr> Deserialize<'de> for Loose<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Raw::deserialize(deserializer)?.get();
        let text = written.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(written);
        match text.parse() {
            Ok(number) => Ok(Self(Some(number))),
            Err(_) if text == "null" => Ok(Self(None)),
            Err(_) => Err(de::Error::custom("a number is a number or its digits, within its bounds")),
        }
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Some(text) = Option::<std::borrow::Cow<'de, str>>::deserialize(deserializer)? else {
            return Ok(Self::default());
        };
        hex::decode(text.as_bytes()).map(Self).map_err(|_| de::Error::custom(format!("{text:?} is not hexadecimal")))
    }
}
