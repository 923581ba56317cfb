//! All interleavings of a connection and the writer, under loom.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use loom::future::block_on;
use loom::thread;
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;

use tallyd_base::sync::{AtomicU64, Ordering};
use tallyd_wal::channel::*;
use tallyd_wal::chunk::{Bundle, ChunkBuilder, Refused};
use tallyd_wal::identity::ProducerIdentity;

use super::outbox::{Reply, ReplyRoom, Room};
use super::replies::News;
use super::replies::run as replies;
use super::room::Rooms;

/// Stands in for the disk: the number of synced bundles. Relaxed, so that only the origin's counter orders it.
fn synced(count: u64) -> Arc<AtomicU64> {
    Arc::new(AtomicU64::new(count))
}

/// A client's socket: each byte of a reply is the number of bundles that must be durable before it.
struct Socket {
    synced: Arc<AtomicU64>,
    received: Vec<u8>,
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let synced = self.synced.load(Ordering::Relaxed);
        for reply in bytes {
            assert!(u64::from(*reply) <= synced, "a reply for {reply} bundles leaves when {synced} are synced");
        }
        self.received.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn bundle() -> Bundle {
    let mut builder = ChunkBuilder::new();
    let (code, field, message, payload_format, payload) = ("nul", "", "", "json", &b""[..]);
    let refused = Refused { code, field, message, payload_format, payload, ..Default::default() };
    assert!(builder.push_refused(1, &refused).is_none());
    builder.finish().unwrap().into()
}

#[test]
fn whoever_waits_for_durability_is_woken_and_sees_what_was_synced() {
    loom::model(|| {
        let (origin, disk) = (ConnectionOrigin::new(ProducerIdentity::without_secret("p")), synced(0));
        let writer = thread::spawn({
            let (origin, disk) = (Arc::clone(&origin), Arc::clone(&disk));
            move || {
                for count in 1..=2 {
                    disk.store(count, Ordering::Relaxed);
                    origin.advance(1);
                }
            }
        });
        assert_eq!(block_on(origin.wait_durable(2)), Ok(()));
        assert_eq!(disk.load(Ordering::Relaxed), 2);
        writer.join().unwrap();
    });
}

#[test]
fn replies_leave_in_order_and_never_before_what_they_speak_for_is_synced() {
    loom::model(|| {
        let (origin, disk) = (ConnectionOrigin::new(ProducerIdentity::without_secret("p")), synced(0));
        let (sender, receiver) = mpsc::channel(4);
        for chunks in [1, 1, 2] {
            let reply = Reply {
                after_bundles: chunks,
                bytes: vec![chunks as u8],
                late: None,
                room: Room::default(),
                asks_for_news: false,
            };
            assert!(sender.try_send(reply).is_ok());
        }
        drop(sender);
        let writer = thread::spawn({
            let (origin, disk) = (Arc::clone(&origin), Arc::clone(&disk));
            move || {
                for count in 1..=2 {
                    disk.store(count, Ordering::Relaxed);
                    origin.advance(1);
                }
            }
        });
        let socket = Socket { synced: disk, received: Vec::new() };
        let (socket, closed) =
            block_on(replies(socket, origin, receiver, ReplyRoom::new(&Arc::<Rooms>::default()), News::none()));
        assert_eq!((socket.unwrap().received, closed), (vec![1, 1, 2], None));
        writer.join().unwrap();
    });
}

#[test]
fn an_end_reaches_whoever_waits_and_takes_back_nothing_that_is_durable() {
    loom::model(|| {
        let origin = ConnectionOrigin::new(ProducerIdentity::without_secret("p"));
        let writer = thread::spawn({
            let origin = Arc::clone(&origin);
            move || {
                origin.advance(1);
                origin.close(Closed::Fenced);
            }
        });
        assert_eq!(block_on(origin.wait_durable(1)), Ok(()));
        assert_eq!(block_on(origin.wait_durable(2)), Err(Closed::Fenced));
        assert_eq!(block_on(origin.wait_closed()), Closed::Fenced);
        writer.join().unwrap();
    });
}

#[test]
fn what_is_handed_over_while_the_writer_ends_is_stored_or_known_not_to_be() {
    loom::model(|| {
        let (sender, receiver) = channel(1);
        let origin = ConnectionOrigin::new(ProducerIdentity::without_secret("p"));
        let writer = thread::spawn(move || {
            let mut stored = 0;
            while let Some(submission) = receiver.try_recv() {
                submission.origin().advance(1);
                stored += 1;
            }
            drop(receiver);
            stored
        });
        let submitted = block_on(sender.submit(&origin, bundle()));
        let answered = match submitted {
            // The reply is written or refused. A wait for ever would be found by loom.
            Ok(()) => block_on(origin.wait_durable(1)),
            Err(closed) => Err(closed),
        };
        assert_eq!(answered.is_ok(), writer.join().unwrap() == 1);
    });
}

#[test]
fn the_drain_stores_all_that_was_handed_over_before_the_senders_went() {
    loom::model(|| {
        let (sender, receiver) = channel(1);
        let origin = ConnectionOrigin::new(ProducerIdentity::without_secret("p"));
        let connection = thread::spawn({
            let origin = Arc::clone(&origin);
            move || {
                let submitted = block_on(sender.submit(&origin, bundle()));
                drop(sender);
                submitted
            }
        });
        // The writer's loop: until every sender is gone.
        loop {
            match receiver.recv(std::time::Duration::ZERO) {
                Ok(submission) => submission.origin().advance(1),
                Err(true) => break,
                Err(false) => thread::yield_now(),
            }
        }
        assert_eq!(connection.join().unwrap(), Ok(()));
        assert_eq!(origin.durable(), 1);
    });
}
