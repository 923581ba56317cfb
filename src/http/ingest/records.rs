//! `POST /api/v1/records`: one record, an array of them, or one on each line.
//!
//! Each record has a result of its own: an invalid one is refused alone, is kept with the dead letters, and does not
//! delay the others. With an `Idempotency-Key` the request can be repeated until it is answered, and counts once
//! ([`tallyd_pipeline::batch`]). The key belongs to the token's owner, for a day.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::SharedDaemon;
use crate::http::answer::{Failures, Json};
use crate::http::auth::Identity;
use crate::http::body::{content_type, unreadable};
use crate::http::error::{ApiError, ErrorBody};
use tallyd_intake::body::split;
use tallyd_model::pricing::Usd;
use tallyd_pipeline::batch::{BatchError, BatchSender, RecordOutcome, Recording, RequestKey};
use tallyd_pipeline::connection;
use tallyd_store::queries::audit;

/// The longest wait for room in the WAL and for the disk.
const PATIENCE: Duration = Duration::from_secs(30);
const KEY_BYTES_MAX: usize = 255;

/// The results for a request's records.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Recorded {
    /// Records that are durable, duplicates included.
    pub accepted: usize,
    /// Those of them that were there already: an earlier request with this key had brought them, or a call with the same stated id.
    pub duplicates: usize,
    /// Records that were refused, and are kept with the dead letters.
    pub refused: usize,
    /// A result for each record, in their order.
    pub results: Vec<RecordResult>,
}

/// Why nothing of a request was recorded.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it documents; handlers answer with its parts")]
enum Unprocessable {
    /// All records were refused.
    Refused(Recorded),
    /// The key was used for another body.
    KeyReused(ErrorBody),
}

/// The result for a record.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct RecordResult {
    /// True if it is durable.
    pub ok: bool,
    /// The call's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
    /// Its cost; absent for an unpriced call.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "0.004515")]
    pub cost_usd: Option<Usd>,
    /// True if it was there already: an earlier request with this key had brought it, or a call with the same stated id.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub duplicate: bool,
    /// True if a hard budget that the call counts towards is used up.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub should_throttle: bool,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<RecordFault>,
}

/// Why a record was refused.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct RecordFault {
    /// A stable name, as protocol/README.md lists them.
    pub code: &'static str,
    /// The reason.
    pub message: String,
    /// The field at fault, if it is one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

impl From<RecordOutcome> for RecordResult {
    fn from(outcome: RecordOutcome) -> Self {
        match outcome {
            RecordOutcome::Accepted { id, cost_usd, duplicate, should_throttle } => {
                Self { ok: true, id: Some(id), cost_usd, duplicate, should_throttle, error: None }
            }
            RecordOutcome::Refused(refusal) => {
                let (code, message) = (refusal.code.name(), refusal.message.into_owned());
                let error = Some(RecordFault { code, message, field: refusal.field.into_owned() });
                Self { ok: false, id: None, cost_usd: None, duplicate: false, should_throttle: false, error }
            }
        }
    }
}

/// Records calls; 200 once they are durable.
#[utoipa::path(post, path = "/api/v1/records", tag = "records",
    params(("Idempotency-Key" = Option<String>, Header, max_length = 255, pattern = "^[!-~]+$",
        description = "Makes the request repeatable: however often it is sent within a day, it counts once")),
    request_body(description = "One record, or an array, or one a line. protocol/README.md documents the fields",
        content((Object = "application/json", example = json!({"provider": "rentcast", "endpoint": "/avm/value"})),
            (String = "application/x-ndjson"))),
    responses((status = 200, description = "At least one record is durable, or there was none", body = Recorded),
        (status = 409, description = "Another request with this key is under way", body = ErrorBody),
        (status = 413, description = "The body is too large", body = ErrorBody),
        (status = 415, description = "The body's encoding is not gzip"),
        (status = 422, description = "All records were refused, or the key was used for another body", body = Unprocessable),
        Failures))]
pub(crate) async fn record(
    State(daemon): State<SharedDaemon>,
    Extension(who): Extension<Identity>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Recorded>), ApiError> {
    let body = body.map_err(unreadable)?;
    let key = key(&headers)?.map(|key| RequestKey::new(&who.actor, key, &body));
    let texts =
        split(&body, content_type(&headers)).map_err(|error| ApiError::body(error.to_string(), error.hint()))?;
    let outcomes = hand_over(&daemon, &who, &headers, key.as_ref(), &texts, false).await?;
    let results: Vec<RecordResult> = outcomes.into_iter().map(RecordResult::from).collect();
    let accepted = results.iter().filter(|result| result.ok).count();
    let duplicates = results.iter().filter(|result| result.duplicate).count();
    let refused = results.len() - accepted;
    let status = if accepted == 0 && refused > 0 { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    Ok((status, Json(Recorded { accepted, duplicates, refused, results })))
}

/// Hands JSON records to the pipeline and waits until they are durable, or committed, as `wal.ack` says. Headers of
/// `http.tag_headers` become tags. `response_ids`: see [`tallyd_intake::Rules::response_ids`].
///
/// # Errors
/// If the daemon is stopping or has no room, or the key is not free.
pub(crate) async fn hand_over(
    daemon: &SharedDaemon,
    who: &Identity,
    headers: &HeaderMap,
    key: Option<&RequestKey>,
    texts: &[&[u8]],
    response_ids: bool,
) -> Result<Vec<RecordOutcome>, ApiError> {
    let context = ingest_context(daemon)?;
    let tags = tags(daemon, headers);
    let recording = async {
        let stated_costs = who.stated_costs(daemon.config.limits.stated_costs);
        let sender = BatchSender { name: &who.actor, stated_costs, response_ids, tags: &tags };
        let mut recording = Recording::begin(&context, sender, key, texts).await.map_err(unstored)?;
        while let Some(credits) = recording.judge() {
            // Credits are audited before they count: without the database none are recorded.
            if !credits.is_empty() {
                let client = daemon.pool()?.get().await?;
                audit::note_credits(&client, &credits, &who.actor()).await?;
            }
            recording.hand_over().await.map_err(unstored)?;
        }
        recording.finish().await.map_err(unstored)
    };
    let full = || busy("full", "the WAL has no room".to_owned(), AGAIN);
    tokio::time::timeout(PATIENCE, recording).await.unwrap_or_else(|_elapsed| Err(full()))
}

/// The tags of the headers that `http.tag_headers` names.
fn tags<'d>(daemon: &'d SharedDaemon, headers: &HeaderMap) -> Vec<(&'d str, String)> {
    let tags = daemon.config.http.tags().filter_map(|(header, tag)| {
        let value = String::from_utf8_lossy(headers.get(header)?.as_bytes());
        Some((tag, value.trim().to_owned())).filter(|(_, value)| !value.is_empty())
    });
    tags.collect()
}

/// The hint for a request that may or may not be durable.
const AGAIN: &str = "send it again; with an Idempotency-Key it counts once";

fn unstored(error: BatchError) -> ApiError {
    match error {
        BatchError::KeyReused => {
            let hint = "take a new key for each request; a repetition has the same body, byte for byte";
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", error.to_string(), hint)
        }
        BatchError::Overtaken => ApiError::new(StatusCode::CONFLICT, "request_under_way", error.to_string(), AGAIN),
        BatchError::Crowded => busy("too_many_requests_under_way", error.to_string(), AGAIN),
        BatchError::Uncommitted => busy("uncommitted", error.to_string(), AGAIN),
        BatchError::Stopped => busy("shutting_down", error.to_string(), AGAIN),
    }
}

/// The connection's shared state, which takes records.
///
/// # Errors
/// If the daemon is stopping or has no room.
pub(crate) fn ingest_context(daemon: &SharedDaemon) -> Result<Arc<connection::IngestContext>, ApiError> {
    if daemon.writer.full().is_some() {
        let hint = "nothing of the request was taken; keep it and send it again";
        return Err(busy("full", "the WAL has no room".to_owned(), hint));
    }
    let context = daemon.ingest.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let stopping = || busy("shutting_down", "the daemon is stopping".to_owned(), "nothing of the request was taken");
    let accepting = daemon.accepting.load(std::sync::atomic::Ordering::Relaxed);
    context.filter(|_| accepting).ok_or_else(stopping)
}

fn busy(code: &'static str, message: String, hint: &'static str) -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, message, hint).retry_after(1)
}

fn key(headers: &HeaderMap) -> Result<Option<&[u8]>, ApiError> {
    let Some(key) = headers.get("idempotency-key").map(|key| key.as_bytes()) else { return Ok(None) };
    if key.is_empty() || key.len() > KEY_BYTES_MAX || !key.iter().all(u8::is_ascii_graphic) {
        let message = format!("it has 1 to {KEY_BYTES_MAX} visible ASCII characters");
        return Err(ApiError::parameter("Idempotency-Key", message, "a UUID is a good key"));
    }
    Ok(Some(key))
}
