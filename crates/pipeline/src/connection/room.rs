//! Memory that all connections share: buffers of clients that are slow to send or to read.
//!
//! A connection takes room before it buffers something, and waits if there is none; its client is not read from
//! meanwhile.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of replies that clients have not read yet.
const REPLIES_BYTES: usize = 16 << 20;
/// Bytes of buffers for unfinished frames or lines of up to [`MEDIUM_BYTES`].
const MEDIUM_POOL_BYTES: usize = 24 << 20;
/// Bytes of buffers for larger ones, and for bytes read ahead.
const LARGE_POOL_BYTES: usize = 32 << 20;

/// A shared number of bytes.
pub(crate) struct Pool {
    free: Arc<Semaphore>,
    bytes: usize,
}

impl Pool {
    fn new(bytes: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(bytes)), bytes }
    }

    /// Half of the pool at most: a longer request waits until it is nearly alone, instead of for ever.
    fn share(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.min(self.bytes / 2)).unwrap_or(u32::MAX)
    }

    /// Waits for this many bytes, in order. The semaphore is never closed, so the result is never none.
    pub(crate) async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).acquire_many_owned(self.share(bytes)).await.ok()
    }

    /// This many bytes, if they are free now.
    pub(crate) fn try_take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_many_owned(self.share(bytes)).ok()
    }

    /// The same for optional buffers, which leave half of the pool for required ones.
    pub(crate) fn try_take_spare(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        (self.free.available_permits() >= self.bytes / 2 + bytes).then(|| self.try_take(bytes)).flatten()
    }

    /// Whether others wait for room, or soon will.
    pub(crate) fn is_scarce(&self) -> bool {
        self.free.available_permits() < self.bytes / 4
    }
}

/// The pools of all connections together.
pub struct Rooms {
    /// For replies that are not read yet.
    pub(crate) replies: Pool,
    /// For unfinished frames and lines of medium size.
    pub(crate) medium: Pool,
    /// For larger unfinished frames and lines.
    pub(crate) large: Pool,
}

impl Rooms {
    /// Whether room of any kind is scarce.
    pub(crate) fn is_scarce(&self) -> bool {
        [&self.replies, &self.medium, &self.large].into_iter().any(Pool::is_scarce)
    }
}

impl Default for Rooms {
    fn default() -> Self {
        let (replies, medium) = (Pool::new(REPLIES_BYTES), Pool::new(MEDIUM_POOL_BYTES));
        Self { replies, medium, large: Pool::new(LARGE_POOL_BYTES) }
    }
}
