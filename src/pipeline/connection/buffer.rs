//! What has been read from the socket and not been used yet.
//!
//! One read takes whatever the socket holds, so many small frames cost one system call. The buffer begins small, grows
//! while reads fill it, and is given back when the client goes quiet: ten thousand idle connections must cost little.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;

const SMALL_BYTES: usize = 512;
const LARGE_BYTES: usize = 256 * 1024;
/// How much a client may still send after it was told to go, and for how long.
const DRAINED_BYTES_MAX: usize = 4 * 1024 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(1);
/// How long a grown buffer is kept for a client that sends nothing.
const KEPT_WHILE_QUIET: Duration = Duration::from_secs(2);

/// A socket's reading half, and what has been read from it.
pub struct ReadBuffer<R> {
    reader: R,
    bytes: BytesMut,
    stop: watch::Receiver<bool>,
    target: usize,
}

impl<R: AsyncRead + Unpin> ReadBuffer<R> {
    /// Reads from `reader` until `stop` becomes true.
    pub fn new(reader: R, stop: watch::Receiver<bool>) -> Self {
        Self { reader, bytes: BytesMut::new(), stop, target: SMALL_BYTES }
    }

    /// What has been read and not been used.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Drops the first `count` bytes.
    pub fn consume(&mut self, count: usize) {
        self.bytes.advance(count);
    }

    /// Reads and drops what the client still sends, until it ends or has had its chance. A socket that is closed with
    /// bytes unread is reset, and the client may never see what it was told last.
    pub async fn drain(&mut self) {
        let draining = async {
            let mut dropped = 0;
            while dropped < DRAINED_BYTES_MAX {
                self.bytes.clear();
                match self.reader.read_buf(&mut self.bytes).await {
                    Ok(read) if read > 0 => dropped += read,
                    _ => break,
                }
            }
        };
        // The client had its time.
        let _ = tokio::time::timeout(DRAIN_TIME, draining).await;
    }

    /// Reads until at least `count` bytes are there. False if the client ended or `stop` became true before that.
    ///
    /// # Errors
    /// The socket's.
    pub async fn fill(&mut self, count: usize) -> io::Result<bool> {
        while self.bytes.len() < count {
            if !self.read_more(count).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads once, making room for `count` bytes in all. False at the end, or if `stop` became true.
    ///
    /// # Errors
    /// The socket's.
    pub async fn read_more(&mut self, count: usize) -> io::Result<bool> {
        loop {
            if self.bytes.is_empty() && self.bytes.capacity() > LARGE_BYTES {
                self.bytes = BytesMut::new();
            }
            let wanted = self.target.max(count.saturating_sub(self.bytes.len()));
            if self.bytes.capacity() - self.bytes.len() < wanted {
                self.bytes.reserve(wanted);
            }
            let quiet = self.bytes.is_empty() && self.target > SMALL_BYTES;
            let read = tokio::select! {
                biased;
                read = self.reader.read_buf(&mut self.bytes) => read?,
                _ = self.stop.wait_for(|stop| *stop) => return Ok(false),
                () = tokio::time::sleep(KEPT_WHILE_QUIET), if quiet => {
                    self.bytes = BytesMut::new();
                    self.target = SMALL_BYTES;
                    continue;
                }
            };
            if read >= self.target && self.target < LARGE_BYTES {
                self.target = (self.target * 8).min(LARGE_BYTES);
            }
            return Ok(read > 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_grows_under_load_and_shrinks_when_quiet() {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let (_stopper, stop) = watch::channel(false);
        let mut buffer = ReadBuffer::new(server, stop);
        client.write_all(&vec![7; 900_000]).await.unwrap();
        let mut received = 0;
        while received < 900_000 {
            assert!(buffer.read_more(1).await.unwrap());
            received += buffer.bytes().len();
            buffer.consume(buffer.bytes().len());
        }
        assert_eq!(buffer.target, LARGE_BYTES);
        let quiet = tokio::spawn(async move {
            let more = buffer.fill(1).await.unwrap();
            (more, buffer.bytes.capacity())
        });
        tokio::time::sleep(KEPT_WHILE_QUIET * 2).await;
        client.write_all(b"x").await.unwrap();
        let (more, capacity) = quiet.await.unwrap();
        assert!(more);
        assert!(capacity <= 2 * SMALL_BYTES, "{capacity}");
    }

    #[tokio::test]
    async fn it_ends_with_the_client_or_when_told_to() {
        let (client, server) = tokio::io::duplex(64);
        let (stopper, stop) = watch::channel(false);
        let mut buffer = ReadBuffer::new(server, stop.clone());
        drop(client);
        assert!(!buffer.fill(1).await.unwrap());
        let (_client, server) = tokio::io::duplex(64);
        let mut buffer = ReadBuffer::new(server, stop);
        stopper.send(true).unwrap();
        assert!(!buffer.fill(1).await.unwrap());
    }
}
