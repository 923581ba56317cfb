//! One client's connection: frames or lines in, replies out.
//!
//! The first byte decides: `{` begins newline-delimited JSON ([`lines`]), on the Unix socket an upper-case letter begins an HTTP
//! request, which is the caller's to serve, and anything else is a frame's length ([`frames`]).
//! With lines and frames the reader decodes, validates and prices each record while it is still in the socket's buffer, encodes it
//! into a chunk, and hands the chunk over. It puts its answers on a bounded queue. A second task ([`replies`])
//! takes the replies in order, waits until the records of each are durable, and writes it. Between replies it writes
//! [`news`].
//!
//! Bounds: the read buffer by the largest frame or line, and all of them together by [`room`]; chunks in flight by the
//! channel's permits; replies in flight by the queue and by [`room`]. A client that does not read its replies fills the queue,
//! and is not read from any more.

mod access;
mod buffer;
mod frames;
mod lines;
mod outbox;
mod replies;
mod room;

#[cfg(all(test, feature = "model"))]
mod channel_model;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tallyd_protocol::frame::PREFIX_BYTES;
use tallyd_protocol::record::FIELDS;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::budgets::Standing;
use crate::metrics::IngestMetrics;
use buffer::ReadBuffer;
use tallyd_base::clock::Clock;
use tallyd_intake::{Encoded, Refusal, Rules};
use tallyd_model::call::Call;
use tallyd_model::pricing::Catalog;
use tallyd_store::budgets::CallScope;
use tallyd_store::dead_letters::quota::Quota;
use tallyd_wal::channel::ChunkSender;
use tallyd_wal::chunk::{REFUSED_PAYLOAD_BYTES, Refused};

pub(crate) use access::{ConnectionAccess, ConnectionSlots, Stranger};
pub(crate) use room::Rooms;

/// The bounds of a connection.
#[derive(Debug, Clone)]
pub(crate) struct WireLimits {
    /// Bytes of one frame's body.
    pub max_frame_bytes: usize,
    /// Records of one frame.
    pub max_frame_records: usize,
    /// Bytes of one line of JSON.
    pub max_line_bytes: usize,
    /// Replies that wait for durability or for the client to read.
    pub max_in_flight_frames: usize,
    /// How long a connection may take for its hello.
    pub hello_timeout: Duration,
}

/// State that all connections share.
pub(crate) struct IngestContext {
    /// Where records go.
    pub chunks: ChunkSender,
    /// Lanes of the flusher, which share them.
    pub lanes: u16,
    /// The bounds of a record.
    pub rules: Rules,
    /// The bounds of a connection.
    pub limits: WireLimits,
    /// The prices that hold now.
    pub catalog: Arc<ArcSwap<Catalog>>,
    /// Where the budgets stand.
    pub budgets: Arc<Standing>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The counters.
    pub metrics: IngestMetrics,
    /// Memory for slow clients, all connections together.
    pub rooms: Arc<Rooms>,
    /// How many refused records are kept.
    pub quota: Arc<Quota>,
}

impl IngestContext {
    /// Whether a budget that the call counts towards is used up and asks to hold back.
    pub(crate) fn should_throttle(&self, call: &Call<'_>) -> bool {
        let Call { provider, model, user_id, app, .. } = *call;
        self.budgets.board().should_throttle(&CallScope { provider, model, user_id, app })
    }

    /// A refused record as it goes into the WAL: whole, or beyond the sender's bound a count. `by` is the token's holder, or
    /// empty where the producer is known.
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
        // A name that the sender has made up would make each refusal an entry of its own.
        let field = FIELDS.iter().find(|field| **field == refusal.field).copied().unwrap_or_default();
        Refused { sender: by, counted: 1, code, field, ..Refused::default() }
    }
}

/// Either transport. One call through a table a read is nothing beside the system call in it.
pub(crate) type Stream = Box<dyn ReadWrite>;

/// What transports can do.
pub(crate) trait ReadWrite: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ReadWrite for T {}

/// Serves one connection until the client is done, its words cannot be read, or `stop` is cancelled. Everything that was
/// received whole by then is made durable and answered. Returns the connection if it begins with an HTTP request, from that on.
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
