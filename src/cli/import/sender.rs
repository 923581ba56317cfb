//! Sends rows as a producer of its own, with a window of frames under way, and resumes where the daemon left off.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::bail;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tallyd_client::{Endpoint, HelloOptions, Record, Session, SessionError};

use super::super::output;
use super::reader::Row;

/// Records of one frame.
const FRAME_RECORDS: usize = 500;
/// Frames under way.
const WINDOW: usize = 16;
/// Refused rows that are shown one by one.
const SHOWN: u64 = 20;
/// How long the first connection may take.
const FIRST_PATIENCE: Duration = Duration::from_secs(3);
/// The pause between attempts to reach the daemon.
const RETRY: Duration = Duration::from_millis(200);

/// What became of the file.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    /// Rows of the file.
    pub rows: u64,
    /// Rows that this run recorded.
    pub recorded: u64,
    /// Rows that an earlier run had settled.
    pub skipped: u64,
    /// Rows that cannot be read, or that the daemon refused.
    pub refused: u64,
    /// The producer's name, which stands for the file's content and how it was read.
    pub producer: String,
    /// How long it took.
    pub seconds: f64,
}

/// A bar on a terminal, nothing elsewhere.
pub struct Progress(ProgressBar);

impl Progress {
    /// Shows progress through a file of so many bytes.
    pub fn new(bytes: u64) -> Self {
        let target =
            if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(bytes), target);
        let style = ProgressStyle::with_template("{bar:40} {percent:>3} %  {msg}  {elapsed} elapsed, {eta} to go");
        // The template is a constant.
        bar.set_style(style.expect("the template is right"));
        Self(bar)
    }

    fn show(&self, bytes: u64, settled: u64) {
        self.0.set_position(bytes);
        self.0.set_message(format!("{} rows on disk", output::count(settled)));
    }
}

/// A frame, kept until it is acknowledged.
struct Frame {
    first_seq: u64,
    records: Vec<Record>,
}

impl Frame {
    fn last_seq(&self) -> u64 {
        self.first_seq + self.records.len() as u64 - 1
    }
}

/// The sending side of an import.
pub struct Sender {
    socket: PathBuf,
    patience: Duration,
    session: Option<Session>,
    /// What the daemon had before this run.
    settled_before: u64,
    filling: Frame,
    under_way: VecDeque<Frame>,
    summary: Summary,
    progress: Progress,
}

impl Sender {
    /// A sender that waits up to `patience` for a daemon that has gone away.
    pub fn new(socket: PathBuf, producer: String, patience: Duration, progress: Progress) -> Self {
        Self {
            socket,
            patience,
            session: None,
            settled_before: 0,
            filling: Frame { first_seq: 0, records: Vec::new() },
            under_way: VecDeque::new(),
            summary: Summary { producer, ..Summary::default() },
            progress,
        }
    }

    /// Connects for the first time. A daemon that is just starting is waited for, a wrong path is told soon.
    pub fn connect(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + self.patience.min(FIRST_PATIENCE);
        let session = loop {
            match self.open() {
                Ok(session) => break session,
                Err(error) if Instant::now() >= deadline => {
                    let socket = self.socket.display();
                    bail!("no daemon takes records on {socket}: {error}; start one with `tallyd serve`");
                }
                Err(_) => std::thread::sleep(RETRY),
            }
        };
        self.settled_before = session.last_seq();
        self.session = Some(session);
        Ok(())
    }

    /// Takes a row.
    pub fn push(&mut self, row: Row, bytes_read: u64) -> anyhow::Result<()> {
        self.summary.rows += 1;
        if row.number <= self.settled_before {
            self.summary.skipped += 1;
            return Ok(());
        }
        let mut record = match row.record {
            Ok(record) => record,
            Err(error) => {
                self.refuse(row.number, &error.to_string());
                // Its number stays unused, so the next row begins a frame.
                return self.send_filling(bytes_read);
            }
        };
        if self.filling.records.is_empty() {
            self.filling.first_seq = row.number;
        }
        record.id = record.id.or_else(|| Some(id(&self.summary.producer, row.number)));
        self.filling.records.push(record);
        if self.filling.records.len() >= FRAME_RECORDS { self.send_filling(bytes_read) } else { Ok(()) }
    }

    /// Sends what is left, and waits until everything is settled.
    pub fn finish(mut self) -> anyhow::Result<Summary> {
        self.send_filling(0)?;
        while !self.under_way.is_empty() {
            self.await_ack()?;
        }
        self.progress.0.finish_and_clear();
        if self.summary.refused > SHOWN {
            eprintln!("… and {} more refused rows", output::count(self.summary.refused - SHOWN));
        }
        Ok(self.summary)
    }

    fn send_filling(&mut self, bytes_read: u64) -> anyhow::Result<()> {
        if self.filling.records.is_empty() {
            return Ok(());
        }
        let next = Frame { first_seq: 0, records: Vec::with_capacity(FRAME_RECORDS) };
        let frame = std::mem::replace(&mut self.filling, next);
        while self.under_way.len() >= WINDOW {
            self.await_ack()?;
        }
        self.under_way.push_back(frame);
        let sent = match (&mut self.session, self.under_way.back()) {
            (Some(session), Some(frame)) => session.send(frame.first_seq, &frame.records),
            _ => Ok(()),
        };
        if let Err(error) = sent {
            self.resume(error)?;
        }
        self.progress.show(bytes_read, self.summary.recorded);
        Ok(())
    }

    fn await_ack(&mut self) -> anyhow::Result<()> {
        let Some(session) = &mut self.session else { bail!("the import lost its connection") };
        match session.recv_ack() {
            Ok(ack) => {
                let rejected = ack.rejected.len() as u64;
                for rejection in ack.rejected {
                    let field = rejection.field.map_or_else(String::new, |field| format!("{field}: "));
                    self.refuse(rejection.seq, &format!("{field}{}", rejection.message));
                }
                self.settle(ack.seq);
                self.summary.recorded -= rejected.min(self.summary.recorded);
                Ok(())
            }
            Err(error) => self.resume(error),
        }
    }

    fn settle(&mut self, seq: u64) {
        while self.under_way.front().is_some_and(|frame| frame.last_seq() <= seq) {
            let settled = self.under_way.pop_front().map_or(0, |frame| frame.records.len());
            self.summary.recorded += settled as u64;
        }
    }

    /// Connects anew, forgets what the daemon has, and sends the rest again.
    fn resume(&mut self, error: SessionError) -> anyhow::Result<()> {
        let mut error = error;
        let deadline = Instant::now() + self.patience;
        loop {
            match &error {
                SessionError::Refused { code, message } if code != "shutting_down" => {
                    bail!("the daemon refused to go on: {message} ({code})")
                }
                SessionError::TooManyRecords { .. } | SessionError::TooLarge { .. } => {
                    bail!("the daemon's limits are too small for this import: {error}")
                }
                _ => {}
            }
            if Instant::now() >= deadline {
                output::hint("the same command resumes the import once the daemon is back");
                bail!("the daemon has been away for {} s: {error}", self.patience.as_secs());
            }
            match self.reconnect() {
                Ok(()) => return Ok(()),
                Err(again) => error = again,
            }
            std::thread::sleep(RETRY);
        }
    }

    fn reconnect(&mut self) -> Result<(), SessionError> {
        let mut session = self.open()?;
        self.settle(session.last_seq());
        for frame in &self.under_way {
            session.send(frame.first_seq, &frame.records)?;
        }
        self.session = Some(session);
        Ok(())
    }

    fn open(&self) -> Result<Session, SessionError> {
        Session::connect(&Endpoint::unix(&self.socket), HelloOptions::new(&self.summary.producer))
    }

    fn refuse(&mut self, row: u64, reason: &str) {
        self.summary.refused += 1;
        if self.summary.refused <= SHOWN {
            self.progress.0.suspend(|| eprintln!("row {row} was refused: {reason}"));
        }
    }
}

/// The same id for the same row of the same import: a version 8 UUID (RFC 9562).
fn id(producer: &str, row: u64) -> [u8; 16] {
    let digest = Sha256::new().chain_update(producer).chain_update(row.to_be_bytes()).finalize();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    id[6] = id[6] & 0x0f | 0x80;
    id[8] = id[8] & 0x3f | 0x80;
    id
}
