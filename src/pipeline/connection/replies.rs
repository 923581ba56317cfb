//! The task that answers: in order, and never before what an answer speaks for is durable.

use std::sync::Arc;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::outbox::Reply;
use crate::pipeline::channel::{Closed, Origin};

/// Bytes of replies that are written at once.
const WRITE_BYTES: usize = 64 * 1024;

/// Writes replies until their queue ends. Returns the writer, unless the client is gone, and why replies ended early. A
/// client that is gone is answered no more, and what it had sent whole is stored all the same: the reader goes on to the
/// end of it.
pub async fn run<W: AsyncWrite + Unpin>(
    mut writer: W,
    origin: Arc<Origin>,
    mut replies: mpsc::Receiver<Reply>,
) -> (Option<W>, Option<Closed>) {
    let mut out = Vec::new();
    let mut is_gone = false;
    let mut next = replies.recv().await;
    while let Some(reply) = next {
        if let Err(closed) = origin.wait_durable(reply.after_bundles).await {
            return (Some(writer), Some(closed));
        }
        out.extend_from_slice(&reply.bytes);
        // Whatever else is durable by now goes with it.
        let durable = origin.durable();
        next = loop {
            match replies.try_recv() {
                Ok(reply) if reply.after_bundles <= durable && out.len() < WRITE_BYTES => {
                    out.extend_from_slice(&reply.bytes);
                }
                Ok(reply) => break Some(reply),
                Err(_) => break None,
            }
        };
        is_gone = is_gone || writer.write_all(&out).await.is_err();
        out.clear();
        if next.is_none() {
            next = replies.recv().await;
        }
    }
    ((!is_gone).then_some(writer), None)
}
