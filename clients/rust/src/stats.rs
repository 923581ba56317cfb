//! The recorder's counters, and the state that its two sides share.

use std::fmt;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering, fence};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use tallyd_protocol::budgets::BELIEVED;
use tallyd_protocol::{Checker, Record};

use crate::queue::Queue;

/// A snapshot of the counters, in records unless stated otherwise. Each is exact, but they are read one after the other,
/// so under load they may be a few records apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    /// Taken by `record()`.
    pub recorded: u64,
    /// Not kept: the ring was full, or the recorder was closed before the sender could take them.
    pub dropped: u64,
    /// Durable in the daemon.
    pub acked: u64,
    /// Refused by the daemon, or too large for any frame.
    pub rejected: u64,
    /// Recorded and not settled yet.
    pub in_flight: u64,
    /// Delivered from the spools of processes that had ended. None of the other counts has them.
    pub recovered: u64,
    /// Connections made after the first.
    pub reconnects: u64,
    /// How often another connection has taken over this producer. Above 0: a copy of this process has its secret.
    pub fenced: u64,
    /// Whether the daemon is connected.
    pub connected: bool,
    /// Why the last connection failed or ended.
    pub last_error: Option<String>,
    /// The daemon's last warning, such as `name_in_use`: another process uses this producer's name. It costs no record.
    pub last_warning: Option<String>,
}

/// The result of [`crate::Recorder::flush`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum FlushOutcome {
    /// Every earlier record is on disk in the daemon, or was refused and reported.
    Settled,
    /// The deadline passed first. The number of records not settled at that moment, including those recorded since the
    /// call.
    Outstanding(u64),
}

/// A refused record. It is not sent again, because unchanged it would be refused again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The record's id, given or filled in.
    pub id: Option<[u8; 16]>,
    /// Its sequence number; 0 if it was refused before it had one.
    pub seq: u64,
    /// A stable name for the reason, as listed in the protocol's specification.
    pub code: String,
    /// The problem, and the accepted values.
    pub message: String,
    /// The field at fault, if it is a single one.
    pub field: Option<String>,
}

/// Gets records that are not kept. Runs on the recording thread, at the end on the sender's.
pub type OnDrop = Box<dyn Fn(Record) + Send + Sync>;
/// Gets refused records. Runs on the sender thread.
pub type OnReject = Box<dyn Fn(Rejected) + Send + Sync>;

/// State of the recorder and its sender.
pub struct Shared {
    pub queue: Queue,
    pub dropped: AtomicU64,
    pub acked: AtomicU64,
    pub rejected: AtomicU64,
    pub recovered: AtomicU64,
    pub reconnects: AtomicU64,
    pub fenced: AtomicU64,
    pub connected: AtomicBool,
    pub standing: Standing,
    /// The number of requested flushes.
    pub flushes: AtomicU64,
    /// Threads that wait for room in the ring.
    roomless: AtomicU64,
    pub on_drop: Option<OnDrop>,
    pub on_reject: Option<OnReject>,
    pub notices: Notices,
    control: Mutex<Control>,
    changed: Condvar,
}

/// The rare part of the shared state: flushes, the end, and errors. `record()` never touches it.
#[derive(Default)]
pub struct Control {
    /// Whether a daemon has answered.
    pub welcomed: bool,
    /// The number of finished flushes.
    pub flushed: u64,
    /// The time by which the sender has to end, once it was asked to.
    pub stop_at: Option<Instant>,
    /// The number of records that the sender left, once it has ended.
    pub left: Option<u64>,
    /// Whether spools of earlier processes are being delivered.
    pub recovering: bool,
    pub last_error: Option<String>,
    pub last_warning: Option<String>,
}

impl Shared {
    pub fn new(queue: Queue, on_drop: Option<OnDrop>, on_reject: Option<OnReject>, quiet: bool) -> Self {
        Self {
            queue,
            dropped: AtomicU64::new(0),
            acked: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            recovered: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            fenced: AtomicU64::new(0),
            connected: AtomicBool::new(false),
            standing: Standing::default(),
            flushes: AtomicU64::new(0),
            roomless: AtomicU64::new(0),
            on_drop,
            on_reject,
            notices: Notices::new(quiet),
            control: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Ignores poisoning, because no code that can panic runs under the lock.
    pub fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the rare state and wakes the threads that wait for it.
    pub fn update(&self, change: impl FnOnce(&mut Control)) {
        change(&mut self.control());
        self.changed.notify_all();
    }

    /// Waits until `done` or the deadline. Returns whether it is done.
    pub fn wait_until(&self, deadline: Instant, done: impl Fn(&Control) -> bool) -> bool {
        let mut control = self.control();
        while !done(&control) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            control = self.changed.wait_timeout(control, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Waits until the ring has room, or the deadline. Returns whether it has room.
    pub fn wait_for_room(&self, deadline: Instant) -> bool {
        self.roomless.fetch_add(1, Ordering::Relaxed);
        // Either this thread sees the sender's next pop, or the sender sees this thread (`took`).
        fence(Ordering::SeqCst);
        let found = self.wait_until(deadline, |control| self.queue.has_room() || control.left.is_some());
        self.roomless.fetch_sub(1, Ordering::Relaxed);
        found && self.queue.has_room()
    }

    /// Called after the sender has taken records: wakes threads that wait for room.
    pub fn took(&self) {
        fence(Ordering::SeqCst);
        if self.roomless.load(Ordering::Relaxed) > 0 && self.queue.has_room() {
            self.update(|_| ());
        }
    }

    /// Counts a record that is not kept, and gives it to the callback. Catches a panic of the callback.
    pub fn drop_record(&self, record: Record) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        if let Some(on_drop) = &self.on_drop {
            let _ = catch_unwind(AssertUnwindSafe(|| on_drop(record)));
        } else {
            let why =
                "the ring or the spool is full, because the daemon is away or too slow, or the recorder was closed";
            self.notices
                .tell(Notice::Dropped, format_args!("a record was not kept: {why}. Stats::dropped counts them"));
        }
    }

    /// Counts a refused record, and reports it.
    pub fn reject(&self, rejected: Rejected) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
        self.report(rejected);
    }

    /// Reports a refused record. Catches a panic of the callback.
    pub fn report(&self, rejected: Rejected) {
        if let Some(on_reject) = &self.on_reject {
            let _ = catch_unwind(AssertUnwindSafe(|| on_reject(rejected)));
        } else {
            let Rejected { code, message, .. } = rejected;
            let counted = "Stats::rejected counts them";
            self.notices.tell(Notice::Refused, format_args!("a record was refused: {code}: {message}. {counted}"));
        }
    }

    /// Records accepted and not settled.
    pub fn in_flight(&self) -> u64 {
        let settled = self.acked.load(Ordering::Acquire) + self.rejected.load(Ordering::Acquire);
        self.queue.pushed().saturating_sub(settled)
    }

    pub fn stats(&self) -> Stats {
        let (last_error, last_warning) = {
            let control = self.control();
            (control.last_error.clone(), control.last_warning.clone())
        };
        Stats {
            in_flight: self.in_flight(),
            recorded: self.queue.pushed(),
            dropped: self.dropped.load(Ordering::Relaxed),
            acked: self.acked.load(Ordering::Relaxed),
            rejected: self.rejected.load(Ordering::Relaxed),
            recovered: self.recovered.load(Ordering::Relaxed),
            reconnects: self.reconnects.load(Ordering::Relaxed),
            fenced: self.fenced.load(Ordering::Relaxed),
            connected: self.connected.load(Ordering::Relaxed),
            last_error,
            last_warning,
        }
    }
}

/// A kind of notice, one bit each.
#[derive(Clone, Copy)]
#[repr(u8)]
pub enum Notice {
    Dropped = 1,
    Refused = 2,
    Away = 4,
    Warned = 8,
    Lost = 16,
    Spool = 32,
}

/// The kinds of notices that were written already. The first of each kind goes to standard error, so that neither losses
/// nor an absent daemon stay unseen.
pub struct Notices(AtomicU8);

impl Notices {
    /// `quiet`: writes nothing.
    pub fn new(quiet: bool) -> Self {
        Self(AtomicU8::new(if quiet { u8::MAX } else { 0 }))
    }

    /// Writes the first notice of its kind.
    pub fn tell(&self, kind: Notice, message: fmt::Arguments<'_>) {
        let bit = kind as u8;
        if self.0.load(Ordering::Relaxed) & bit == 0 && self.0.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            // A failed write cannot be reported anywhere. `eprintln` would panic.
            let _ = writeln!(io::stderr(), "tallyd: {message}");
        }
    }
}

/// The state of budgets by the daemon's last message. Read before each call: a lock that is nearly never held, and a few
/// lookups.
///
/// A message counts for [`BELIEVED`], five of the intervals at which the daemon repeats it. After that the state is unknown.
#[derive(Debug, Default)]
pub struct Standing(RwLock<Option<Heard>>);

#[derive(Debug)]
struct Heard {
    at: Instant,
    checker: Checker,
}

impl Standing {
    /// Takes the daemon's message.
    pub fn hear(&self, checker: Checker, now: Instant) {
        let heard = Some(Heard { at: now, checker });
        // The former message is freed outside the lock.
        let before = std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), heard);
        drop(before);
    }

    /// Asks the last message. None without one, or if it is too old.
    pub fn ask<T>(&self, now: Instant, ask: impl FnOnce(&Checker) -> T) -> Option<T> {
        let heard = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let heard = heard.as_ref().filter(|heard| now.saturating_duration_since(heard.at) < BELIEVED);
        heard.map(|heard| ask(&heard.checker))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_message_counts_for_a_bounded_time() {
        let (standing, start) = (Standing::default(), Instant::now());
        let asks = |now| standing.ask(now, Checker::everything);
        let checker = |everything| Checker::new(everything, [], []);
        assert_eq!(asks(start), None, "no message has come");
        standing.hear(checker(true), start);
        let last = start + BELIEVED - Duration::from_nanos(1);
        assert_eq!((asks(start), asks(last)), (Some(true), Some(true)));
        assert_eq!(asks(start + BELIEVED), None, "the daemon may be gone");
        standing.hear(checker(true), last);
        assert_eq!(asks(start + BELIEVED), Some(true), "it has said it again");
        standing.hear(checker(false), last);
        assert_eq!(asks(last), Some(false));
    }
}
