//! The thread that delivers the spools of processes that have ended, this application's earlier ones or its neighbours'.
//!
//! Each file is sent under its own producer and numbers, so the daemon skips the records that it has. A file is deleted once
//! all its records are settled. If the daemon is away, the files' locks are released in the pause before the next attempt,
//! so that any process can deliver them. Later the folder is looked at once a minute, for processes that ended since.
//!
//! A file that cannot be read, or whose producer the daemon refuses, stays, and does not keep the others from being
//! delivered. The recorder's end does not wait for it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use tallyd_protocol::AckMode;

use super::folder;
use super::format::{self, Entry, Head};
use crate::endpoint::Endpoint;
use crate::session::{HelloOptions, Session, SessionError};
use crate::stats::{Notice, Rejected, Shared};

/// The pause after the first failed attempt, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// The time between two looks at the folder.
const INTERVAL: Duration = Duration::from_secs(60);
/// Bounds of a frame: those of the sender.
const FRAME: (usize, usize) = (1024, 64 * 1024);
/// A bound of the bytes around a frame's records.
const FRAME_HEAD: usize = 48;

/// The thread's state. See the module.
pub struct Drain {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    ack: AckMode,
    folder: PathBuf,
}

/// Says that nothing is being delivered, also after a panic.
struct Gone(Arc<Shared>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.update(|control| control.recovering = false);
    }
}

impl Drain {
    /// Starts the thread. If the system does not give one, the files stay for the next start.
    pub fn start(shared: &Arc<Shared>, endpoint: Endpoint, ack: AckMode, folder: &Path) {
        let drain = Self { shared: Arc::clone(shared), endpoint, ack, folder: folder.to_owned() };
        shared.update(|control| control.recovering = true);
        let gone = Gone(Arc::clone(shared));
        // Without a thread the closure is dropped, and `gone` with it.
        let started = thread::Builder::new().name("tallyd-spool".to_owned()).spawn(move || {
            drain.run();
            drop(gone);
        });
        if let Err(error) = started {
            shared.update(|control| control.last_error = Some(format!("no thread delivers earlier spools: {error}")));
        }
    }

    fn run(&self) {
        let (mut failures, mut is_refused) = (0, false);
        loop {
            let wait = match self.pass() {
                Ok(()) => {
                    failures = 0;
                    self.shared.update(|control| control.recovering = false);
                    INTERVAL
                }
                Err(error) => {
                    let text = format!("records of an earlier process wait in {}: {error}", self.folder.display());
                    is_refused = matches!(error, SessionError::Refused { .. });
                    self.shared.update(|control| {
                        control.last_error = Some(text);
                        control.recovering &= !is_refused;
                    });
                    failures += 1;
                    BACKOFF.0.saturating_mul(1 << u32::min(failures, 16)).min(BACKOFF.1)
                }
            };
            let stop_at = self.shared.control().stop_at;
            if let Some(stop_at) = stop_at {
                if failures == 0 || is_refused || Instant::now() >= stop_at {
                    return;
                }
                thread::sleep(BACKOFF.0);
                continue;
            }
            self.shared.wait_until(Instant::now() + wait, |control| control.stop_at.is_some());
        }
    }

    /// Delivers every file that has lost its process. A refusal is returned after all files had their turn; any other error
    /// of a connection at once, because it concerns all of them.
    fn pass(&self) -> Result<(), SessionError> {
        let mut refusal = None;
        for path in folder::files(&self.folder)? {
            let orphan = match folder::adopt(path.clone()) {
                Ok(Some(orphan)) => orphan,
                Ok(None) => continue,
                Err(error) => {
                    self.complain(&path, &error);
                    continue;
                }
            };
            match format::read(orphan.bytes()) {
                Ok((head, entries)) => match self.empty(head, &entries) {
                    Ok(()) => orphan.remove()?,
                    Err(refused @ SessionError::Refused { .. }) => refusal = Some(refused),
                    Err(error) => return Err(error),
                },
                Err(why) => self.complain(&path, &why),
            }
        }
        refusal.map_or(Ok(()), Err)
    }

    fn complain(&self, path: &Path, why: &dyn fmt::Display) {
        let text = format!("{} is left as it is: {why}", path.display());
        self.shared.notices.tell(Notice::Spool, format_args!("{text}"));
        self.shared.update(|control| control.last_error = Some(text));
    }

    /// Delivers all entries of a file.
    fn empty(&self, head: Head, entries: &[Entry<'_>]) -> Result<(), SessionError> {
        if entries.is_empty() {
            return Ok(());
        }
        self.shared.update(|control| control.recovering = true);
        let (secret, ack) = (head.secret, self.ack);
        self.deliver(HelloOptions { secret, ack, ..HelloOptions::new(head.producer) }, entries)
    }

    fn deliver(&self, hello: HelloOptions, entries: &[Entry<'_>]) -> Result<(), SessionError> {
        let mut session = Session::connect(&self.endpoint, hello)?;
        let known = session.last_seq();
        let (max_records, max_bytes) =
            (session.welcome().max_records as usize, session.welcome().max_frame_bytes as usize);
        let mut rest = &entries[entries.partition_point(|entry| entry.seq <= known)..];
        while let Some(first) = rest.first() {
            if self.shared.control().stop_at.is_some_and(|stop_at| Instant::now() >= stop_at) {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the recorder was closed").into());
            }
            if first.record.len() + FRAME_HEAD > max_bytes {
                self.shared.report(Rejected {
                    id: tallyd_protocol::record::id_of(first.record),
                    seq: first.seq,
                    code: "too_long".to_owned(),
                    message: format!("the record is {} bytes, a frame holds {max_bytes}", first.record.len()),
                    field: None,
                });
                rest = &rest[1..];
                continue;
            }
            let count = frame_of(rest, max_records.min(FRAME.0), max_bytes.min(FRAME.1) - FRAME_HEAD);
            let (frame, after) = rest.split_at(count);
            session.send_encoded(first.seq, frame.iter().map(|entry| entry.record))?;
            self.settle(&mut session, frame)?;
            rest = after;
        }
        Ok(())
    }

    fn settle(&self, session: &mut Session, frame: &[Entry<'_>]) -> Result<(), SessionError> {
        let ack = session.recv_ack()?;
        if frame.last().is_none_or(|last| ack.seq < last.seq) {
            return Err(SessionError::Protocol(format!("an ack for {}, which is below its frame", ack.seq)));
        }
        let refused = ack.rejected.len();
        for rejection in ack.rejected {
            let found = frame.iter().find(|entry| entry.seq == rejection.seq);
            let id = found.and_then(|entry| tallyd_protocol::record::id_of(entry.record));
            let (seq, code, message) = (rejection.seq, rejection.code, rejection.message);
            self.shared.report(Rejected { id, seq, code, message, field: rejection.field });
        }
        let kept = frame.len().saturating_sub(refused) as u64;
        self.shared.recovered.fetch_add(kept, Ordering::Relaxed);
        Ok(())
    }
}

/// The number of records for the next frame, at least 1: their numbers rise by one, and they are within the bounds.
fn frame_of(rest: &[Entry<'_>], max_records: usize, max_bytes: usize) -> usize {
    let mut bytes = 0;
    let fits = |(at, entry): &(usize, &Entry<'_>)| {
        bytes += entry.record.len();
        *at == 0 || (*at < max_records && bytes <= max_bytes && entry.seq == rest[at - 1].seq + 1)
    };
    rest.iter().enumerate().take_while(fits).count()
}
