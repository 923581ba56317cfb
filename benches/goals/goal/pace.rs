//! Producers at a constant pace, the time until each of their frames is acknowledged, and the time of one fdatasync of
//! this disk.

use std::io::{BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use tallyd_client::Record;
use tallyd_protocol::frame::PREFIX_BYTES;
use tallyd_protocol::message::write_records_frame;
use tallyd_protocol::{ClientMessage, Hello, PROTOCOL_VERSION, ServerMessage};

use crate::support::{Calls, Daemon, median};

/// A frame a millisecond from each of the connections.
#[derive(Clone, Copy)]
pub struct Pace {
    pub connections: usize,
    pub frame_records: usize,
    pub frames: usize,
}

const TICK: Duration = Duration::from_millis(1);

/// Milliseconds from a frame's send to its acknowledgement, of all connections. Producers do not wait for
/// acknowledgements: like applications' records, a frame is sent when it is due. A frame whose write is delayed counts
/// from its due time, so that a daemon that stalls is charged for those frames.
pub fn latencies(daemon: &Daemon, pace: Pace) -> Vec<f64> {
    let mut all = Vec::new();
    std::thread::scope(|scope| {
        let producers: Vec<_> =
            (0..pace.connections).map(|seed| scope.spawn(move || producer(daemon, pace, seed as u64))).collect();
        for producer in producers {
            all.extend(producer.join().expect("a producer"));
        }
    });
    all
}

fn producer(daemon: &Daemon, pace: Pace, seed: u64) -> Vec<f64> {
    let calls: Vec<Record> = Calls::new(500, seed + 1).take(pace.frame_records * pace.frames).collect();
    let mut stream = UnixStream::connect(daemon.folder.path().join("tallyd.sock")).expect("the daemon's socket");
    let mut reader = BufReader::new(stream.try_clone().expect("the socket once more"));
    let mut first_seq = hello(&mut stream, &mut reader, format!("pace-{seed}")) + 1;
    let frames: Vec<Vec<u8>> = calls
        .chunks(pace.frame_records)
        .map(|records| {
            let mut bytes = Vec::new();
            write_records_frame(&mut bytes, first_seq, records);
            first_seq += records.len() as u64;
            bytes
        })
        .collect();
    std::thread::scope(|scope| {
        // Frames are answered in order, one answer each.
        let answers = scope.spawn(move || (0..pace.frames).map(|_| answered(&mut reader)).collect::<Vec<Instant>>());
        let mut due = Instant::now();
        let mut sent = Vec::with_capacity(pace.frames);
        for frame in frames {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let start = Instant::now();
            stream.write_all(&frame).expect("a frame");
            sent.push(if start.elapsed() < TICK { start } else { due.min(start) });
            due += TICK;
        }
        let answers = answers.join().expect("answers");
        sent.iter().zip(answers).map(|(sent, answered)| (answered - *sent).as_secs_f64() * 1e3).collect()
    })
}

/// Makes the handshake; returns the producer's last sequence number.
fn hello(stream: &mut UnixStream, reader: &mut impl Read, producer: String) -> u64 {
    let mut bytes = Vec::new();
    let hello = Hello { protocol: PROTOCOL_VERSION, secret: format!("{producer:.<32}"), producer, ..Hello::default() };
    ClientMessage::Hello(hello).write_frame(&mut bytes);
    stream.write_all(&bytes).expect("a greeting");
    match message(reader) {
        ServerMessage::Welcome(welcome) => welcome.last_seq,
        other => panic!("no welcome: {other:?}"),
    }
}

fn answered(reader: &mut impl Read) -> Instant {
    match message(reader) {
        ServerMessage::Ack(ack) if ack.rejected.is_empty() => Instant::now(),
        other => panic!("no ack: {other:?}"),
    }
}

fn message(reader: &mut impl Read) -> ServerMessage {
    let mut prefix = [0; PREFIX_BYTES];
    reader.read_exact(&mut prefix).expect("a frame of the daemon");
    let mut body = vec![0; u32::from_be_bytes(prefix) as usize];
    reader.read_exact(&mut body).expect("a whole frame");
    ServerMessage::read(&body).expect("a message")
}

/// Milliseconds of one append of 4 KiB with its fdatasync, the median of a few hundred, on the disk of the daemon's
/// WAL.
pub fn fdatasync(daemon: &Daemon) -> f64 {
    let path = daemon.folder.path().join("fdatasync");
    let mut file = std::fs::File::create(&path).expect("a file");
    let page = [7_u8; 4096];
    let times: Vec<f64> = (0..400)
        .map(|_| {
            let start = Instant::now();
            file.write_all(&page).expect("a write");
            rustix::fs::fdatasync(file.as_fd()).expect("a sync");
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    std::fs::remove_file(path).expect("a file to remove");
    median(&times)
}
