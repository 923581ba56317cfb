//! Producers: they send through every fault, resend as the protocol requires, and keep a ledger of acknowledgements.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tallyd_client::{Endpoint, HelloOptions, Record, Session, SessionError};

use crate::calls::{self, Print};
use crate::support::{secret, until};

/// Records per frame, in turn: some sync alone, some share a chunk, some fill one.
const FRAME_RECORDS: [u64; 4] = [25, 3, 60, 1];
/// Frames that wait for their acknowledgement.
const WINDOW: usize = 8;
/// The pause between two frames in a deep run and in a brief one. Without pauses the comparison at the end, which takes
/// longest, would have too many records.
const PAUSES: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(10)];

/// A record that was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acked {
    /// The record's sequence number.
    pub seq: u64,
    /// [`calls::fingerprint`] of the record that was sent, or [`calls::letter`] if it was refused.
    pub print: Print,
    /// True if the daemon refused it.
    pub refused: bool,
}

/// One producer's ledger.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// The producer's number, which is part of its name and of its records' ids.
    pub producer: u64,
    /// Acknowledged records by sequence number, without a gap.
    pub acked: Vec<Acked>,
    /// The highest number that was sent. Records after the last acknowledged one may or may not be stored.
    pub sent: u64,
}

/// Producers at work.
pub struct Producers {
    stop: Arc<AtomicBool>,
    acked: Arc<AtomicU64>,
    ledgers: Vec<Arc<Mutex<Ledger>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Producers {
    /// Starts one producer for each of these numbers.
    pub fn start(socket: &Path, numbers: impl Iterator<Item = u64>) -> Self {
        let (stop, acked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let ledger = |producer| Arc::new(Mutex::new(Ledger { producer, ..Ledger::default() }));
        let ledgers: Vec<_> = numbers.map(ledger).collect();
        let is_brief = std::env::var("TALLYD_FAULTS").unwrap_or_default().is_empty();
        let pause = PAUSES[usize::from(is_brief)];
        let begin = |ledger: &Arc<Mutex<Ledger>>| {
            let producer = Producer {
                number: ledger.lock().unwrap().producer,
                socket: socket.to_owned(),
                stop: Arc::clone(&stop),
                acked: Arc::clone(&acked),
                ledger: Arc::clone(ledger),
                next_seq: 1,
                window: VecDeque::new(),
                pause,
            };
            std::thread::spawn(move || producer.run())
        };
        let threads = ledgers.iter().map(begin).collect();
        Self { stop, acked, ledgers, threads }
    }

    /// Records acknowledged by now, over all producers.
    pub fn acked(&self) -> u64 {
        self.acked.load(Ordering::SeqCst)
    }

    /// Waits until `more` further records are acknowledged.
    #[track_caller]
    pub fn until_acked(&self, more: u64) {
        let wanted = self.acked() + more;
        until("records are acknowledged", || {
            assert!(!self.threads.iter().any(JoinHandle::is_finished), "a producer has given up");
            let acked = self.acked();
            if acked >= wanted { Ok(()) } else { Err(format!("{acked} of {wanted}")) }
        });
    }

    /// Stops sending, waits until all records are acknowledged, and returns the ledgers. The daemon must be running.
    pub fn finish(self) -> Vec<Ledger> {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.into_iter().for_each(|thread| thread.join().expect("a producer has given up"));
        self.ledgers.iter().map(|ledger| ledger.lock().unwrap().clone()).collect()
    }

    /// The ledgers as they are now. Sent records without acknowledgement may or may not be stored.
    pub fn ledgers(&self) -> Vec<Ledger> {
        self.ledgers.iter().map(|ledger| ledger.lock().unwrap().clone()).collect()
    }
}

struct Producer {
    number: u64,
    socket: PathBuf,
    stop: Arc<AtomicBool>,
    acked: Arc<AtomicU64>,
    ledger: Arc<Mutex<Ledger>>,
    next_seq: u64,
    /// First and last number of each frame that is not acknowledged.
    window: VecDeque<(u64, u64)>,
    pause: Duration,
}

impl Producer {
    fn run(mut self) {
        loop {
            match self.converse() {
                Ok(()) => return,
                // The producer connects again, for every cause.
                Err(SessionError::Io(_) | SessionError::Refused { .. }) => std::thread::sleep(Duration::from_millis(5)),
                Err(other) => panic!("producer {}: {other}", self.number),
            }
        }
    }

    /// Sends until told to stop and everything is acknowledged, or the connection ends.
    fn converse(&mut self) -> Result<(), SessionError> {
        let name = format!("faults-{}", self.number);
        let options = HelloOptions { secret: secret(&name), ..HelloOptions::new(name) };
        let mut session = Session::connect(&Endpoint::unix(&self.socket), options)?;
        let durable = session.last_seq();
        self.settle(durable, &[]);
        // A daemon that has forgotten acknowledged records gets them again; the oracle then finds them lost or doubled.
        for (first, last) in &self.window {
            session.send(*first, &records(self.number, *first, *last))?;
        }
        loop {
            let stopping = self.stop.load(Ordering::SeqCst);
            if stopping && self.window.is_empty() {
                return Ok(());
            }
            if !stopping && self.window.len() < WINDOW {
                let (first, last) = self.next_frame();
                session.send(first, &records(self.number, first, last))?;
                std::thread::sleep(self.pause);
                continue;
            }
            let ack = match session.recv_ack() {
                // A daemon that holds clients back acknowledges late.
                Err(SessionError::Io(error)) if matches!(error.kind(), io::ErrorKind::WouldBlock) => continue,
                ack => ack?,
            };
            assert_eq!(Some(ack.seq), self.window.front().map(|(_, last)| *last), "acks come in order");
            let refused: Vec<_> = ack.rejected.iter().map(|rejection| rejection.seq).collect();
            self.settle(ack.seq, &refused);
        }
    }

    fn next_frame(&mut self) -> (u64, u64) {
        let first = self.next_seq;
        let last = first + FRAME_RECORDS[(first % 4) as usize] - 1;
        self.next_seq = last + 1;
        self.window.push_back((first, last));
        self.ledger.lock().unwrap().sent = last;
        (first, last)
    }

    /// Marks everything up to `seq` as acknowledged, by an acknowledgement or by the welcome of a new connection.
    fn settle(&mut self, seq: u64, refused: &[u64]) {
        let mut ledger = self.ledger.lock().unwrap();
        let before = ledger.acked.len() as u64;
        for seq in before + 1..=seq.min(ledger.sent) {
            let record = calls::call(self.number, seq);
            let is_refused = calls::is_refused(self.number, seq);
            let print = if is_refused { calls::letter(&record) } else { calls::fingerprint(&record) };
            ledger.acked.push(Acked { seq, print, refused: is_refused });
        }
        for seq in refused {
            assert!(calls::is_refused(self.number, *seq), "{seq} of producer {} was refused", self.number);
        }
        self.acked.fetch_add((ledger.acked.len() as u64).saturating_sub(before), Ordering::SeqCst);
        self.window.retain(|(_, last)| *last > seq);
    }
}

fn records(producer: u64, first: u64, last: u64) -> Vec<Record> {
    (first..=last).map(|seq| calls::call(producer, seq)).collect()
}
