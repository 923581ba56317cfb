//! Load: producers that send through every fault, resend as the protocol requires, and know the acknowledged records.
//!
//! A record's id consists of its producer's number and its sequence number. So the highest acknowledged number says
//! which records the database must have.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tallyd_client::{Endpoint, HelloOptions, Record, Session, SessionError};

use super::postgres::Postgres;
use super::until;

/// Records per frame.
const FRAME_RECORDS: u64 = 25;
/// Frames that wait for their acknowledgement.
const WINDOW: usize = 8;
/// The pause between two frames: long enough that comparing the records takes a moment only.
const PAUSE: Duration = Duration::from_millis(3);

/// Producers at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    producers: Vec<(Arc<AtomicU64>, JoinHandle<u64>)>,
}

/// The records of producers that are all acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Each producer's last sequence number.
    pub last_seqs: Vec<u64>,
}

impl Load {
    /// Starts this many producers.
    pub fn start(socket: &Path, producers: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |number| {
            let acked = Arc::new(AtomicU64::new(0));
            let producer = Producer {
                number,
                socket: socket.to_owned(),
                stop: Arc::clone(&stop),
                acked: Arc::clone(&acked),
                next_seq: 1,
                window: VecDeque::new(),
            };
            (acked, std::thread::spawn(move || producer.run()))
        };
        let producers = (0..producers).map(start).collect();
        Self { stop, producers }
    }

    /// The records acknowledged by now.
    pub fn acked(&self) -> Sent {
        Sent { last_seqs: self.producers.iter().map(|(acked, _)| acked.load(Ordering::SeqCst)).collect() }
    }

    /// Waits until `more` further records are acknowledged.
    #[track_caller]
    pub fn until_acked(&self, more: u64) {
        let wanted = self.acked().records() + more;
        until("records are acknowledged", || {
            let acked = self.acked().records();
            if acked >= wanted { Ok(()) } else { Err(format!("{acked} of {wanted}")) }
        });
    }

    /// Stops sending, waits until all records are acknowledged, and returns them. The daemon must be running.
    #[track_caller]
    pub fn finish(self) -> Sent {
        self.stop.store(true, Ordering::SeqCst);
        // Without a daemon they would retry for ever.
        until("everything that was sent is acknowledged", || {
            let at_work = self.producers.iter().filter(|(_, thread)| !thread.is_finished()).count();
            if at_work == 0 { Ok(()) } else { Err(format!("{at_work} producers wait")) }
        });
        Sent { last_seqs: self.producers.into_iter().map(|(_, thread)| thread.join().unwrap()).collect() }
    }
}

impl Sent {
    /// The number of records.
    pub fn records(&self) -> u64 {
        self.last_seqs.iter().sum()
    }

    /// Sends every record again under its number, and waits for the acknowledgements.
    pub fn resend(&self, socket: &Path) {
        for (last, number) in self.last_seqs.iter().zip(0..) {
            let name = format!("load-{number}");
            let options = HelloOptions { secret: super::secret(&name), ..HelloOptions::new(name) };
            let mut session = Session::connect(&Endpoint::unix(socket), options).unwrap();
            assert_eq!(session.last_seq(), *last);
            for first in (1..=*last).step_by(FRAME_RECORDS as usize) {
                session.send(first, &records(number, first)).unwrap();
                session.recv_ack().unwrap();
            }
        }
    }

    /// Waits until as many calls are in the database, and asserts that they are these, each once.
    #[track_caller]
    pub fn assert_in(&self, postgres: &Postgres) {
        let at_least = self.records();
        until("everything acknowledged is in the database", || {
            let found = postgres.try_psql("SELECT count(*) FROM api_usage_log")?;
            if found.parse::<u64>().unwrap() >= at_least { Ok(()) } else { Err(format!("{found} of {at_least}")) }
        });
        self.assert_only(postgres);
    }

    /// Asserts that these calls are in the database now, and no call twice. Unacknowledged calls may be there, too.
    #[track_caller]
    pub fn assert_among(&self, postgres: &Postgres) {
        let found = postgres.psql("SELECT id, count(*) FROM api_usage_log GROUP BY id");
        let found: HashSet<_> = found.lines().collect();
        if let Some(twice) = found.iter().find(|line| !line.ends_with("|1")) {
            panic!("{twice} times");
        }
        for (last, number) in self.last_seqs.iter().zip(0..) {
            for seq in 1..=*last {
                let expected = format!("{}|1", uuid::Uuid::from_bytes(id(number, seq)));
                assert!(
                    found.contains(expected.as_str()),
                    "{seq} of producer {number} is missing, {last} acknowledged"
                );
            }
        }
    }

    /// Asserts that these calls and no others are in the database now, each once and unaltered.
    #[track_caller]
    pub fn assert_only(&self, postgres: &Postgres) {
        let found = postgres.psql("SELECT id, input_tokens FROM api_usage_log ORDER BY id");
        let expected = self.last_seqs.iter().zip(0u64..).flat_map(|(last, number)| {
            (1..=*last).map(move |seq| format!("{}|{seq}", uuid::Uuid::from_bytes(id(number, seq))))
        });
        let (found, expected): (Vec<_>, Vec<_>) = (found.lines().collect(), expected.collect());
        if let Some(at) = (0..found.len().max(expected.len()))
            .find(|at| found.get(*at).copied() != expected.get(*at).map(String::as_str))
        {
            let (is, should) = (found.get(at), expected.get(at));
            panic!("{} calls of {}: place {at} has {is:?}, not {should:?}", found.len(), expected.len());
        }
    }
}

struct Producer {
    number: u64,
    socket: PathBuf,
    stop: Arc<AtomicBool>,
    acked: Arc<AtomicU64>,
    next_seq: u64,
    /// The first number of each frame that is not acknowledged.
    window: VecDeque<u64>,
}

impl Producer {
    fn run(mut self) -> u64 {
        loop {
            match self.converse() {
                Ok(()) => return self.next_seq - 1,
                // The producer connects again, for every cause.
                Err(SessionError::Io(_) | SessionError::Refused { .. }) => std::thread::sleep(Duration::from_millis(5)),
                Err(other) => panic!("producer {}: {other}", self.number),
            }
        }
    }

    /// Sends until told to stop and everything is acknowledged, or the connection ends.
    fn converse(&mut self) -> Result<(), SessionError> {
        let name = format!("load-{}", self.number);
        let options = HelloOptions { secret: super::secret(&name), ..HelloOptions::new(name) };
        let mut session = Session::connect(&Endpoint::unix(&self.socket), options)?;
        let durable = session.last_seq();
        assert!(durable >= self.acked.load(Ordering::SeqCst), "the daemon has forgotten what it acknowledged");
        self.acked.store(durable, Ordering::SeqCst);
        self.window.retain(|first| first + FRAME_RECORDS - 1 > durable);
        for first in &self.window {
            session.send(*first, &records(self.number, *first))?;
        }
        loop {
            let stopping = self.stop.load(Ordering::SeqCst);
            if stopping && self.window.is_empty() {
                return Ok(());
            }
            if !stopping && self.window.len() < WINDOW {
                self.window.push_back(self.next_seq);
                self.next_seq += FRAME_RECORDS;
                session.send(self.next_seq - FRAME_RECORDS, &records(self.number, self.next_seq - FRAME_RECORDS))?;
                std::thread::sleep(PAUSE);
                continue;
            }
            let ack = match session.recv_ack() {
                // A daemon that holds clients back acknowledges late.
                Err(SessionError::Io(error)) if matches!(error.kind(), io::ErrorKind::WouldBlock) => continue,
                ack => ack?,
            };
            assert!(ack.rejected.is_empty(), "{:?}", ack.rejected);
            assert_eq!(Some(ack.seq), self.window.pop_front().map(|first| first + FRAME_RECORDS - 1));
            self.acked.store(ack.seq, Ordering::SeqCst);
        }
    }
}

fn records(producer: u64, first_seq: u64) -> Vec<Record> {
    (first_seq..first_seq + FRAME_RECORDS).map(|seq| record(producer, seq)).collect()
}

/// Days, users and models differ, so that several rows of each rollup change; every tenth call is unpriced.
fn record(producer: u64, seq: u64) -> Record {
    let model = if seq.is_multiple_of(10) { "of-tomorrow" } else { "claude-sonnet-4-5" };
    Record {
        id: Some(id(producer, seq)),
        // Spread over three days from 2026-03-01 on.
        occurred_at: Some(1_772_323_200_000_000 + (seq % 72) as i64 * 3_600_000_000),
        ..Record::claude(model, seq, 7).user(format!("user-{}", seq % 17))
    }
}

fn id(producer: u64, seq: u64) -> [u8; 16] {
    (u128::from(producer) << 64 | u128::from(seq)).to_be_bytes()
}
