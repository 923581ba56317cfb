//! The sender thread: takes records out of the ring, and gets them to the daemon.
//!
//! One loop, whose only blocking call is a bounded nap. Each turn: ring → window, window → socket, acks → counters, then
//! flushes and the end. The nap doubles from 0.5 ms to 20 ms while nothing happens, so producers do not have to wake the
//! thread; `flush` and the end do.
//!
//! The window is bounded in bytes and frames. At its bound the sender leaves the ring alone. The ring then fills up, and
//! `record()` returns false: memory does not grow with the daemon's absence.

mod link;
mod window;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use tallyd_protocol::record::id_of;
use tallyd_protocol::{Ack, Checker, Warning, limits};

use self::link::{Connection, Exchange, Link};
use self::window::{HEAD_BYTES, Window};
use crate::clock;
use crate::endpoint::Endpoint;
use crate::own::Own;
use crate::queue::Queue;
use crate::ring::Ring;
use crate::rng::Rng;
use crate::session::{HelloOptions, Session, SessionError};
use crate::spool::Spool;
use crate::stats::{Notice, Rejected, Shared};

const NAP_MIN: Duration = Duration::from_micros(500);
const NAP_MAX: Duration = Duration::from_millis(20);
/// Records taken from the ring before it is the socket's turn.
const INTAKE: usize = 4096;
/// The smallest frame bound that a daemon may state: a record with every text at its bound needs more.
const FRAME_BYTES_MIN: u32 = 1024;
/// The error code for a connection whose producer was taken over by another one.
const FENCED: &str = "fenced";

/// The sender's settings.
pub struct Settings {
    pub endpoint: Endpoint,
    pub hello: HelloOptions,
    pub own: Own,
    pub window_bytes: usize,
    pub window_frames: usize,
    pub backoff_min: Duration,
    pub backoff_max: Duration,
    pub fenced_backoff: Duration,
    pub ack_timeout: Duration,
}

/// The sender. See the module.
pub struct Sender {
    shared: Arc<Shared>,
    settings: Settings,
    rng: Rng,
    window: Window,
    link: Link,
    /// Failed or ended connections since the last ack.
    failures: u32,
    connected_before: bool,
    /// Whether the daemon sends the state of all budgets. If not, its acks have a part of it.
    is_told: bool,
    fenced: bool,
    /// A waiting flush: the number of requested flushes, and the ring position that settles them.
    flush: Option<(u64, u64)>,
    flushes_seen: u64,
}

/// Reports the sender's end, also after a panic.
struct Gone(Arc<Shared>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.connected.store(false, Ordering::Relaxed);
        let left = self.0.in_flight();
        if left > 0 {
            let (records, are) = if left == 1 { ("record was", "is") } else { ("records were", "are") };
            let message = match &self.0.queue {
                Queue::Memory(_) => format!("and {are} lost"),
                Queue::File(spool) => format!("and {are} in {} for the next start", spool.folder().display()),
            };
            let message = format_args!("{left} {records} not delivered before the end of the recorder, {message}");
            self.0.notices.tell(Notice::Lost, message);
        }
        self.0.update(|control| control.left = Some(left));
    }
}

impl Sender {
    pub fn new(shared: Arc<Shared>, settings: Settings, rng: Rng) -> Self {
        let window = Window::new(settings.window_bytes, settings.window_frames);
        Self {
            shared,
            settings,
            rng,
            window,
            link: Link::Down(Instant::now()),
            failures: 0,
            connected_before: false,
            is_told: false,
            fenced: false,
            flush: None,
            flushes_seen: 0,
        }
    }

    /// The thread's body. Returns when it was asked to stop and either everything is settled or its time is up.
    pub fn run(mut self) {
        let gone = Gone(Arc::clone(&self.shared));
        let mut nap = NAP_MIN;
        let mut stopping = false;
        loop {
            let took = self.take_in();
            let moved = self.drive();
            self.settle_spool();
            let asked = self.settle_flushes();
            let stop_at = self.shared.control().stop_at;
            if let Some(stop_at) = stop_at {
                let done = self.window.records() == 0 && self.shared.queue.is_empty();
                if done || Instant::now() >= stop_at {
                    break;
                }
                self.hurry(!stopping);
                stopping = true;
            }
            self.hurry(asked);
            if took || moved {
                nap = NAP_MIN;
                continue;
            }
            thread::park_timeout(nap);
            nap = (nap * 2).min(NAP_MAX);
        }
        match &self.shared.queue {
            Queue::Memory(ring) => std::iter::from_fn(|| ring.pop()).for_each(|record| self.shared.drop_record(record)),
            Queue::File(spool) if self.window.records() == 0 && self.shared.queue.is_empty() => spool.remove(),
            Queue::File(_) => {}
        }
        drop(gone);
    }

    /// Ring → window. Returns whether there was a record.
    fn take_in(&mut self) -> bool {
        let max = match &self.link {
            Link::Up(connection) => connection.max_frame_bytes,
            _ => limits::FRAME_BYTES,
        };
        let shared = Arc::clone(&self.shared);
        let mut took = 0;
        while took < INTAKE && self.window.has_room() {
            let is_taken = match &shared.queue {
                Queue::Memory(ring) => self.take_from_ring(ring, max),
                Queue::File(spool) => self.take_from_spool(spool, max),
            };
            if !is_taken {
                break;
            }
            took += 1;
        }
        if took > 0 {
            self.shared.took();
        }
        took > 0
    }

    fn take_from_ring(&mut self, ring: &Ring, max: usize) -> bool {
        let Some(mut record) = ring.pop() else { return false };
        self.settings.own.complete(&mut record, &mut self.rng);
        if let Err(bytes) = self.window.add(&record, ring.popped() - 1, max) {
            self.refuse_oversized(0, record.id, &format!("the record is {bytes} bytes, a frame holds {max}"));
        }
        true
    }

    /// The record was completed and encoded by `record()`.
    fn take_from_spool(&mut self, spool: &Spool, max: usize) -> bool {
        let Some((seq, record)) = spool.next() else { return false };
        if record.len() + HEAD_BYTES > max {
            let what = format!("the record is {} bytes, a frame holds {max}", record.len());
            self.refuse_oversized(seq, id_of(record), &what);
        } else {
            self.window.add_numbered(record, seq);
        }
        true
    }

    /// Gives the room of settled records in the spool away.
    fn settle_spool(&self) {
        if let Queue::File(spool) = &self.shared.queue {
            spool.settle(self.window.position().unwrap_or_else(|| spool.taken()));
        }
    }

    /// Advances the link. Returns whether anything happened.
    fn drive(&mut self) -> bool {
        match &mut self.link {
            Link::Down(due) if Instant::now() < *due => false,
            Link::Down(_) => {
                let (endpoint, hello) = (&self.settings.endpoint, self.settings.hello.clone());
                match Link::connect(endpoint, hello, thread::current()) {
                    Ok(link) => self.link = link,
                    Err(error) => self.down(&error.into()),
                }
                false
            }
            Link::Connecting(receiver) => match link::outcome(receiver) {
                None => false,
                Some(Ok(session)) => {
                    self.up(session);
                    true
                }
                Some(Err(error)) => {
                    self.down(&error);
                    false
                }
            },
            Link::Up(connection) => {
                let mut got = Exchange::default();
                let result = connection.exchange(&mut self.window, &mut got);
                let moved = got.moved;
                if let Err(error) = self.digest(got).and(result) {
                    self.down(&error);
                }
                moved
            }
        }
    }

    fn up(&mut self, session: Session) {
        let welcome = session.welcome();
        // A number without successors, or frames without room for a record, would cost records.
        if welcome.last_seq > u64::MAX / 2 || welcome.max_records == 0 || welcome.max_frame_bytes < FRAME_BYTES_MIN {
            return self.down(&SessionError::Protocol(format!("an impossible welcome: {welcome:?}")));
        }
        self.warned(session.welcome().warning.as_ref());
        let budgets = session.welcome().budgets.clone();
        self.is_told = budgets.is_some();
        if let Some(budgets) = budgets {
            self.shared.standing.hear(budgets.into(), Instant::now());
        }
        self.shared.update(|control| control.welcomed = true);
        let settled = self.window.welcome(session.last_seq());
        self.shared.acked.fetch_add(settled, Ordering::Release);
        match Connection::new(session, self.settings.ack_timeout) {
            Ok(connection) => self.link = Link::Up(Box::new(connection)),
            Err(error) => return self.down(&error.into()),
        }
        if std::mem::replace(&mut self.connected_before, true) {
            self.shared.reconnects.fetch_add(1, Ordering::Relaxed);
        }
        self.fenced = false;
        self.shared.connected.store(true, Ordering::Relaxed);
    }

    /// Ends the link and sets the time of the next attempt: exponentially later, with jitter, so that many clients do not
    /// reconnect at one moment. A fenced producer waits long, because it would fence off the other one in turn.
    fn down(&mut self, error: &SessionError) {
        self.shared.connected.store(false, Ordering::Relaxed);
        self.window.disconnected();
        self.fenced = matches!(error, SessionError::Refused { code, .. } if code == FENCED);
        let delay = if self.fenced {
            self.shared.fenced.fetch_add(1, Ordering::Relaxed);
            self.settings.fenced_backoff
        } else {
            let factor = 1u32.checked_shl(self.failures).unwrap_or(u32::MAX);
            self.settings.backoff_min.saturating_mul(factor).min(self.settings.backoff_max)
        };
        self.failures = self.failures.saturating_add(1);
        let half = delay / 2;
        let jitter = self.rng.below(u64::try_from(half.as_nanos()).unwrap_or(u64::MAX));
        self.link = Link::Down(clock::after(half + Duration::from_nanos(jitter)));
        let text = error.to_string();
        let endpoint = &self.settings.endpoint;
        self.shared.notices.tell(Notice::Away, format_args!("no connection to {endpoint}, records wait: {text}"));
        self.shared.update(|control| control.last_error = Some(text));
    }

    /// A caller waits: connects now, unless another process has taken over the producer.
    fn hurry(&mut self, asked: bool) {
        if let Link::Down(due) = &mut self.link
            && asked
            && !self.fenced
        {
            *due = Instant::now();
        }
    }

    /// Counts the settled records of an exchange.
    fn digest(&mut self, got: Exchange) -> Result<(), SessionError> {
        for record in got.oversized {
            self.refuse_oversized(record.seq, record.id, "the record is larger than the daemon's frames");
        }
        if let Some(budgets) = got.budgets {
            self.failures = 0;
            self.shared.standing.hear(budgets.into(), Instant::now());
        }
        got.acks.into_iter().try_for_each(|ack| self.acknowledged(ack))
    }

    fn acknowledged(&mut self, ack: Ack) -> Result<(), SessionError> {
        if !self.window.knows(ack.seq) {
            return Err(SessionError::Protocol(format!("an ack for {}, which was never sent", ack.seq)));
        }
        self.failures = 0;
        self.warned(ack.warning.as_ref());
        if let Some(budget) = ack.budget.filter(|_| !self.is_told) {
            self.shared.standing.hear(Checker::new(budget.should_throttle, [], []), Instant::now());
        }
        // An ack can refuse only records that it settles, each once. A broken daemon's other entries are ignored.
        let mut refused = Vec::new();
        let mut last = 0;
        for rejection in ack.rejected {
            if rejection.seq > last && rejection.seq <= ack.seq && self.window.id(rejection.seq).is_some() {
                last = rejection.seq;
                let id = self.window.id(rejection.seq);
                let (seq, code, message) = (rejection.seq, rejection.code, rejection.message);
                refused.push(Rejected { id, seq, code, message, field: rejection.field });
            }
        }
        let settled = self.window.settle(ack.seq).saturating_sub(refused.len() as u64);
        self.shared.acked.fetch_add(settled, Ordering::Release);
        refused.into_iter().for_each(|rejected| self.shared.reject(rejected));
        Ok(())
    }

    /// Keeps the daemon's warning for `Stats`, and reports the first one.
    fn warned(&self, warning: Option<&Warning>) {
        if let Some(Warning { code, message }) = warning {
            self.shared.notices.tell(Notice::Warned, format_args!("{code}: {message}"));
            self.shared.update(|control| control.last_warning = Some(format!("{code}: {message}")));
        }
    }

    fn refuse_oversized(&self, seq: u64, id: Option<[u8; 16]>, what: &str) {
        let message = format!("{what}: shorten its texts or its metadata");
        self.shared.reject(Rejected { id, seq, code: "too_long".to_owned(), message, field: None });
    }

    /// Notes new flushes, and ends those whose records are settled. Returns whether there were new ones.
    fn settle_flushes(&mut self) -> bool {
        let asked = self.shared.flushes.load(Ordering::Acquire);
        let new = asked != self.flushes_seen;
        if new {
            self.flushes_seen = asked;
            self.flush = Some((asked, self.shared.queue.barrier()));
        }
        let settled = self.window.position().unwrap_or_else(|| self.shared.queue.popped());
        if let Some((asked, barrier)) = self.flush
            && settled >= barrier
        {
            self.flush = None;
            self.shared.update(|control| control.flushed = asked);
        }
        new
    }
}
