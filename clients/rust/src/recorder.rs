//! The recorder: the API of an application that records calls.

mod builder;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tallyd_protocol::check::Defaults;
use tallyd_protocol::{CallScope, Decision, Record};

pub use self::builder::Builder;
use crate::own::Own;
use crate::stats::{FlushOutcome, Shared, Stats};
use crate::{Endpoint, clock};

/// Records paid API calls. One for the whole process; share it behind an `Arc`.
pub struct Recorder {
    shared: Arc<Shared>,
    /// None if the system gave no thread, or the recorder is disabled.
    thread: Option<JoinHandle<()>>,
    /// Whether the recorder keeps nothing and opens nothing.
    is_disabled: bool,
    drop_deadline: Duration,
    own: Own,
    /// Whether calls are refused while the state of budgets is unknown.
    refuses_unknown: bool,
}

impl Recorder {
    /// Begins a recorder for the daemon at `endpoint`.
    pub fn builder(endpoint: Endpoint) -> Builder {
        Builder::new(endpoint)
    }

    /// Records one call, with the current time if it has no time. Returns whether it was taken. False means that the ring is
    /// full; the record was counted and given to the drop callback.
    ///
    /// Never blocks, never panics, allocates nothing and wakes no thread; the drop callback may do any of these. With a
    /// spool it encodes the record, for which a thread's first call allocates a buffer. Fields are not checked here: the
    /// daemon refuses an invalid record, and the reject callback gets it.
    #[inline]
    pub fn record(&self, mut record: Record) -> bool {
        if self.is_disabled {
            return true;
        }
        if record.occurred_at.is_none() {
            record.occurred_at = Some(clock::unix_us());
        }
        match self.shared.queue.push(record) {
            Ok(()) => true,
            Err(record) => {
                self.shared.drop_record(record);
                false
            }
        }
    }

    /// Waits until every earlier record is settled, or `deadline` has passed. Blocks.
    pub fn flush(&self, deadline: Duration) -> FlushOutcome {
        if self.is_disabled {
            return FlushOutcome::Settled;
        }
        let until = clock::after(deadline);
        let asked = self.shared.flushes.fetch_add(1, Ordering::AcqRel) + 1;
        self.wake();
        if self.shared.wait_until(until, |control| control.flushed >= asked) {
            FlushOutcome::Settled
        } else {
            FlushOutcome::Outstanding(self.shared.in_flight())
        }
    }

    /// Waits until the ring has room for a record, or `deadline` has passed. Returns whether it has room. Blocks. Call it
    /// before each record of a burst that is larger than the ring: then nothing is dropped, with up to 64 threads at a time.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use tallyd_client::{Endpoint, Record, Recorder};
    /// # let recorder = Recorder::builder(Endpoint::unix("/run/tallyd/tallyd.sock")).build();
    /// for _ in 0..1_000_000 {
    ///     if !recorder.room(Duration::from_secs(60)) {
    ///         eprintln!("the daemon takes nothing");
    ///     }
    ///     recorder.record(Record::rentcast("/avm/value"));
    /// }
    /// ```
    pub fn room(&self, deadline: Duration) -> bool {
        if self.shared.queue.has_room() {
            return true;
        }
        self.wake();
        self.thread.is_some() && self.shared.wait_for_room(clock::after(deadline))
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Whether budgets allow the call. Ask before the call is made. It is refused if a hard budget that it counts towards is
    /// used up, or has less left than [`CallScope::estimate`].
    ///
    /// Answers from the daemon's last message, without the network. Application and tags that the call does not state are
    /// the recorder's. Before the first message ([`Recorder::ready`]) and 5 minutes after the last one the state is unknown:
    /// then the call is allowed, or refused if [`Builder::deny_unknown`] says so. A disabled recorder allows
    /// every call.
    ///
    /// ```no_run
    /// # use tallyd_client::{BudgetExceeded, CallScope, Endpoint, Recorder};
    /// # let recorder = Recorder::builder(Endpoint::unix("/run/tallyd/tallyd.sock")).build();
    /// fn ask(recorder: &Recorder) -> Result<(), BudgetExceeded> {
    ///     let call = CallScope { provider: "claude", model: "claude-sonnet-5", ..CallScope::default() };
    ///     recorder.check(&CallScope { tags: &[("team", "search")], estimate: "0.05", ..call }).into_result()
    ///     // … the call itself
    /// }
    /// # let _ = ask(&recorder);
    /// ```
    pub fn check(&self, call: &CallScope<'_>) -> Decision {
        if self.is_disabled {
            return Decision::default();
        }
        let defaults = Defaults { app: &self.own.app, tags: &self.own.tags };
        let answer = self.shared.standing.ask(Instant::now(), |checker| checker.check(call, &defaults));
        answer.unwrap_or_else(|| Decision::unknown(!self.refuses_unknown))
    }

    /// Waits until the daemon has answered for the first time, or `deadline` has passed. Returns whether it has answered.
    /// Blocks. For programs that check a call at their start.
    pub fn ready(&self, deadline: Duration) -> bool {
        !self.is_disabled && self.shared.wait_until(clock::after(deadline), |control| control.welcomed)
    }

    /// Flushes within `deadline` and ends the sender. Records that are then outstanding are lost to this process, or wait in
    /// the spool for the next one. Those still in the ring go to the drop callback, which gets 200 ms more. Dropping the
    /// recorder does the same with the builder's deadline.
    pub fn close(mut self, deadline: Duration) -> FlushOutcome {
        self.stop(deadline)
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }

    fn stop(&mut self, deadline: Duration) -> FlushOutcome {
        let until = clock::after(deadline);
        self.shared.update(|control| control.stop_at = Some(until));
        self.wake();
        let Some(handle) = self.thread.take() else {
            return outcome(self.shared.in_flight());
        };
        // A recorder that is dropped by one of its own callbacks cannot wait for itself.
        let own = thread::current().id() == handle.thread().id();
        // The sender checks its deadline at least every 20 ms, unless a callback blocks it. Then it is left behind, and
        // ends by itself.
        let grace = until + Duration::from_millis(200);
        if own || !self.shared.wait_until(grace, |control| control.left.is_some()) {
            return outcome(self.shared.in_flight());
        }
        self.shared.wait_until(until, |control| !control.recovering);
        let left = self.shared.control().left.unwrap_or(0);
        // The thread has finished its work; the panic hook would have reported a panic.
        let _ = handle.join();
        outcome(left)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if self.thread.is_some() {
            let _ = self.stop(self.drop_deadline);
        }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

fn outcome(outstanding: u64) -> FlushOutcome {
    if outstanding == 0 { FlushOutcome::Settled } else { FlushOutcome::Outstanding(outstanding) }
}
