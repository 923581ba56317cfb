//! The channel from connections to the WAL's writer, and the acknowledgements back.
//!
//! It is a crossbeam channel, bounded in bytes by permits. A connection awaits its permits, so a full channel stops it
//! from reading its socket instead of blocking a thread. A bundle with permits always has a place, so the send itself
//! never waits. The writer returns the permits as it takes submissions out.
//!
//! Acknowledgements are a counter. The channel keeps each connection's bundles in order, so "the first `n` of your
//! bundles are durable" is one atomic number ([`ConnectionOrigin::durable`]) and a wake-up, however the writer groups
//! them.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use tokio::sync::{Notify, Semaphore, oneshot};

use super::chunk::Bundle;
use super::identity::ProducerIdentity;
use tallyd_base::sync::{AtomicU8, AtomicU64, Ordering, step};
use tallyd_protocol::AckMode;

/// Bytes per permit.
const PERMIT_BYTES: usize = 1024;

/// Why a connection's records are no longer accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    /// Another connection has opened a session of the producer.
    #[error("another connection has taken over this producer")]
    Fenced,
    /// The producer is new, and the table of producers is full.
    #[error(
        "the WAL remembers as many producers as it may, and all of them may still send again; wait, or raise wal.max_producers"
    )]
    Crowded,
    /// The WAL has failed, or the daemon is stopping.
    #[error("the daemon is not taking records any more")]
    Stopped,
    /// An acknowledgement waited too long for PostgreSQL.
    #[error(
        "PostgreSQL has not committed the records yet; they are in the daemon's WAL: send unacknowledged records again later"
    )]
    Uncommitted,
}

/// A connection's state that it shares with the writer.
#[derive(Debug)]
pub struct ConnectionOrigin {
    /// The producer; [`ProducerIdentity::nobody`] for records without numbers.
    pub identity: ProducerIdentity,
    /// What makes a bundle count as durable: the sync, or PostgreSQL's COMMIT.
    pub ack: AckMode,
    session: AtomicU64,
    durable: AtomicU64,
    closed: AtomicU8,
    /// [`WARN`] once another process has used the producer's name, until the client is informed.
    warning: AtomicU8,
    changed: Notify,
    /// Separate from `changed`, so that a commit does not wake the connection's reader.
    closing: Notify,
}

const OPEN: u8 = 0;
const FENCED: u8 = 1;
const STOPPED: u8 = 2;
const CROWDED: u8 = 3;
const UNCOMMITTED: u8 = 4;

const QUIET: u8 = 0;
const WARN: u8 = 1;

impl ConnectionOrigin {
    /// An origin for a producer, or for [`ProducerIdentity::nobody`], whose bundles count once they are synced.
    #[must_use]
    pub fn new(identity: ProducerIdentity) -> Arc<Self> {
        Self::with_ack(identity, AckMode::Durable)
    }

    /// An origin whose bundles count from where `ack` says.
    #[must_use]
    pub fn with_ack(identity: ProducerIdentity, ack: AckMode) -> Arc<Self> {
        Arc::new(Self {
            identity,
            ack,
            session: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            closed: AtomicU8::new(OPEN),
            warning: AtomicU8::new(QUIET),
            changed: Notify::new(),
            closing: Notify::new(),
        })
    }

    /// The number of bundles that [`ChunkSender::open`] counts. The records of an earlier connection are skipped when
    /// they are sent again, and their acknowledgement must wait for PostgreSQL as well. So for a numbered producer the
    /// opening counts as a bundle, which is durable once everything before it is committed.
    #[must_use]
    pub fn opening_bundles(&self) -> u64 {
        u64::from(self.ack == AckMode::Committed && !self.identity.is_nobody())
    }

    /// The number of the origin's durable bundles.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// The reason for closing, if it is closed.
    #[must_use]
    pub fn closed(&self) -> Option<Closed> {
        match self.closed.load(Ordering::Acquire) {
            OPEN => None,
            FENCED => Some(Closed::Fenced),
            CROWDED => Some(Closed::Crowded),
            UNCOMMITTED => Some(Closed::Uncommitted),
            _ => Some(Closed::Stopped),
        }
    }

    /// Waits until the first `bundles` of the origin's bundles are durable.
    ///
    /// # Errors
    /// [`Closed`] if they never will be.
    pub async fn wait_durable(&self, bundles: u64) -> Result<(), Closed> {
        loop {
            // Registered before the check, so that a change in between is not missed.
            step();
            let changed = self.changed.notified();
            if self.durable() >= bundles {
                return Ok(());
            }
            if let Some(closed) = self.closed() {
                // They may have become durable since the check above, before the close.
                return if self.durable() >= bundles { Ok(()) } else { Err(closed) };
            }
            changed.await;
        }
    }

    /// Waits until the origin is closed.
    pub async fn wait_closed(&self) -> Closed {
        loop {
            // Registered before the check, as above.
            step();
            let closing = self.closing.notified();
            if let Some(closed) = self.closed() {
                return closed;
            }
            closing.await;
        }
    }

    /// Notes that another process uses the producer's name.
    pub(super) fn warn_of_shared_name(&self) {
        self.warning.store(WARN, Ordering::Relaxed);
    }

    /// True if the client has to be warned of that; true only once.
    #[must_use]
    pub fn takes_warning(&self) -> bool {
        // Called for each frame, so without a warning it is only a read.
        self.warning.load(Ordering::Relaxed) == WARN && self.warning.swap(QUIET, Ordering::Relaxed) == WARN
    }

    /// The session number that the writer has assigned.
    pub(super) fn session(&self) -> u64 {
        self.session.load(Ordering::Relaxed)
    }

    pub(super) fn set_session(&self, session: u64) {
        self.session.store(session, Ordering::Relaxed);
    }

    /// Counts `bundles` more durable bundles.
    pub fn advance(&self, bundles: u64) {
        self.durable.fetch_add(bundles, Ordering::Release);
        step();
        self.changed.notify_waiters();
    }

    /// Closes the origin: no more of its bundles become durable.
    pub fn close(&self, why: Closed) {
        let why = match why {
            Closed::Fenced => FENCED,
            Closed::Crowded => CROWDED,
            Closed::Uncommitted => UNCOMMITTED,
            Closed::Stopped => STOPPED,
        };
        // The first reason stays.
        let _ = self.closed.compare_exchange(OPEN, why, Ordering::AcqRel, Ordering::Acquire);
        step();
        self.changed.notify_waiters();
        self.closing.notify_waiters();
    }
}

/// How far a producer's records are at the beginning of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Opened {
    /// The highest sequence number in the WAL: records up to it are skipped.
    pub known_seq: u64,
    /// The highest sequence number that the client may take as acknowledged. Lower than `known_seq` for an origin whose
    /// records have to be committed, while records of the WAL are not.
    pub acked_seq: u64,
}

/// A message to the writer.
pub enum Submission {
    /// Begins a connection's session of its producer. The answer comes once everything before the message is durable.
    Open {
        /// The connection.
        origin: Arc<ConnectionOrigin>,
        /// The name under which an earlier version may know the producer.
        former: Option<String>,
        /// The channel for the answer.
        opened: oneshot::Sender<Opened>,
    },
    /// Records to store.
    Bundle {
        /// The connection.
        origin: Arc<ConnectionOrigin>,
        /// The records.
        bundle: Bundle,
    },
}

impl Submission {
    fn permits(&self) -> u32 {
        match self {
            Self::Open { .. } => 1,
            // A bundle never takes more permits than there are.
            Self::Bundle { bundle, .. } => {
                u32::try_from(bundle.bytes().div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX).max(1)
            }
        }
    }

    /// The connection that gets the reply.
    #[must_use]
    pub fn origin(&self) -> &Arc<ConnectionOrigin> {
        match self {
            Self::Open { origin, .. } | Self::Bundle { origin, .. } => origin,
        }
    }
}

/// The sending end. Cheap to clone; the writer ends once every clone is dropped.
#[derive(Clone)]
pub struct ChunkSender {
    sender: Sender<Submission>,
    permits: Arc<Semaphore>,
    permits_max: u32,
}

/// The writer's end.
pub struct ChunkReceiver {
    receiver: Receiver<Submission>,
    permits: Arc<Semaphore>,
    permits_max: u32,
}

/// A channel of at most `bytes` bytes of payload.
#[must_use]
pub fn channel(bytes: usize) -> (ChunkSender, ChunkReceiver) {
    let permits_max = u32::try_from(bytes / PERMIT_BYTES).unwrap_or(u32::MAX).clamp(64, 1 << 24);
    let (sender, receiver) = crossbeam_channel::bounded(permits_max as usize);
    let permits = Arc::new(Semaphore::new(permits_max as usize));
    (
        ChunkSender { sender, permits: Arc::clone(&permits), permits_max },
        ChunkReceiver { receiver, permits, permits_max },
    )
}

impl ChunkSender {
    /// Begins a session of the origin's producer. `former` is the name under which an earlier version may know the
    /// producer.
    ///
    /// # Errors
    /// [`Closed::Stopped`] if the writer has ended.
    pub async fn open(&self, origin: &Arc<ConnectionOrigin>, former: Option<String>) -> Result<Opened, Closed> {
        let (opened, answer) = oneshot::channel();
        self.send(Submission::Open { origin: Arc::clone(origin), former, opened }).await?;
        answer.await.map_err(|_| Closed::Stopped)
    }

    /// Sends a bundle; waits for room. It is durable once [`ConnectionOrigin::durable`] has counted it.
    ///
    /// # Errors
    /// [`Closed`] if the writer has ended or another connection has taken over.
    pub async fn submit(&self, origin: &Arc<ConnectionOrigin>, bundle: Bundle) -> Result<(), Closed> {
        if let Some(closed) = origin.closed() {
            return Err(closed);
        }
        let sent = self.send(Submission::Bundle { origin: Arc::clone(origin), bundle }).await;
        self.tell_if_stopped(origin);
        sent
    }

    /// Closes the origin if the writer has ended. At its end the writer closes the origins of the messages in the
    /// channel; a later message would wait for its reply for ever.
    fn tell_if_stopped(&self, origin: &ConnectionOrigin) {
        step();
        if self.permits.is_closed() {
            origin.close(Closed::Stopped);
        }
    }

    /// Bytes in the channel, to the nearest permit.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        (self.permits_max as usize - self.permits.available_permits()) * PERMIT_BYTES
    }

    async fn send(&self, submission: Submission) -> Result<(), Closed> {
        let permits = submission.permits().min(self.permits_max);
        step();
        self.permits.acquire_many(permits).await.map_err(|_| Closed::Stopped)?.forget();
        // Every submission has a permit and there is a place for each permit, so the send fails only after the writer
        // has ended.
        step();
        self.sender.try_send(submission).map_err(|_| Closed::Stopped)
    }
}

impl ChunkReceiver {
    /// Waits for a submission until `timeout`.
    ///
    /// # Errors
    /// `Err(true)` if every sender is dropped, `Err(false)` after the timeout.
    pub fn recv(&self, timeout: std::time::Duration) -> Result<Submission, bool> {
        step();
        let received = self.receiver.recv_timeout(timeout);
        let submission = received.map_err(|error| error == crossbeam_channel::RecvTimeoutError::Disconnected)?;
        self.give_back(&submission);
        Ok(submission)
    }

    /// A submission that has arrived, without waiting.
    #[must_use]
    pub fn try_recv(&self) -> Option<Submission> {
        step();
        let submission = self.receiver.try_recv().ok()?;
        self.give_back(&submission);
        Some(submission)
    }

    fn give_back(&self, submission: &Submission) {
        self.permits.add_permits(submission.permits().min(self.permits_max) as usize);
    }
}

impl Drop for ChunkReceiver {
    /// Informs all tasks that wait for a place or for durability that the writer has ended.
    fn drop(&mut self) {
        step();
        self.permits.close();
        while let Ok(submission) = self.receiver.try_recv() {
            submission.origin().close(Closed::Stopped);
        }
        step();
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;
    use crate::chunk::Chunk;

    fn bundle(bytes: usize) -> Bundle {
        Chunk::of_bytes(1, vec![0; bytes]).into()
    }

    #[tokio::test]
    async fn a_full_channel_makes_the_sender_wait_and_a_gone_writer_frees_it() {
        let (ingest, receiver) = channel(64 * PERMIT_BYTES);
        let origin = ConnectionOrigin::new(ProducerIdentity::without_secret("p"));
        for _ in 0..8 {
            ingest.submit(&origin, bundle(8 * PERMIT_BYTES)).await.unwrap();
        }
        assert_eq!(ingest.waiting_bytes(), 64 * PERMIT_BYTES);
        let submit = || {
            let (ingest, origin) = (ingest.clone(), Arc::clone(&origin));
            async move { ingest.submit(&origin, bundle(8 * PERMIT_BYTES)).await }
        };
        let now = &mut Context::from_waker(Waker::noop());
        assert!(std::pin::pin!(submit()).poll(now).is_pending(), "there is no room");
        assert!(receiver.try_recv().is_some());
        submit().await.unwrap();
        let waiting = tokio::spawn(submit());
        drop(receiver);
        assert_eq!(waiting.await.unwrap(), Err(Closed::Stopped));
        assert_eq!(origin.wait_durable(1).await, Err(Closed::Stopped));
    }

    #[tokio::test]
    async fn durability_wakes_who_waits_for_it() {
        let origin = ConnectionOrigin::new(ProducerIdentity::without_secret("p"));
        let waiting = tokio::spawn({
            let origin = Arc::clone(&origin);
            async move { origin.wait_durable(3).await }
        });
        origin.advance(2);
        origin.advance(1);
        assert_eq!(waiting.await.unwrap(), Ok(()));
        origin.close(Closed::Fenced);
        assert_eq!(origin.wait_durable(3).await, Ok(()), "what is durable stays so");
        assert_eq!(origin.wait_durable(4).await, Err(Closed::Fenced));
    }
}
