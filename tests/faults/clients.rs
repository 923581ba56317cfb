//! Clients die in the middle of a frame, send and read slowly, or are idle in large numbers.

use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use rand::RngExt;
use tallyd_client::{Endpoint, HelloOptions, Session};
use tallyd_protocol::ClientMessage;
use tallyd_protocol::message::write_records_frame;

use crate::calls;
use crate::producers::{Acked, Ledger};
use crate::rig::Rig;
use crate::run::Run;

/// Records per frame.
const FRAME_RECORDS: u64 = 20;
/// Row 26: a client's connection is cut at an arbitrary byte of a frame. Frames that arrived whole are stored, and the
/// unfinished one is not. When the client comes back, it continues at the number that the daemon names.
pub fn dies_in_mid_frame(run: &mut Run) {
    let mut rig = Rig::start(run, |daemon| daemon);
    rig.produce(1);
    let producer = rig.own_producer() + calls::FLAWLESS;
    let name = format!("faults-{producer}");
    let mut ledger = Ledger { producer, ..Ledger::default() };
    let mut next = 1;
    for _ in run.rounds() {
        let whole = run.rng.random_range(0..4);
        let mut bytes = hello(&name);
        for frame in 0..=whole {
            write_records_frame(
                &mut bytes,
                next + frame * FRAME_RECORDS,
                &records(producer, next + frame * FRAME_RECORDS),
            );
        }
        let mut unfinished = Vec::new();
        write_records_frame(&mut unfinished, 0, &records(producer, next + whole * FRAME_RECORDS));
        // At any byte of the last frame, so that at least one byte is missing.
        bytes.truncate(bytes.len() - run.rng.random_range(1..unfinished.len()));
        let mut stream = rig.daemon.connect();
        stream.write_all(&bytes).unwrap();
        ledger.sent = next + whole * FRAME_RECORDS - 1;
        if run.rng.random() {
            // Some clients read part of the answer: at least the welcome.
            let _ = stream.read(&mut [0; 512]).unwrap();
        }
        drop(stream);
        let last = next + whole * FRAME_RECORDS - 1;
        if whole > 0 {
            // The database is asked: a new connection would fence off the dead one's unread frames.
            let id = uuid::Uuid::from_bytes(calls::id(producer, last));
            rig.postgres.until(&format!("SELECT count(*) FROM api_usage_log WHERE id = '{id}'"), "1");
        }
        let durable = rig.daemon.session(&name).last_seq();
        assert_eq!(durable, last, "of an unfinished frame something is stored");
        log(&mut ledger, durable);
        next = durable + 1;
        run.step();
    }
    rig.add_ledger(ledger);
    rig.judge(run);
}

fn log(ledger: &mut Ledger, durable: u64) {
    for seq in ledger.acked.len() as u64 + 1..=durable {
        let (record, refused) = (calls::call(ledger.producer, seq), calls::is_refused(ledger.producer, seq));
        let print = if refused { calls::letter(&record) } else { calls::fingerprint(&record) };
        ledger.acked.push(Acked { seq, print, refused });
    }
}

fn hello(producer: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    ClientMessage::Hello(crate::support::hello(producer)).write_frame(&mut bytes);
    bytes
}

fn records(producer: u64, first: u64) -> Vec<tallyd_client::Record> {
    (first..first + FRAME_RECORDS).map(|seq| calls::call(producer, seq)).collect()
}

/// Row 27: thousands of idle connections, clients that send a byte at a time, and clients that send and never read the
/// answers. Memory stays bounded, and other clients are served as before.
pub fn slow_and_idle(run: &mut Run) {
    let idle = if run.is_deep() { 10_000 } else { 300 };
    let mut rig = Rig::start(run, |daemon| daemon.with("TALLYD_LISTEN_MAX_CONNECTIONS", "11000"));
    rig.produce(2);
    let socket = rig.daemon.socket();
    let connected: Vec<_> = (0..idle).map(|number| idle_session(&socket, number)).collect();
    for round in run.rounds() {
        let mut deaf: Vec<_> = (0..20).map(|number| Deaf::connect(&rig, u64::from(round) * 20 + number)).collect();
        let mut slow = rig.daemon.connect();
        let frame = hello("slow");
        for byte in &frame[..frame.len() - 1] {
            slow.write_all(&[*byte]).unwrap();
            // They send for as long as the daemon reads: then it holds as much of theirs as it will ever keep.
            deaf.iter_mut().for_each(Deaf::send);
            sleep(Duration::from_millis(5));
        }
        rig.until_acked(500);
        assert!(deaf.iter().all(|deaf| deaf.is_held_back), "none of them was held back: the test proves nothing");
        run.step();
    }
    run.figure("idle_connections", idle);
    // The idle connections still work.
    for mut session in connected.into_iter().step_by(idle as usize / 10) {
        session.send(1, &[]).unwrap();
        session.recv_ack().unwrap();
    }
    rig.judge_without_foreign(run);
}

fn idle_session(socket: &Path, number: u32) -> Session {
    Session::connect(&Endpoint::unix(socket), HelloOptions::new(format!("idle-{number}"))).unwrap()
}

/// A frame with a long answer: each of its records is refused, with a sentence that says why.
pub fn refused_frame() -> Vec<u8> {
    let mut frame = Vec::new();
    write_records_frame(&mut frame, 1, &vec![tallyd_client::Record::default(); 500]);
    frame
}

/// A client that sends and never reads.
pub struct Deaf {
    stream: Box<dyn Write>,
    again: Vec<u8>,
    at: usize,
    /// True once the daemon has stopped reading, or has closed the connection.
    pub is_held_back: bool,
}

impl Deaf {
    fn connect(rig: &Rig, number: u64) -> Self {
        let mut stream = rig.daemon.connect();
        stream.write_all(&hello(&format!("deaf-{number}"))).unwrap();
        stream.set_nonblocking(true).unwrap();
        Self::new(stream, refused_frame())
    }

    /// A client that sends these bytes over and over. `stream` must not block.
    pub fn new(stream: impl Write + 'static, again: Vec<u8>) -> Self {
        Self { stream: Box::new(stream), again, at: 0, is_held_back: false }
    }

    /// Sends as much as the socket takes now.
    pub fn send(&mut self) {
        for _ in 0..50 {
            match self.stream.write(&self.again[self.at..]) {
                Ok(sent) => self.at = (self.at + sent) % self.again.len(),
                Err(error) => {
                    let kinds = [ErrorKind::WouldBlock, ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
                    assert!(kinds.contains(&error.kind()), "{error}");
                    self.is_held_back = true;
                    return;
                }
            }
        }
    }
}
