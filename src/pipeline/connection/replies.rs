//! The task that answers: in order, and never before what an answer speaks for is durable.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::outbox::{Reply, ReplyRoom, Room};
use crate::pipeline::channel::{Closed, Origin};

/// Bytes of replies that are written at once.
const WRITE_BYTES: usize = 64 * 1024;

/// How long a client may read nothing while others wait for room.
const DEAF: Duration = Duration::from_secs(2);

/// Writes what was gathered. An error if the client is gone, or does not read while others wait for what it holds.
async fn write<W: AsyncWrite + Unpin>(writer: &mut W, mut out: &[u8], room: &ReplyRoom) -> io::Result<()> {
    while !out.is_empty() {
        // Most sockets take the bytes at once, and need no timer.
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

/// Writes replies until their queue ends. Returns the writer, unless the client is gone, and why replies ended early. A
/// client that is gone is answered no more, and what it had sent whole is stored all the same: the reader goes on to the
/// end of it.
pub async fn run<W: AsyncWrite + Unpin>(
    mut writer: W,
    origin: Arc<Origin>,
    mut replies: mpsc::Receiver<Reply>,
    room: ReplyRoom,
) -> (Option<W>, Option<Closed>) {
    let mut out = Vec::new();
    let mut held = Room::default();
    let mut is_gone = false;
    let mut next = replies.recv().await;
    while let Some(reply) = next {
        if let Err(closed) = origin.wait_durable(reply.after_bundles).await {
            return (Some(writer), Some(closed));
        }
        out.extend_from_slice(&reply.bytes);
        held.merge(reply.room);
        // Whatever else is durable by now goes with it.
        let durable = origin.durable();
        next = loop {
            match replies.try_recv() {
                Ok(reply) if reply.after_bundles <= durable && out.len() < WRITE_BYTES => {
                    out.extend_from_slice(&reply.bytes);
                    held.merge(reply.room);
                }
                Ok(reply) => break Some(reply),
                Err(_) => break None,
            }
        };
        if !is_gone && let Err(error) = write(&mut writer, &out, &room).await {
            if error.kind() == ErrorKind::TimedOut {
                // It is not read from any more either: the queue has ended.
                return (None, Some(Closed::Stopped));
            }
            is_gone = true;
        }
        out.clear();
        // A long one is no reason to keep as much for the next.
        out.shrink_to(2 * WRITE_BYTES);
        held = Room::default();
        if next.is_none() {
            next = replies.recv().await;
        }
    }
    ((!is_gone).then_some(writer), None)
}
