//! OTLP in protobuf: only the needed fields, by their numbers in opentelemetry/proto.
//!
//! A message is checked before it is decoded: otherwise each repeated field of a few bytes would take a hundred bytes
//! of memory. Nested messages stay slices of the body until they are read.

use bytes::{Buf, Bytes};
use prost::Message;
use prost::encoding::{DecodeContext, decode_key, skip_field};

use super::attributes::{ATTRIBUTES_MAX, AttributeValue, Attributes};
use super::items::{Event, ItemSource, Metric, POINTS_MAX, Point, STATUS_ERROR, Span};

/// Largest number of parts of a document's level: resources, scopes, items.
const PARTS_MAX: usize = 1_000_000;
/// Largest number of an item's fields, including events and links, which are skipped.
const FIELDS_MAX: usize = ATTRIBUTES_MAX + 4_096;

#[derive(Message)]
struct Root {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    parts: Vec<Bytes>,
}

/// A resource's scopes, or a scope's items.
#[derive(Message)]
struct Level {
    #[prost(bytes = "bytes", tag = "1")]
    head: Bytes,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    parts: Vec<Bytes>,
}

#[derive(Message)]
struct Resource {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    attributes: Vec<Bytes>,
}

#[derive(Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Message)]
struct AnyValue {
    #[prost(string, optional, tag = "1")]
    text: Option<String>,
    #[prost(bool, optional, tag = "2")]
    boolean: Option<bool>,
    #[prost(int64, optional, tag = "3")]
    integer: Option<i64>,
    #[prost(double, optional, tag = "4")]
    float: Option<f64>,
    #[prost(bytes = "bytes", optional, tag = "5")]
    list: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "6")]
    map: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "7")]
    bytes: Option<Bytes>,
}

#[derive(Message)]
struct WireSpan {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_ns: u64,
    #[prost(fixed64, tag = "8")]
    end_ns: u64,
    #[prost(bytes = "bytes", repeated, tag = "9")]
    attributes: Vec<Bytes>,
    #[prost(message, optional, tag = "15")]
    status: Option<SpanStatus>,
}

#[derive(Message)]
struct SpanStatus {
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Message)]
struct WireEvent {
    #[prost(fixed64, tag = "1")]
    time_ns: u64,
    #[prost(message, optional, tag = "5")]
    body: Option<AnyValue>,
    #[prost(bytes = "bytes", repeated, tag = "6")]
    attributes: Vec<Bytes>,
    #[prost(fixed64, tag = "11")]
    observed_ns: u64,
    #[prost(string, tag = "12")]
    name: String,
}

#[derive(Message)]
struct WireMetric {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bytes = "bytes", optional, tag = "7")]
    sum: Option<Bytes>,
}

#[derive(Message)]
struct Sum {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    points: Vec<Bytes>,
    #[prost(int32, tag = "2")]
    temporality: i32,
}

#[derive(Message)]
struct WirePoint {
    #[prost(fixed64, tag = "2")]
    start_ns: u64,
    #[prost(fixed64, tag = "3")]
    time_ns: u64,
    #[prost(double, optional, tag = "4")]
    float: Option<f64>,
    #[prost(sfixed64, optional, tag = "6")]
    integer: Option<i64>,
    #[prost(bytes = "bytes", repeated, tag = "7")]
    attributes: Vec<Bytes>,
}

/// Passes on the items of a document.
///
/// # Errors
/// If the bytes are not such a document.
pub(super) fn each_item(body: &Bytes, mut take: impl FnMut(&ItemSource, Bytes)) -> Result<(), String> {
    for resource in decode::<Root>(body.clone(), PARTS_MAX)?.parts {
        let resource: Level = decode(resource, PARTS_MAX)?;
        let head: Resource = decode(resource.head, ATTRIBUTES_MAX)?;
        let mut source = ItemSource { resource: attributes(head.attributes)?, scope: String::new() };
        for scope in resource.parts {
            let scope: Level = decode(scope, PARTS_MAX)?;
            source.scope = decode::<Scope>(scope.head, FIELDS_MAX)?.name;
            scope.parts.into_iter().for_each(|item| take(&source, item));
        }
    }
    Ok(())
}

pub(super) fn span(bytes: Bytes) -> Result<Span, String> {
    let span: WireSpan = decode(bytes, FIELDS_MAX)?;
    Ok(Span {
        trace_id: span.trace_id,
        span_id: span.span_id,
        kind: span.kind,
        start_ns: span.start_ns,
        end_ns: span.end_ns,
        attributes: attributes(span.attributes)?,
        failed: span.status.is_some_and(|status| status.code == STATUS_ERROR),
    })
}

pub(super) fn event(bytes: Bytes) -> Result<Event, String> {
    let event: WireEvent = decode(bytes, FIELDS_MAX)?;
    Ok(Event {
        time_ns: event.time_ns,
        observed_ns: event.observed_ns,
        name: event.name,
        body: event.body.and_then(|body| body.text).unwrap_or_default(),
        attributes: attributes(event.attributes)?,
    })
}

pub(super) fn metric(bytes: Bytes) -> Result<Metric, String> {
    let metric: WireMetric = decode(bytes, FIELDS_MAX)?;
    let Some(sum) = metric.sum else { return Ok(Metric { name: metric.name, ..Metric::default() }) };
    let sum: Sum = decode(sum, POINTS_MAX)?;
    let points = sum.points.into_iter().map(point).collect::<Result<_, _>>()?;
    Ok(Metric { name: metric.name, temporality: sum.temporality, points })
}

fn point(bytes: Bytes) -> Result<Point, String> {
    let point: WirePoint = decode(bytes, FIELDS_MAX)?;
    let whole = |float: f64| (float.fract() == 0.0 && float.abs() < 9e15).then_some(float as i64);
    Ok(Point {
        start_ns: point.start_ns,
        time_ns: point.time_ns,
        value: point.integer.or_else(|| point.float.and_then(whole)),
        attributes: attributes(point.attributes)?,
    })
}

fn attributes(pairs: Vec<Bytes>) -> Result<Attributes, String> {
    if pairs.len() > ATTRIBUTES_MAX {
        return Err(format!("more than {ATTRIBUTES_MAX} attributes"));
    }
    let mut attributes = Attributes::default();
    for pair in pairs {
        let pair: KeyValue = decode(pair, FIELDS_MAX)?;
        attributes.insert(pair.key, pair.value.map_or(AttributeValue::Other, scalar));
    }
    Ok(attributes)
}

fn scalar(value: AnyValue) -> AttributeValue {
    AttributeValue::one_of([
        value.text.map(AttributeValue::Text),
        value.integer.map(AttributeValue::Integer),
        value.float.map(AttributeValue::Float),
        value.boolean.map(AttributeValue::Boolean),
        value.list.or(value.map).or(value.bytes).map(|_| AttributeValue::Other),
    ])
}

/// Decodes a message with a bounded number of fields.
fn decode<M: Message + Default>(bytes: Bytes, fields_max: usize) -> Result<M, String> {
    let mut rest = bytes.clone();
    let mut fields = 0;
    while rest.has_remaining() {
        let (tag, kind) = decode_key(&mut rest).map_err(no_protobuf)?;
        skip_field(kind, tag, &mut rest, DecodeContext::default()).map_err(no_protobuf)?;
        fields += 1;
        if fields > fields_max {
            return Err(format!("a message of more than {fields_max} fields"));
        }
    }
    M::decode(bytes).map_err(no_protobuf)
}

fn no_protobuf(error: prost::DecodeError) -> String {
    format!("no OTLP in protobuf: {error}")
}
