//! Bytes that were read from the socket and not used yet.
//!
//! One read takes all bytes of the socket, so a batch of small frames costs one system call. The buffer begins small,
//! grows while reads fill it, and is given back when the client goes quiet, because ten thousand idle connections must
//! cost little.
//!
//! Beyond [`SMALL_ROOM`] the buffer takes room that all connections share ([`Rooms`]), and the client is not read from
//! until there is some. Room for a frame or line is taken whole, once. So a waiting connection keeps no room that
//! others wait for, except for bytes read ahead, which leave half of the pool free: two waiting connections never wait
//! for each other. A client that keeps room for bytes that it does not send is closed as [`Slow`] once room is scarce.

use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::room::Rooms;

const SMALL_BYTES: usize = 512;
const LARGE_BYTES: usize = 256 * 1024;
/// The bounds of a connection's memory.
const SMALL_ROOM: usize = 2 * 1024;
/// Most frames fit into this size, and a line of the default bound.
const MEDIUM_ROOM: usize = 65 * 1024;
/// The most bytes that a client may still send after the daemon has closed its side, and the longest time.
const DRAINED_BYTES_MAX: usize = 4 * 1024 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(1);
/// How long a grown buffer is kept for a client that sends nothing.
const KEPT_WHILE_QUIET: Duration = Duration::from_secs(2);
/// Where room is scarce, an unfinished frame or line must grow by this many bytes in this time.
const PROGRESS_BYTES: usize = 32 * 1024;
const PROGRESS_TIME: Duration = Duration::from_secs(1);

/// The client kept room for a frame or line that did not arrive, while room was scarce.
#[derive(Debug, thiserror::Error)]
#[error(
    "less than {PROGRESS_BYTES} bytes of an unfinished frame or line came in {} s while memory for such was scarce; connect \
     again and resend unacknowledged records",
    PROGRESS_TIME.as_secs()
)]
pub(super) struct Slow;

/// Sizes of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Size {
    Small,
    Medium,
    Ahead,
    Whole,
}

impl Size {
    /// The size that a message of this many bytes needs.
    const fn of(bytes: usize) -> Self {
        if bytes <= SMALL_ROOM {
            Self::Small
        } else if bytes <= MEDIUM_ROOM {
            Self::Medium
        } else {
            Self::Whole
        }
    }
}

/// A socket's reading half, and its unused bytes.
pub(super) struct ReadBuffer<R> {
    reader: R,
    bytes: BytesMut,
    stop: CancellationToken,
    target: usize,
    rooms: Arc<Rooms>,
    /// The longest frame or line, bytes.
    whole: usize,
    size: Size,
    room: Option<OwnedSemaphorePermit>,
    /// Since when an unfinished message is watched, and the bytes received since.
    watched: Option<(Instant, usize)>,
}

impl<R: AsyncRead + Unpin> ReadBuffer<R> {
    /// Reads from `reader` until `stop` is cancelled. `rooms` is shared by all connections; frames or lines have up to
    /// `whole` bytes.
    pub(super) fn new(reader: R, stop: CancellationToken, rooms: &Arc<Rooms>, whole: usize) -> Self {
        let (bytes, rooms) = (BytesMut::new(), Arc::clone(rooms));
        let (target, size, room, watched) = (SMALL_BYTES, Size::Small, None, None);
        Self { reader, bytes, stop, target, rooms, whole, size, room, watched }
    }

    /// The socket's half, with the unused bytes in front.
    pub(super) fn into_reader(self) -> impl AsyncRead + Unpin {
        AsyncReadExt::chain(Cursor::new(self.bytes), self.reader)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.bytes.advance(count);
        self.watched = None;
    }

    /// Reads and drops further bytes, until the client ends or the time is up. A socket that is closed with unread
    /// bytes is reset, and its client may never see the last message.
    pub(super) async fn drain(&mut self) {
        self.bytes = BytesMut::with_capacity(SMALL_ROOM);
        self.hold(Size::Small, None);
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
        // The time is up.
        let _ = tokio::time::timeout(DRAIN_TIME, draining).await;
    }

    /// Reads until at least `count` bytes are there. False if the client ended or `stop` is cancelled before that.
    ///
    /// # Errors
    /// [`Slow`] if the client holds up others.
    pub(super) async fn fill(&mut self, count: usize) -> Result<bool, Slow> {
        while self.bytes.len() < count {
            if !self.read_more(count).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads once, with room for a message of `count` bytes that is not complete. False at the end, after an error of
    /// the socket, or once `stop` is cancelled.
    ///
    /// # Errors
    /// [`Slow`] if the client holds up others.
    pub(super) async fn read_more(&mut self, count: usize) -> Result<bool, Slow> {
        loop {
            if !self.make_room(count).await {
                return Ok(false);
            }
            let grown = self.size > Size::Small || self.target > SMALL_BYTES;
            let patience = self.watched.map_or(KEPT_WHILE_QUIET, |_| PROGRESS_TIME);
            let read = tokio::select! {
                biased;
                read = self.reader.read_buf(&mut self.bytes) => Some(read.unwrap_or(0)),
                () = self.stop.cancelled() => return Ok(false),
                () = tokio::time::sleep(patience), if grown => None,
            };
            match read {
                None => {
                    self.check_progress(0)?;
                    self.target = SMALL_BYTES;
                    self.shrink(count);
                }
                Some(0) => return Ok(false),
                Some(read) => {
                    if self.bytes.len() < count {
                        self.check_progress(read)?;
                    }
                    if read >= self.target && self.target < LARGE_BYTES {
                        self.target = (self.target * 8).min(LARGE_BYTES);
                    }
                    return Ok(true);
                }
            }
        }
    }

    /// The most bytes that the buffer may have.
    fn limit(&self) -> usize {
        match self.size {
            Size::Small => SMALL_ROOM,
            Size::Medium => MEDIUM_ROOM,
            Size::Ahead => LARGE_BYTES,
            Size::Whole => self.whole.max(LARGE_BYTES),
        }
    }

    /// Whether other connections wait for room of this kind.
    fn is_scarce(&self) -> bool {
        match self.size {
            Size::Small => false,
            Size::Medium => self.rooms.medium.is_scarce(),
            Size::Ahead | Size::Whole => self.rooms.large.is_scarce(),
        }
    }

    /// Changes the held room. The buffer fits into it already.
    fn hold(&mut self, size: Size, room: Option<OwnedSemaphorePermit>) {
        (self.size, self.room) = (size, room);
    }

    /// Takes room for the next read, waiting for it if need be. False if `stop` is cancelled meanwhile.
    async fn make_room(&mut self, count: usize) -> bool {
        if self.size > Size::of(count) && (self.size == Size::Whole || self.is_scarce()) {
            self.shrink(count);
        }
        // A message that was only announced takes no room yet.
        if count > self.limit() && (self.size > Size::Small || self.bytes.len() >= SMALL_ROOM) {
            let size = Size::of(count);
            let (pool, bytes) = match size {
                Size::Medium => (&self.rooms.medium, MEDIUM_ROOM),
                _ => (&self.rooms.large, self.whole.max(LARGE_BYTES)),
            };
            let room = tokio::select! {
                biased;
                room = pool.take(bytes) => room,
                () = self.stop.cancelled() => return false,
            };
            self.hold(size, room);
            // The wait was not the client's fault.
            self.watched = None;
        }
        if self.size > Size::Small && Size::of(count) > Size::Small {
            self.watched.get_or_insert_with(|| (Instant::now(), 0));
        }
        self.grow(count);
        true
    }

    /// Grows the buffer for the next read, within the held room. An announced message takes no more than twice its
    /// received bytes.
    fn grow(&mut self, count: usize) {
        let length = self.bytes.len();
        let more = self.target.max(length / 2).max((count - length).min(length));
        for size in [Size::Medium, Size::Ahead] {
            let (pool, bytes) = match size {
                Size::Medium => (&self.rooms.medium, MEDIUM_ROOM),
                _ => (&self.rooms.large, LARGE_BYTES),
            };
            // A larger message takes room of its own size later.
            if self.size < size
                && count <= bytes
                && length + more > self.limit()
                && let Some(room) = pool.try_take_spare(bytes)
            {
                self.hold(size, Some(room));
            }
        }
        let more = more.min(self.limit() - length);
        if self.bytes.capacity() - length < more && !self.bytes.try_reclaim(more) {
            self.replace(length + more);
        }
    }

    /// Replaces the buffer by one of exactly this size.
    fn replace(&mut self, capacity: usize) {
        let mut bytes = BytesMut::with_capacity(capacity);
        bytes.extend_from_slice(&self.bytes);
        self.bytes = bytes;
    }

    /// Gives back room that a message of `count` bytes does not need.
    fn shrink(&mut self, count: usize) {
        let needed = Size::of(count);
        let room = match needed {
            Size::Small => None,
            Size::Medium if self.size > Size::Medium => match self.rooms.medium.try_take(MEDIUM_ROOM) {
                Some(room) => Some(room),
                None => return,
            },
            _ => return,
        };
        self.replace(self.bytes.len() + SMALL_BYTES);
        self.hold(needed, room);
    }

    /// Counts the received bytes of an unfinished message that takes room.
    fn check_progress(&mut self, read: usize) -> Result<(), Slow> {
        let Some((since, before)) = self.watched else { return Ok(()) };
        let arrived = before + read;
        if since.elapsed() < PROGRESS_TIME {
            self.watched = Some((since, arrived));
            return Ok(());
        }
        self.watched = None;
        if arrived < PROGRESS_BYTES && self.is_scarce() {
            // Complete messages are made durable and answered first; that must not keep this room from others.
            self.bytes = BytesMut::new();
            self.hold(Size::Small, None);
            return Err(Slow);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const WHOLE: usize = 1 << 20;

    fn buffer(rooms: &Arc<Rooms>, stop: &CancellationToken) -> (DuplexStream, ReadBuffer<DuplexStream>) {
        let (client, server) = duplex(WHOLE);
        (client, ReadBuffer::new(server, stop.clone(), rooms, WHOLE))
    }

    #[tokio::test(start_paused = true)]
    async fn it_grows_under_load_and_shrinks_when_quiet() {
        let (rooms, stop) = (Arc::default(), CancellationToken::new());
        let (mut client, mut buffer) = buffer(&rooms, &stop);
        client.write_all(&vec![7; 900_000]).await.unwrap();
        let mut received = 0;
        while received < 900_000 {
            assert!(buffer.read_more(1).await.unwrap());
            received += buffer.bytes().len();
            buffer.consume(buffer.bytes().len());
        }
        assert_eq!((buffer.target, buffer.size), (LARGE_BYTES, Size::Ahead));
        let quiet = tokio::spawn(async move {
            let more = buffer.fill(1).await.unwrap();
            (more, buffer.bytes.capacity(), buffer.room.is_none())
        });
        tokio::time::sleep(KEPT_WHILE_QUIET * 2).await;
        client.write_all(b"x").await.unwrap();
        let (more, capacity, gave_back) = quiet.await.unwrap();
        assert!(more && gave_back);
        assert!(capacity <= 2 * SMALL_BYTES, "{capacity}");
    }

    #[tokio::test]
    async fn it_ends_with_the_client_or_when_told_to() {
        let (rooms, stop) = (Arc::default(), CancellationToken::new());
        let (client, mut ended) = buffer(&rooms, &stop);
        drop(client);
        assert!(!ended.fill(1).await.unwrap());
        let (_client, mut told) = buffer(&rooms, &stop);
        stop.cancel();
        assert!(!told.fill(1).await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_hold_room_for_what_does_not_come_make_way_and_each_waits_its_turn() {
        let (rooms, stop) = (Arc::default(), CancellationToken::new());
        let mut unfinished = Vec::new();
        for _ in 0..200 {
            let (mut client, mut buffer) = buffer(&rooms, &stop);
            client.write_all(&vec![7; WHOLE - 1]).await.unwrap();
            unfinished.push(tokio::spawn(async move {
                let slow = buffer.fill(WHOLE).await.is_err();
                (slow, client, buffer)
            }));
        }
        tokio::time::sleep(PROGRESS_TIME / 2).await;
        let (mut client, mut honest) = buffer(&rooms, &stop);
        client.write_all(&vec![7; 60_000]).await.unwrap();
        assert!(honest.fill(60_000).await.unwrap(), "medium ones have room of their own");
        honest.consume(60_000);
        client.write_all(&vec![7; WHOLE]).await.unwrap();
        assert!(honest.fill(WHOLE).await.unwrap());
        assert!(honest.bytes.capacity() <= WHOLE);
        // Only connections that others wait for are closed.
        let closed = unfinished.iter().filter(|one| one.is_finished()).count();
        assert!((100..200).contains(&closed), "{closed}");
        for one in unfinished.into_iter().filter(tokio::task::JoinHandle::is_finished) {
            let (slow, _, buffer) = one.await.unwrap();
            assert!(slow && buffer.bytes.capacity() == 0 && buffer.room.is_none());
        }
        drop(honest);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_is_only_announced_holds_nothing() {
        let (rooms, stop) = (Arc::<Rooms>::default(), CancellationToken::new());
        let (mut client, mut buffer) = buffer(&rooms, &stop);
        client.write_all(&[7; 100]).await.unwrap();
        assert!(buffer.read_more(WHOLE).await.unwrap());
        assert!(buffer.bytes.capacity() <= SMALL_ROOM, "{}", buffer.bytes.capacity());
    }
}
