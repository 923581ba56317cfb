//! Memory that all connections share: buffers of clients that are slow to send or to read.
//!
//! A connection takes room before it holds something, and waits where there is none: it is not read from meanwhile.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that replies may take before their clients have read them.
const REPLIES_BYTES: usize = 16 << 20;
/// Bytes of buffers that hold an unfinished frame or line of up to [`MEDIUM_BYTES`].
const MEDIUM_POOL_BYTES: usize = 24 << 20;
/// The same of larger ones, and of bytes read ahead.
const LARGE_POOL_BYTES: usize = 32 << 20;

/// A number of bytes, shared out.
pub(crate) struct Pool {
    free: Arc<Semaphore>,
    bytes: usize,
}

impl Pool {
    fn new(bytes: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(bytes)), bytes }
    }

    /// Half of it at most: a longer one is nearly alone instead of never.
    fn share(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.min(self.bytes / 2)).unwrap_or(u32::MAX)
    }

    /// Waits for a number of bytes, in order. The semaphore is never closed, so some are returned.
    pub(crate) async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).acquire_many_owned(self.share(bytes)).await.ok()
    }

    /// A number of bytes if they are free now.
    pub(crate) fn try_take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_many_owned(self.share(bytes)).ok()
    }

    /// The same for optional buffers: half of the pool is kept for required ones.
    pub(crate) fn try_take_spare(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        (self.free.available_permits() >= self.bytes / 2 + bytes).then(|| self.try_take(bytes)).flatten()
    }

    /// Whether others wait for room, or soon will.
    pub(crate) fn is_scarce(&self) -> bool {
        self.free.available_permits() < self.bytes / 4
    }
}

/// State that connections share.
pub(crate) struct Rooms {
    /// For replies that are not read yet.
    pub replies: Pool,
    /// For frames and lines that are not there whole, medium ones.
    pub medium: Pool,
    /// And large ones.
    pub large: Pool,
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
