//! Sends rows as a producer of its own, with a window of frames under way. After a reconnect it resumes at the daemon's
//! last row.
//!
//! ```text
//! push(row) -> filling (one frame) -> window (sent, not settled) -> dropped once acknowledged
//!                                       ^ sent again after a reconnect, except rows that the welcome acknowledges
//! ```
//! * A frame is closed when it is full, in records or in bytes, and before a gap in the rows' numbers.
//! * An ack is waited for as long as the connection stands, because a daemon at its bound makes its clients wait. So is
//!   a write. The two cannot wait for each other: the daemon keeps more acks in memory (`listen.max_in_flight_frames`,
//!   64) than a window has.
//! * A lost connection is made anew until no row was settled for [`Target::wait`]. A handshake alone does not count, or
//!   an import would retry for ever with a daemon that dies of a frame.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use tallyd_client::{Ack, Endpoint, HelloOptions, Record, Session, SessionError, Welcome};

use super::error::{SendError, given_up, may_pass};
use super::snapshot::Snapshot;
use super::talk::Talk;

/// The most frames under way.
const WINDOW: usize = 16;
/// The longest wait for the first connection: enough for a daemon that is just starting, but short for a wrong path.
const FIRST_WAIT: Duration = Duration::from_secs(3);
/// The first pause between attempts to reach the daemon, and its bound as it doubles.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// After this time without an ack, the person is told the reason.
const SILENCE: Duration = Duration::from_secs(5);
/// Bytes of a frame beside its records.
const FRAME_HEAD_BYTES: usize = 64;

/// The receiver of the rows, and the settings for sending.
#[derive(Clone)]
pub(super) struct Target {
    /// The daemon's address.
    pub endpoint: Endpoint,
    pub producer: String,
    /// The producer's secret.
    pub secret: String,
    /// The longest time without a settled row before the import gives up a lost daemon.
    pub wait: Duration,
    /// The most records of a frame; the daemon may set a lower bound.
    pub batch: usize,
}

/// Consecutive rows, kept until they are acknowledged.
#[derive(Default)]
struct Frame {
    first_seq: u64,
    records: Vec<Record>,
    /// The file's line of each row.
    lines: Vec<u64>,
    bytes: usize,
}

impl Frame {
    fn last_seq(&self) -> u64 {
        self.first_seq + self.records.len() as u64 - 1
    }
}

pub(super) struct RowSender<'f> {
    target: Target,
    snapshot: &'f Snapshot,
    session: Session,
    /// The highest row that the daemon had before this run.
    before: u64,
    filling: Frame,
    window: VecDeque<Frame>,
    /// The highest settled row, and the number of rows that this run has settled.
    acknowledged: (u64, u64),
    /// Rows that the daemon refused, among those.
    rejected: Vec<u64>,
    duplicates: u64,
    /// Rows settled by a welcome. A refusal among them is not known.
    unheard: u64,
    last_success: Instant,
}

impl<'f> RowSender<'f> {
    /// Makes the first connection.
    ///
    /// # Errors
    /// [`SendError`].
    pub(super) fn connect(target: Target, snapshot: &'f Snapshot) -> Result<Self, SendError> {
        let session = first_session(&target)?;
        let before = session.last_seq();
        Ok(Self {
            target,
            snapshot,
            session,
            before,
            filling: Frame::default(),
            window: VecDeque::new(),
            acknowledged: (before, 0),
            rejected: Vec::new(),
            duplicates: 0,
            unheard: 0,
            last_success: Instant::now(),
        })
    }

    /// True if an earlier run has settled the row.
    pub(super) const fn has(&self, row: u64) -> bool {
        row <= self.before
    }

    /// Rows that this run has recorded so far.
    pub(super) const fn recorded(&self) -> u64 {
        self.acknowledged.1 - self.rejected.len() as u64 - self.duplicates
    }

    pub(super) fn rejected(&self) -> &[u64] {
        &self.rejected
    }

    /// Rows whose `id` was already recorded in another way.
    pub(super) const fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Rows whose refusal, if any, was lost with a connection.
    pub(super) const fn unheard(&self) -> u64 {
        self.unheard
    }

    /// Takes a row; sends a frame once it is full. Returns false if the row is too large for any frame.
    ///
    /// # Errors
    /// [`SendError`].
    pub(super) fn push(&mut self, number: u64, line: u64, record: Record, talk: &mut Talk) -> Result<bool, SendError> {
        let bytes = bytes_at_most(&record);
        let Welcome { max_frame_bytes, max_records, .. } = *self.session.welcome();
        let (max_bytes, max_records) = (max_frame_bytes as usize, self.target.batch.min(max_records as usize).max(1));
        if bytes + FRAME_HEAD_BYTES > max_bytes {
            return Ok(false);
        }
        let follows = self.filling.records.is_empty() || self.filling.last_seq() + 1 == number;
        if !follows || self.filling.bytes + bytes + FRAME_HEAD_BYTES > max_bytes {
            self.send_filling(talk)?;
        }
        if self.filling.records.is_empty() {
            self.filling.first_seq = number;
        }
        self.filling.records.push(record);
        self.filling.lines.push(line);
        self.filling.bytes += bytes;
        if self.filling.records.len() >= max_records {
            self.send_filling(talk)?;
        }
        Ok(true)
    }

    /// Sends the rest, and waits until every row is settled.
    ///
    /// # Errors
    /// [`SendError`].
    pub(super) fn finish(&mut self, talk: &mut Talk) -> Result<(), SendError> {
        self.send_filling(talk)?;
        while !self.window.is_empty() {
            self.await_ack(talk)?;
        }
        Ok(self.snapshot.check()?)
    }

    fn send_filling(&mut self, talk: &mut Talk) -> Result<(), SendError> {
        if self.filling.records.is_empty() {
            return Ok(());
        }
        while self.window.len() >= WINDOW {
            self.await_ack(talk)?;
        }
        self.snapshot.check()?;
        if self.window.is_empty() {
            // The time since the last ack was spent reading the file.
            self.last_success = Instant::now();
        }
        let frame = std::mem::take(&mut self.filling);
        let sent = self.session.send(frame.first_seq, &frame.records);
        self.window.push_back(frame);
        sent.or_else(|error| self.resume(error, talk))
    }

    fn await_ack(&mut self, talk: &mut Talk) -> Result<(), SendError> {
        let asked = Instant::now();
        let mut was_told = false;
        loop {
            match self.session.recv_ack() {
                Ok(ack) => {
                    self.take_ack(ack, talk);
                    return Ok(());
                }
                Err(SessionError::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if !was_told && asked.elapsed() >= SILENCE {
                        was_told = true;
                        talk.trouble("the daemon holds its clients back; the import waits, `tallyd status` tells why");
                    }
                }
                Err(error) => return self.resume(error, talk),
            }
        }
    }

    fn take_ack(&mut self, ack: Ack, talk: &mut Talk) {
        self.duplicates += ack.duplicates.len() as u64;
        for rejection in ack.rejected {
            self.rejected.push(rejection.seq);
            let line = self.line_of(rejection.seq);
            let field = rejection.field.map_or_else(String::new, |field| format!("{field}: "));
            talk.refused(rejection.seq, line, &format!("{field}{} ({})", rejection.message, rejection.code));
        }
        self.forget_acknowledged(ack.seq);
    }

    fn line_of(&self, row: u64) -> u64 {
        let frame = self.window.iter().find(|frame| (frame.first_seq..=frame.last_seq()).contains(&row));
        let line = frame.and_then(|frame| frame.lines.get(usize::try_from(row - frame.first_seq).ok()?));
        line.copied().unwrap_or(0)
    }

    /// Drops settled frames. Returns the number of their rows.
    fn forget_acknowledged(&mut self, seq: u64) -> u64 {
        let mut rows = 0;
        while self.window.front().is_some_and(|frame| frame.last_seq() <= seq) {
            let Some(frame) = self.window.pop_front() else { break };
            rows += frame.records.len() as u64;
            self.acknowledged.0 = frame.last_seq();
        }
        self.acknowledged.1 += rows;
        if rows > 0 {
            self.last_success = Instant::now();
        }
        rows
    }

    /// Connects anew, drops rows that the daemon has, and sends the rest again.
    fn resume(&mut self, mut error: SessionError, talk: &mut Talk) -> Result<(), SendError> {
        let mut pause = BACKOFF.0;
        if may_pass(&error) {
            talk.trouble(&format!("{error}; connecting again"));
        }
        while may_pass(&error) {
            let away = self.last_success.elapsed();
            if away + pause > self.target.wait {
                return Err(SendError::Lost { seconds: away.as_secs(), acknowledged: self.acknowledged.0, error });
            }
            back_off(&mut pause);
            match self.reconnect() {
                Ok(()) => return Ok(()),
                Err(again) => error = again,
            }
        }
        Err(given_up(error))
    }

    fn reconnect(&mut self) -> Result<(), SessionError> {
        let mut session = open(&self.target)?;
        self.unheard += self.forget_acknowledged(session.last_seq());
        for frame in &self.window {
            session.send(frame.first_seq, &frame.records)?;
        }
        self.session = session;
        Ok(())
    }
}

/// Connects, and waits a little for a daemon that is just starting.
///
/// # Errors
/// [`SendError`].
pub(super) fn first_session(target: &Target) -> Result<Session, SendError> {
    let started = Instant::now();
    let patience = target.wait.min(FIRST_WAIT);
    let mut pause = BACKOFF.0;
    loop {
        match open(target) {
            Ok(session) => return Ok(session),
            Err(error) if !may_pass(&error) => return Err(given_up(error)),
            Err(error) if started.elapsed() + pause > patience => return Err(SendError::NoDaemon(error)),
            Err(_) => back_off(&mut pause),
        }
    }
}

fn open(target: &Target) -> Result<Session, SessionError> {
    let options = HelloOptions { secret: target.secret.clone(), ..HelloOptions::new(&target.producer) };
    let session = Session::connect(&target.endpoint, options)?;
    session.set_write_timeout(None)?;
    session.set_read_timeout(Some(Duration::from_secs(1)))?;
    Ok(session)
}

fn back_off(pause: &mut Duration) {
    std::thread::sleep(*pause);
    *pause = (*pause * 2).min(BACKOFF.1);
}

/// An upper bound of the record's encoded bytes: its texts, and room for numbers and lengths.
fn bytes_at_most(record: &Record) -> usize {
    let mut bytes = 256 + 10 * (record.extra_units.len() + record.tags.len());
    record.each_text(|text| bytes += text.len());
    bytes
}
