//! OTLP, over HTTP and over gRPC ([`grpc`]): exports of OpenTelemetry SDKs, the Collector and Claude Code become usage
//! records.
//!
//! | path | recorded |
//! |---|---|
//! | `/v1/traces` | spans of model calls, by the semantic conventions for generative AI ([`spans`]) |
//! | `/v1/logs` | Claude Code's events `api_request` and `api_error` ([`mod@logs`]) |
//! | `/v1/metrics` | Claude Code's token sums, if the configuration says so instead of its events ([`sums`]) |
//!
//! An exporter sends all its telemetry, so everything else is accepted, counted as ignored, and dropped.
//!
//! ## Each once
//! An item becomes a JSON record and takes the way of `POST /api/v1/records`. The request's digest is its key
//! ([`RequestKey`]): an exporter without an answer sends the same bytes again, and they add nothing, also after a kill
//! of the daemon. 200 means durable; 503 asks the sender to try again. Faults of single items are in the answer's
//! partial success, and refused records are kept with the dead letters, as all others are.
//!
//! ## One response, several spans
//! A framework and the SDK below it may each have a span of one response, with the same provider and
//! `gen_ai.response.id`. Such spans are one call. Within a request the span with the most usage is recorded. Between
//! requests the first one is, because recorded calls do not change ([`tallyd_wal::window`]).
//!
//! ## Hostile bytes
//! Bodies are bounded by `http.max_body_bytes` before and after decompression; [`tallyd_intake::otlp`] reads them, and
//! is pure.

mod answer;
pub(crate) mod grpc;

use std::collections::HashMap;

use axum::Extension;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use metrics::counter;
use sha2::{Digest, Sha256};

use self::answer::{ExportFailures, ExportStatus, Rejected, StatusBody};
use crate::http::SharedDaemon;
use crate::http::auth::Identity;
use crate::http::body::content_type;
use crate::http::ingest::records::{hand_over, ingest_context};
use tallyd_base::registry;
use tallyd_intake::body::RECORDS_MAX;
use tallyd_intake::otlp::document::{self, Encoding, Item};
use tallyd_intake::otlp::items::{Event, ItemSource, Metric, Span};
use tallyd_intake::otlp::record::Draft;
use tallyd_intake::otlp::{ItemContext, Took, logs, spans, sums};
use tallyd_pipeline::batch::{RecordOutcome, RequestKey};
use tallyd_pipeline::metrics::IngestMetrics;

/// Turns an item into records: none, one, or several.
type Mapping<T> = fn(&ItemContext<'_>, &ItemSource, T, &mut Vec<Draft>) -> Result<Took, String>;

/// Takes spans; those of model calls become records.
#[utoipa::path(post, path = "/v1/traces", tag = "opentelemetry",
    request_body(description = "ExportTraceServiceRequest, as JSON or protobuf, gzip or not",
        content((Object = "application/json"), (Vec<u8> = "application/x-protobuf"))),
    responses((status = 200, description = "Durable; partialSuccess counts refused items",
            content((Object = "application/json"), (Vec<u8> = "application/x-protobuf"))),
        (status = 400, description = "The body is not such a document", body = StatusBody),
        (status = 415, description = "Neither JSON nor protobuf, or an encoding that is not gzip"),
        ExportFailures))]
pub(crate) async fn traces(
    State(daemon): State<SharedDaemon>,
    Extension(who): Extension<Identity>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    export::<Span>(&daemon, &who, &headers, body, "traces", spans::records).await
}

/// Takes log records; Claude Code's events of API requests become records.
#[utoipa::path(post, path = "/v1/logs", tag = "opentelemetry",
    request_body(description = "ExportLogsServiceRequest, as JSON or protobuf, gzip or not",
        content((Object = "application/json"), (Vec<u8> = "application/x-protobuf"))),
    responses((status = 200, description = "Durable; partialSuccess counts refused items",
            content((Object = "application/json"), (Vec<u8> = "application/x-protobuf"))),
        (status = 400, description = "The body is not such a document", body = StatusBody),
        (status = 415, description = "Neither JSON nor protobuf, or an encoding that is not gzip"),
        ExportFailures))]
pub(crate) async fn logs(
    State(daemon): State<SharedDaemon>,
    Extension(who): Extension<Identity>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    export::<Event>(&daemon, &who, &headers, body, "logs", logs::records).await
}

/// Takes metrics; Claude Code's token sums become records where `otlp.claude_code` is `metrics`.
#[utoipa::path(post, path = "/v1/metrics", tag = "opentelemetry",
    request_body(description = "ExportMetricsServiceRequest, as JSON or protobuf, gzip or not",
        content((Object = "application/json"), (Vec<u8> = "application/x-protobuf"))),
    responses((status = 200, description = "Durable; partialSuccess counts refused items",
            content((Object = "application/json"), (Vec<u8> = "application/x-protobuf"))),
        (status = 400, description = "The body is not such a document", body = StatusBody),
        (status = 415, description = "Neither JSON nor protobuf, or an encoding that is not gzip"),
        ExportFailures))]
pub(crate) async fn metrics(
    State(daemon): State<SharedDaemon>,
    Extension(who): Extension<Identity>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    export::<Metric>(&daemon, &who, &headers, body, "metrics", sums::records).await
}

async fn export<T: Item>(
    daemon: &SharedDaemon,
    who: &Identity,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
    signal: &'static str,
    mapping: Mapping<T>,
) -> Response {
    let Some(encoding) = Encoding::of(content_type(headers)) else {
        let message = "send application/x-protobuf or application/json";
        return ExportStatus::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message).answer(Encoding::Json);
    };
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return ExportStatus::unreadable(&rejection).answer(encoding),
    };
    // An exporter drops a refused request, so one broken character would cost all calls of the document.
    let body = match encoding {
        Encoding::Json => tallyd_model::json::mended(&body).map_or(body, Bytes::from),
        _ => body,
    };
    match take::<T>(daemon, who, headers, (encoding, &body), signal, mapping).await {
        Ok(rejected) => rejected.answer(encoding, T::REJECTED),
        Err(status) => status.answer(encoding),
    }
}

async fn take<T: Item>(
    daemon: &SharedDaemon,
    who: &Identity,
    headers: &HeaderMap,
    (encoding, body): (Encoding, &Bytes),
    signal: &'static str,
    mapping: Mapping<T>,
) -> Result<Rejected, ExportStatus> {
    let mut read = Read::new();
    let context = ingest_context(daemon)?;
    let catalog = context.catalog.load();
    let reading = ItemContext { config: &daemon.config.otlp, catalog: &catalog };
    document::each::<T>(encoding, body, |source, item| {
        read.add(&context.metrics, item, |item, drafts| mapping(&reading, source, item, drafts));
    })
    .map_err(|error| ExportStatus::new(StatusCode::BAD_REQUEST, error))?;
    read.keep_one_of_a_response(&context.metrics);
    counter!(registry::OTLP_ITEMS, "signal" => signal, "outcome" => "ignored").increment(read.ignored);
    counter!(registry::OTLP_ITEMS, "signal" => signal, "outcome" => "passed_over").increment(read.passed_over);
    counter!(registry::OTLP_ITEMS, "signal" => signal, "outcome" => "rejected").increment(read.rejected.count);
    counter!(registry::OTLP_ITEMS, "signal" => signal, "outcome" => "taken").increment(read.taken);
    let Read { drafts, mut rejected, .. } = read;
    if drafts.is_empty() {
        return Ok(rejected);
    }
    if drafts.len() > RECORDS_MAX {
        return Err(ExportStatus::new(StatusCode::PAYLOAD_TOO_LARGE, format!("more than {RECORDS_MAX} records")));
    }
    let key = RequestKey::new(&format!("{}/otlp/{signal}", who.actor), &Sha256::digest(body), body);
    let texts: Vec<Vec<u8>> = drafts.iter().map(Draft::to_json).collect();
    let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
    for outcome in hand_over(daemon, who, headers, Some(&key), &texts, true).await.map_err(ExportStatus::from)? {
        if let RecordOutcome::Refused(refusal) = outcome {
            rejected.add(&format!("{} (kept with the dead letters)", refusal.message));
        }
    }
    Ok(rejected)
}

/// The records and counts of one request.
struct Read {
    drafts: Vec<Draft>,
    taken: u64,
    ignored: u64,
    passed_over: u64,
    rejected: Rejected,
}

impl Read {
    const fn new() -> Self {
        Self {
            drafts: Vec::new(),
            taken: 0,
            ignored: 0,
            passed_over: 0,
            rejected: Rejected { count: 0, first: String::new() },
        }
    }

    /// Keeps one record of each response: the most complete one, or the first of several equally complete ones.
    fn keep_one_of_a_response(&mut self, metrics: &IngestMetrics) {
        let mut best = HashMap::<_, usize>::new();
        let drafts = &self.drafts;
        for (at, draft) in drafts.iter().enumerate() {
            let Some(response) = draft.response() else { continue };
            let kept = best.entry(response).or_insert(at);
            if draft.completeness() > drafts[*kept].completeness() {
                *kept = at;
            }
        }
        let is_kept: Vec<bool> = drafts
            .iter()
            .enumerate()
            .map(|(at, draft)| draft.response().is_none_or(|response| best[&response] == at))
            .collect();
        drop(best);
        let mut kept = is_kept.iter();
        self.drafts.retain(|_| kept.next().copied().unwrap_or(true));
        let others = is_kept.iter().filter(|is_kept| !**is_kept).count() as u64;
        (self.taken, self.passed_over) = (self.taken.saturating_sub(others), self.passed_over + others);
        (0..others).for_each(|_| metrics.passed_over.count("another span of a recorded response"));
    }

    fn add<T>(
        &mut self,
        metrics: &IngestMetrics,
        item: Result<T, String>,
        map: impl FnOnce(T, &mut Vec<Draft>) -> Result<Took, String>,
    ) {
        // [`take`] refuses a request with too many records, so no more are kept.
        if self.drafts.len() > RECORDS_MAX {
            return;
        }
        let before = self.drafts.len();
        match item.and_then(|item| map(item, &mut self.drafts)) {
            Ok(Took::Record) => self.taken += 1,
            Ok(Took::Ignored) => self.ignored += 1,
            Ok(Took::PassedOver(what)) => {
                self.passed_over += 1;
                metrics.passed_over.count(&what);
            }
            Err(reason) => self.rejected.add(&reason),
        }
        for model in self.drafts[before..].iter().filter_map(|draft| draft.cost_differs.as_deref()) {
            metrics.stated_cost_differs.count(model);
        }
    }
}
