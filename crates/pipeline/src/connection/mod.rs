//! One client's connection: frames or lines in, replies out.
//!
//! The first byte decides. `{` begins newline-delimited JSON ([`lines`]). On the Unix socket an upper-case letter
//! begins an HTTP request, which the caller serves. Anything else is a frame's length ([`frames`]).
//!
//! With lines and frames the reader decodes, validates and prices each record while it is still in the socket's buffer,
//! encodes it into a chunk, and hands the chunk over. The reader puts its answers on a bounded queue. A second task
//! ([`replies`]) takes them in order, waits until the records of each are durable, and writes it. Between replies it
//! writes [`news`].
//!
//! Bounds: the read buffer by the largest frame or line, and all read buffers together by [`room`]; chunks in flight by
//! the channel's permits; replies in flight by the queue and by [`room`]. A client that does not read its replies fills
//! the queue, and is not read from until it does.

mod access;
mod buffer;
mod frames;
mod lines;
mod outbox;
mod replies;
mod room;

#[cfg(all(test, feature = "model"))]
mod channel_model;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tallyd_protocol::AckMode;
use tallyd_protocol::frame::PREFIX_BYTES;
use tallyd_protocol::record::FIELDS;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::metrics::IngestMetrics;
use crate::standing::Standing;
use buffer::ReadBuffer;
use tallyd_base::clock::Clock;
use tallyd_intake::{Encoded, Refusal, Rules};
use tallyd_model::call::Call;
use tallyd_model::pricing::Catalog;
use tallyd_model::tags;
use tallyd_store::budgets::CallScope;
use tallyd_store::dead_letters::quota::Quota;
use tallyd_wal::channel::ChunkSender;
use tallyd_wal::chunk::{REFUSED_PAYLOAD_BYTES, Refused};

pub use access::ConnectionSlots;
pub(crate) use access::{ConnectionAccess, Stranger};
pub(crate) use replies::settled;
pub use room::Rooms;

/// The bounds of a connection.
#[derive(Debug, Clone)]
pub struct WireLimits {
    /// The longest body of a frame, bytes.
    pub max_frame_bytes: usize,
    /// The most records of a frame.
    pub max_frame_records: usize,
    /// The longest line of JSON, bytes.
    pub max_line_bytes: usize,
    /// The most replies that wait for durability or for the client to read.
    pub max_in_flight_frames: usize,
    /// The longest time until a connection's hello.
    pub hello_timeout: Duration,
    /// The longest time that an answer waits for PostgreSQL's COMMIT once nobody sends any more.
    pub commit_wait: Duration,
}

/// State that all connections share.
pub struct IngestContext {
    /// The way to the WAL.
    pub chunks: ChunkSender,
    /// The number of lanes, over which records are distributed.
    pub lanes: u16,
    /// The bounds of a record.
    pub rules: Rules,
    /// The bounds of a connection.
    pub limits: WireLimits,
    /// When records are acknowledged at the earliest.
    pub ack: AckMode,
    /// The prices in force, replaced whole.
    pub catalog: Arc<ArcSwap<Catalog>>,
    /// The board of budgets.
    pub budgets: Arc<Standing>,
    /// The wall clock, which may jump.
    pub clock: Arc<dyn Clock>,
    /// Counters of records and connections.
    pub metrics: IngestMetrics,
    /// Memory for slow clients, all connections together.
    pub rooms: Arc<Rooms>,
    /// The bound on refused records that are kept.
    pub quota: Arc<Quota>,
}

impl IngestContext {
    /// Whether a hard budget that the call counts towards is used up.
    pub(crate) fn should_throttle(&self, call: &Call<'_>) -> bool {
        let Call { provider, model, user_id, app, .. } = *call;
        let board = self.budgets.board();
        let stored = if board.asks_for_tags() { tags::read(call.tags).unwrap_or_default() } else { BTreeMap::new() };
        let tags: Vec<(&str, &str)> = stored.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        board.should_throttle(&CallScope { provider, model, user_id, app, tags: &tags, estimate: "" })
    }

    /// A refused record in the form for the WAL: whole, or only counted beyond the sender's bound. `by` is the token's
    /// owner; empty if the producer is known.
    pub(crate) fn refused<'a>(
        &self,
        producer: &str,
        by: &'a str,
        refusal: &'a Refusal,
        record: Encoded<'a>,
    ) -> Refused<'a> {
        let (payload_format, payload) = (record.format(), record.bytes());
        self.metrics.refused(refusal.code);
        let (sender, code) = (if by.is_empty() { producer } else { by }, refusal.code.name());
        let bytes = payload.len().min(REFUSED_PAYLOAD_BYTES);
        if self.quota.take(sender, bytes, self.clock.now_us()) {
            let (field, message) = (&*refusal.field, &*refusal.message);
            return Refused { sender: by, counted: 0, code, field, message, payload_format, payload };
        }
        // Only known names: each name that a sender makes up would become an entry of its own.
        let field = FIELDS.iter().find(|field| **field == refusal.field).copied().unwrap_or_default();
        Refused { sender: by, counted: 1, code, field, ..Refused::default() }
    }
}

/// An answer waits for a sync in the one mode and for a transaction in the other, which takes many times as long. So
/// more replies are in flight.
const COMMITTED_IN_FLIGHT: usize = 16;

impl WireLimits {
    /// The most replies in flight of a connection.
    fn in_flight(&self, ack: AckMode) -> usize {
        match ack {
            AckMode::Durable => self.max_in_flight_frames,
            AckMode::Committed => self.max_in_flight_frames.saturating_mul(COMMITTED_IN_FLIGHT),
        }
    }
}

/// A connection of either transport. One dynamic call a read is negligible beside its system call.
pub type Stream = Box<dyn ReadWrite>;

/// A byte stream in both directions.
pub trait ReadWrite: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ReadWrite for T {}

/// Serves one connection until the client is done, sends something unreadable, or `stop` is cancelled. Messages that
/// were received whole by then are made durable and answered. Returns the connection, from its first byte on, if it begins
/// with an HTTP request.
pub(crate) async fn serve<S>(
    stream: S,
    context: Arc<IngestContext>,
    access: &ConnectionAccess,
    stop: CancellationToken,
) -> Option<Stream>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (reader, writer) = tokio::io::split(stream);
    let limits = &context.limits;
    let whole = (limits.max_frame_bytes + PREFIX_BYTES).max(limits.max_line_bytes + 1);
    let mut buffer = ReadBuffer::new(reader, stop, &context.rooms, whole);
    let first = tokio::time::timeout(access.patience(context.limits.hello_timeout), buffer.fill(1)).await;
    let Ok(Ok(true)) = first else { return None };
    match buffer.bytes()[0] {
        b'{' => lines::serve(buffer, writer, &context, access).await,
        // A frame whose prefix begins so would be 1 GiB long.
        b'A'..=b'Z' if !access.is_of_strangers() => {
            return Some(Box::new(tokio::io::join(buffer.into_reader(), writer)));
        }
        _ => frames::serve(buffer, writer, &context, access).await,
    }
    None
}
