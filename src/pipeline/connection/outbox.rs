//! A connection's way to the log: records into bundles of chunks, bundles into the channel, replies into the queue.
//!
//! A bundle may span frames: as long as whole frames wait in the buffer, their records share chunks, and so syncs.
//! [`Outbox::flush`] closes the bundle when there is nothing more to add at once.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::Shared;
use crate::pipeline::channel::{Closed, Origin};
use crate::pipeline::chunk::{Bundle, BundleBuilder, Call, Refused};

/// A reply, and the number of the connection's bundles that must be durable before it may be sent.
pub struct Reply {
    /// The first this many chunks.
    pub after_bundles: u64,
    /// What is sent.
    pub bytes: Vec<u8>,
}

/// Bundles that are kept back before they are handed over in one go.
const FINISHED_MAX: usize = 8;

/// The sending side of a connection's reader.
pub struct Outbox {
    origin: Arc<Origin>,
    builder: BundleBuilder,
    in_builder: bool,
    finished: Vec<Bundle>,
    /// Bundles that were handed over or are finished.
    counted: u64,
    unsent: Vec<Reply>,
    replies: mpsc::Sender<Reply>,
}

impl Outbox {
    /// An outbox for the origin, whose records are shared out among so many lanes, and whose replies go into `replies`.
    pub fn new(origin: Arc<Origin>, lanes: u16, replies: mpsc::Sender<Reply>) -> Self {
        Self {
            origin,
            builder: BundleBuilder::new(lanes),
            in_builder: false,
            finished: Vec::new(),
            counted: 0,
            unsent: Vec::new(),
            replies,
        }
    }

    /// Adds an accepted call.
    pub fn push_call(&mut self, seq: u64, call: &Call<'_>) {
        let full = self.builder.push_call(seq, call);
        self.finish(full);
        self.in_builder = true;
    }

    /// Adds a refused record, for the dead letters.
    pub fn push_refused(&mut self, seq: u64, refused: &Refused<'_>) {
        let full = self.builder.push_refused(seq, refused);
        self.finish(full);
        self.in_builder = true;
    }

    /// Adds a reply that speaks for everything pushed so far.
    pub fn push_reply(&mut self, bytes: Vec<u8>) {
        let after_bundles = self.counted + u64::from(self.in_builder);
        self.unsent.push(Reply { after_bundles, bytes });
    }

    /// True if so much has gathered that it should be flushed although more is at hand.
    pub fn is_heavy(&self) -> bool {
        self.finished.len() >= FINISHED_MAX || self.unsent.len() >= self.replies.max_capacity()
    }

    /// Hands over what has gathered, waiting for room.
    ///
    /// # Errors
    /// [`Closed`] if nothing more is taken from this connection.
    pub async fn flush(&mut self, shared: &Shared) -> Result<(), Closed> {
        let last = self.builder.finish();
        self.finish(last);
        self.in_builder = false;
        for bundle in self.finished.drain(..) {
            shared.ingest.submit(&self.origin, bundle).await?;
        }
        for reply in self.unsent.drain(..) {
            // The replying task ends early only when the client is gone or the origin is closed.
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
