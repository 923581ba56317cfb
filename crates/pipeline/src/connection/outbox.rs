//! A connection's way to the WAL: records into bundles of chunks, bundles into the channel, replies into the queue.
//!
//! A bundle may span frames: as long as whole frames wait in the buffer, their records share chunks, and so syncs.
//! [`Outbox::flush`] closes the bundle when there is nothing more to add at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::IngestContext;
use super::room::Rooms;
use tallyd_intake::{Encoded, Refusal};
use tallyd_model::call::Call;
use tallyd_wal::channel::{Closed, ConnectionOrigin};
use tallyd_wal::chunk::{Bundle, BundleBuilder, Ticket};

/// A reply, with the condition for sending it.
pub(super) struct Reply {
    /// How many of the connection's bundles must be durable before the reply may be sent.
    pub after_bundles: u64,
    pub bytes: Vec<u8>,
    /// Changes the reply before it is sent, if some of its records are duplicates.
    pub late: Option<Late>,
    /// Its share of the replies' memory, and that of replies before it.
    pub room: Room,
    /// Whether the client wants news from here on.
    pub asks_for_news: bool,
}

/// Changes a reply once the writer has found the duplicates among its records.
pub(super) type Late = Box<dyn FnOnce(Vec<u8>) -> Vec<u8> + Send>;

/// The memory of unread replies, in bytes: of all connections together, and of this one. A connection at a bound is not
/// read from.
#[derive(Clone)]
pub(super) struct ReplyRoom {
    all: Arc<Rooms>,
    own: Arc<Semaphore>,
}

/// A part of that memory, until it is dropped.
#[derive(Default)]
pub(super) struct Room {
    all: Option<OwnedSemaphorePermit>,
    own: Option<OwnedSemaphorePermit>,
}

/// The most bytes of one connection, unless a single reply is longer.
const OWN_BYTES: usize = 256 << 10;
/// A connection that waits for nothing else always has room for this many bytes, so clients that do not read cannot
/// block it.
const ALWAYS_BYTES: usize = 1024;
/// Bytes of replies that are gathered before they are handed over.
const HEAVY_BYTES: usize = 16 << 10;

impl ReplyRoom {
    /// The room of one connection, within that of all.
    pub(super) fn new(all: &Arc<Rooms>) -> Self {
        Self { all: Arc::clone(all), own: Arc::new(Semaphore::new(OWN_BYTES)) }
    }

    async fn take(&self, bytes: usize, reserved: Option<OwnedSemaphorePermit>) -> Room {
        let is_first = self.own.available_permits() == OWN_BYTES;
        let own = Arc::clone(&self.own).acquire_many_owned(bytes.min(OWN_BYTES) as u32).await.ok();
        let all = match reserved {
            Some(mut reserved) => {
                let needed = bytes.min(reserved.num_permits());
                reserved.split(needed)
            }
            None if is_first && bytes <= ALWAYS_BYTES => None,
            None => self.all.replies.take(bytes).await,
        };
        Room { all, own }
    }

    /// Whether others wait for room: for replies, or for this connection's part of the next frame.
    pub(super) fn is_scarce(&self) -> bool {
        self.all.is_scarce()
    }
}

impl Room {
    pub(super) fn merge(&mut self, other: Self) {
        for (mine, others) in [(&mut self.all, other.all), (&mut self.own, other.own)] {
            match (mine.as_mut(), others) {
                (Some(mine), Some(others)) => mine.merge(others),
                (None, others) => *mine = others,
                (Some(_), None) => {}
            }
        }
    }
}

/// The most bundles that are gathered before they are handed over together.
const FINISHED_MAX: usize = 8;

/// The sending side of a connection's reader.
pub(super) struct Outbox {
    origin: Arc<ConnectionOrigin>,
    builder: BundleBuilder,
    in_builder: bool,
    finished: Vec<Bundle>,
    /// Bundles that were handed over or are finished, and the opening.
    counted: u64,
    unsent: Vec<Reply>,
    unsent_bytes: usize,
    reserved: Option<OwnedSemaphorePermit>,
    room: ReplyRoom,
    replies: mpsc::Sender<Reply>,
}

impl Outbox {
    /// An outbox for the origin, whose records are distributed over `lanes`.
    pub(super) fn new(
        origin: Arc<ConnectionOrigin>,
        lanes: u16,
        replies: mpsc::Sender<Reply>,
        room: ReplyRoom,
    ) -> Self {
        Self {
            builder: BundleBuilder::new(lanes),
            in_builder: false,
            finished: Vec::new(),
            counted: origin.opening_bundles(),
            origin,
            unsent: Vec::new(),
            unsent_bytes: 0,
            reserved: None,
            room,
            replies,
        }
    }

    /// Adds an accepted call. Returns a ticket, by which the writer reports a duplicate, if the sender has stated the
    /// call's id.
    pub(super) fn push_call(&mut self, seq: u64, call: &Call<'_>) -> Option<Ticket> {
        let full = self.builder.push_call(seq, call);
        self.finish(full);
        self.in_builder = true;
        self.builder.ticket()
    }

    /// Adds a refused record, for the dead letters.
    pub(super) fn push_refused(&mut self, seq: u64, context: &IngestContext, refusal: &Refusal, record: Encoded<'_>) {
        let refused = context.refused(&self.origin.identity.name, "", refusal, record);
        let full = self.builder.push_refused(seq, &refused);
        self.finish(full);
        self.in_builder = true;
    }

    /// Adds a reply that must wait for everything pushed so far.
    pub(super) fn push_reply(&mut self, bytes: Vec<u8>, late: Option<Late>) {
        let after_bundles = self.counted + u64::from(self.in_builder);
        self.unsent_bytes += bytes.len();
        self.unsent.push(Reply { after_bundles, bytes, late, room: Room::default(), asks_for_news: false });
    }

    /// Adds the client's request for news. It has no reply, but takes a reply's place in the queue.
    pub(super) fn push_watch(&mut self) {
        let (bytes, late, room) = (Vec::new(), None, Room::default());
        self.unsent.push(Reply { after_bundles: 0, bytes, late, room, asks_for_news: true });
    }

    /// Reserves room for a reply of a known largest size, before the reply is made.
    ///
    /// # Errors
    /// [`Closed`] if nothing more is taken from this connection.
    pub(super) async fn reserve(&mut self, bytes: usize, context: &IngestContext) -> Result<(), Closed> {
        if bytes <= ALWAYS_BYTES {
            return Ok(());
        }
        let mut more = self.room.all.replies.try_take(bytes);
        if more.is_none() {
            // First hands over the records that take up room: two connections that keep room and wait for more would
            // wait for each other.
            self.flush(context).await?;
            more = self.room.all.replies.take(bytes).await;
        }
        match (&mut self.reserved, more) {
            (Some(reserved), Some(more)) => reserved.merge(more),
            (reserved, more) => *reserved = more,
        }
        Ok(())
    }

    /// Gives back unused reserved room.
    pub(super) fn release_spare(&mut self) {
        if let Some(reserved) = &mut self.reserved {
            let spare = reserved.num_permits().saturating_sub(self.unsent_bytes);
            drop(reserved.split(spare));
        }
    }

    /// True if enough has gathered to be flushed even if more records are in the buffer.
    pub(super) fn is_heavy(&self) -> bool {
        self.finished.len() >= FINISHED_MAX
            || self.unsent.len() >= self.replies.max_capacity()
            || self.unsent_bytes >= HEAVY_BYTES
    }

    /// Hands over the gathered records, waiting for room.
    ///
    /// # Errors
    /// [`Closed`] if nothing more is taken from this connection.
    pub(super) async fn flush(&mut self, context: &IngestContext) -> Result<(), Closed> {
        let last = self.builder.finish();
        self.finish(last);
        self.in_builder = false;
        for bundle in self.finished.drain(..) {
            context.chunks.submit(&self.origin, bundle).await?;
        }
        let bytes = std::mem::take(&mut self.unsent_bytes);
        if let Some(last) = self.unsent.last_mut() {
            // With the last reply, because the earlier ones are written before it.
            last.room = self.room.take(bytes, self.reserved.take()).await;
        }
        for reply in self.unsent.drain(..) {
            // The replying task ends early only if the client is gone or the origin is closed.
            self.replies.send(reply).await.map_err(|_| self.origin.closed().unwrap_or(Closed::Stopped))?;
        }
        Ok(())
    }

    fn finish(&mut self, bundle: Option<Bundle>) {
        if let Some(bundle) = bundle {
            self.counted += 1;
            self.finished.push(bundle);
        }
    }
}
