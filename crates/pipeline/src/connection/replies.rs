//! The task that answers: in order, and never before an answer's records are durable, or committed, as the connection's
//! mode says. Between answers it writes news, which do not wait for any record.
//!
//! PostgreSQL may be down for hours. A connection that waits for its COMMIT is closed after [`COMMIT_PATIENCE`]:
//! otherwise the places of clients that have left would be taken until PostgreSQL is back. Clients connect again and
//! resend, as after any break; their records are in the WAL already, and are skipped.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinHandle};

use super::outbox::{Reply, ReplyRoom, Room};
use crate::standing::Told;
use tallyd_protocol::AckMode;
use tallyd_wal::channel::{Closed, ConnectionOrigin};

/// Bytes of replies that are written at once.
const WRITE_BYTES: usize = 64 * 1024;

/// How long a client may read nothing while others wait for room.
const DEAF: Duration = Duration::from_secs(2);

/// How long a reply may wait for PostgreSQL's COMMIT. Less than the time after which clients of this project give a
/// silent daemon up, which is 30 s or more.
const COMMIT_PATIENCE: Duration = Duration::from_secs(20);

/// Waits until the first `bundles` of the origin's bundles may be answered: for ever for the WAL, at most `patience` for
/// PostgreSQL.
///
/// # Errors
/// [`Closed`] if they never will be, or not in time.
pub(crate) async fn settled(origin: &ConnectionOrigin, bundles: u64, patience: Duration) -> Result<(), Closed> {
    if origin.ack == AckMode::Durable || origin.durable() >= bundles {
        return origin.wait_durable(bundles).await;
    }
    tokio::time::timeout(patience, origin.wait_durable(bundles)).await.unwrap_or_else(|_elapsed| {
        origin.close(Closed::Uncommitted);
        Err(Closed::Uncommitted)
    })
}

/// Waits for the last replies of a client that sends no more. It may have left, so PostgreSQL gets `patience` only.
///
/// # Errors
/// If the task panicked.
pub(super) async fn last<T>(
    mut replying: JoinHandle<T>,
    origin: &ConnectionOrigin,
    patience: Duration,
) -> Result<T, JoinError> {
    if origin.ack == AckMode::Committed {
        match tokio::time::timeout(patience, &mut replying).await {
            Ok(ended) => return ended,
            Err(_elapsed) => origin.close(Closed::Uncommitted),
        }
    }
    replying.await
}

/// Writes the gathered replies. An error if the client is gone, or does not read while others wait for its room.
async fn write<W: AsyncWrite + Unpin>(writer: &mut W, mut out: &[u8], room: &ReplyRoom) -> io::Result<()> {
    while !out.is_empty() {
        // Most sockets take the bytes at once, without a timer.
        let written = match writer.write(out).now_or_never() {
            Some(written) => Ok(written),
            None => tokio::time::timeout(DEAF, writer.write(out)).await,
        };
        match written {
            Ok(Ok(0)) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => out = &out[written?..],
            Err(_) if room.is_scarce() => return Err(ErrorKind::TimedOut.into()),
            Err(_) => {}
        }
    }
    Ok(())
}

/// Waits for a reply, and writes news meanwhile.
async fn next_reply<W: AsyncWrite + Unpin>(
    writer: &mut W,
    replies: &mut mpsc::Receiver<Reply>,
    room: &ReplyRoom,
    news: &mut News,
) -> io::Result<Option<Reply>> {
    loop {
        let told = tokio::select! {
            biased;
            reply = replies.recv() => return Ok(reply),
            told = news.next() => told,
        };
        write(writer, &told.frame, room).await?;
    }
}

/// Adds a reply that may be sent now. Returns its room.
fn add(out: &mut Vec<u8>, reply: Reply) -> Room {
    let Reply { bytes, late, room, .. } = reply;
    out.extend_from_slice(&match late {
        Some(late) => late(bytes),
        None => bytes,
    });
    room
}

/// Writes replies until their queue ends. Returns the writer, unless the client is gone, and why replies ended early. A
/// client that is gone gets no more answers, but its complete messages are still stored: the reader goes on to the end.
pub(super) async fn run<W: AsyncWrite + Unpin>(
    mut writer: W,
    origin: Arc<ConnectionOrigin>,
    mut replies: mpsc::Receiver<Reply>,
    room: ReplyRoom,
    mut news: News,
) -> (Option<W>, Option<Closed>) {
    let mut out = Vec::new();
    let mut held = Room::default();
    let mut is_gone = false;
    let mut next = None;
    loop {
        if next.is_none() {
            next = match next_reply(&mut writer, &mut replies, &room, &mut news).await {
                Ok(next) => next,
                Err(error) => match lost(&error, &mut is_gone, &mut news) {
                    Some(closed) => return (None, Some(closed)),
                    None => continue,
                },
            };
        }
        let Some(reply) = next else { break };
        if let Err(closed) = settled(&origin, reply.after_bundles, COMMIT_PATIENCE).await {
            return (Some(writer), Some(closed));
        }
        let mut asks_for_news = reply.asks_for_news;
        held.merge(add(&mut out, reply));
        // All other durable replies go with it.
        let durable = origin.durable();
        next = loop {
            match replies.try_recv() {
                Ok(reply) if reply.after_bundles <= durable && out.len() < WRITE_BYTES => {
                    asks_for_news |= reply.asks_for_news;
                    held.merge(add(&mut out, reply));
                }
                Ok(reply) => break Some(reply),
                Err(_) => break None,
            }
        };
        if asks_for_news && !is_gone {
            news.ask();
        }
        let mut written = if is_gone { Ok(()) } else { write(&mut writer, &out, &room).await };
        // Here as well, for a client whose replies never end.
        if let (Ok(()), Some(told)) = (&written, news.take()) {
            written = write(&mut writer, &told.frame, &room).await;
        }
        if let Err(error) = written
            && let Some(closed) = lost(&error, &mut is_gone, &mut news)
        {
            return (None, Some(closed));
        }
        out.clear();
        // One long reply must not keep its memory for the next ones.
        out.shrink_to(2 * WRITE_BYTES);
        held = Room::default();
    }
    ((!is_gone).then_some(writer), None)
}

/// The client is gone, or does not read. Returns why reading must end as well, if so.
fn lost(error: &io::Error, is_gone: &mut bool, news: &mut News) -> Option<Closed> {
    *is_gone = true;
    *news = News::none();
    (error.kind() == ErrorKind::TimedOut).then_some(Closed::Stopped)
}

/// A client's news.
pub(super) struct News {
    told: Option<watch::Receiver<Arc<Told>>>,
    is_asked: bool,
}

impl News {
    /// For clients without news.
    pub(super) const fn none() -> Self {
        Self { told: None, is_asked: false }
    }

    /// States after the one that the receiver has already seen, once the client asks for them.
    pub(super) const fn after(told: watch::Receiver<Arc<Told>>) -> Self {
        Self { told: Some(told), is_asked: false }
    }

    /// The client wants news from now on.
    pub(super) const fn ask(&mut self) {
        self.is_asked = true;
    }

    /// The newest state, if it is new.
    pub(super) fn take(&mut self) -> Option<Arc<Told>> {
        let told = self.told.as_mut().filter(|told| self.is_asked && told.has_changed().unwrap_or(false))?;
        Some(Arc::clone(&told.borrow_and_update()))
    }

    /// Waits for the next state. Cancel safe.
    pub(super) async fn next(&mut self) -> Arc<Told> {
        loop {
            if let Some(told) = self.take() {
                return told;
            }
            let is_over = match &mut self.told {
                Some(told) if self.is_asked => told.changed().await.is_err(),
                _ => true,
            };
            if is_over {
                std::future::pending::<()>().await;
            }
            // `changed` has marked the state as seen.
            if let Some(told) = &self.told {
                return Arc::clone(&told.borrow());
            }
        }
    }
}
