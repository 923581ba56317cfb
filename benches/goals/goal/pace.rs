//! Producers that keep a pace, and how long each of their frames waits for its acknowledgement; and what one fdatasync of
//! this disk takes.

use std::io::Write;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use tallyd_client::{HelloOptions, Record, Session};

use crate::support::{Calls, Daemon, median};

/// A frame a millisecond from each of so many connections.
#[derive(Clone, Copy)]
pub struct Pace {
    pub connections: usize,
    pub frame_records: usize,
    pub frames: usize,
}

const TICK: Duration = Duration::from_millis(1);

/// Milliseconds from a frame's send to its acknowledgement, of all connections. A frame that was due while the one before
/// it was still waiting counts from when it was due: a daemon that stalls is not spared the frames that it held up.
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
    let name = format!("pace-{seed}");
    let mut session = Session::connect(&daemon.endpoint(), HelloOptions::new(name)).expect("the daemon is there");
    let mut seq = session.last_seq() + 1;
    let mut latencies = Vec::with_capacity(pace.frames);
    let mut due = Instant::now();
    for frame in calls.chunks(pace.frame_records) {
        let now = Instant::now();
        if now < due {
            std::thread::sleep(due - now);
        }
        let from = if now > due { due } else { Instant::now() };
        session.send(seq, frame).expect("a frame");
        assert!(session.recv_ack().expect("an ack").rejected.is_empty());
        latencies.push(from.elapsed().as_secs_f64() * 1e3);
        seq += frame.len() as u64;
        due += TICK;
    }
    latencies
}

/// Milliseconds of one append of 4 KiB with its fdatasync, the median of a few hundred, where the daemon's log is.
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
