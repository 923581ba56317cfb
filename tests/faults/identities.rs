//! Calls with a stated identity that are sent again count once, wherever the daemon was killed in between.

use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use rand::RngExt;
use serde_json::Value;

use crate::inject::{after, failpoints};
use crate::rig::Rig;
use crate::run::Run;
use crate::support::daemon::Daemon;
use crate::support::{PATIENCE, until};

/// Steps of a group's way to the disk, and of a segment's end.
const POINTS: [&str; 7] =
    ["wal.appended", "wal.identities", "wal.flushed", "wal.sealed", "wal.synced", "wal.created", "wal.committed"];
/// Lines of a round: more than a segment holds.
const LINES: u64 = 500;
/// Lines per connection: one group or more.
const PART: u64 = 50;

/// Row 38: killed at each step, with stated ids. Sent again, acknowledged calls are duplicates, and others are taken.
pub fn killed_at_each_step(run: &mut Run) {
    let mut rig = Rig::start(run, failpoints);
    let mut lines = 0;
    for round in run.rounds() {
        let point = POINTS[round as usize % POINTS.len()];
        let is_of_a_segment = matches!(point, "wal.identities" | "wal.sealed" | "wal.created");
        let passes = run.rng.random_range(0..if is_of_a_segment { 1 } else { (LINES / PART) as u32 });
        rig.daemon.kill();
        // The start begins a segment, too.
        let passes = passes + u32::from(point == "wal.created");
        rig.daemon.set("FAILPOINTS", &after(passes, point, "return(kill)"));
        rig.daemon.up();
        let acknowledged = send(&rig.daemon, lines..lines + LINES);
        until(&format!("the daemon is killed at {point}"), || {
            let ended = rig.daemon.has_ended().ok_or("it runs")?;
            if ended.code().is_none() { Ok(()) } else { panic!("it ended by itself: {ended}") }
        });
        rig.daemon.unset("FAILPOINTS");
        rig.daemon.up();
        let again = send(&rig.daemon, lines..lines + LINES);
        assert_eq!(again.len() as u64, LINES, "{point}: all are answered");
        assert!(again.iter().all(|answer| answer["ok"] == true), "{point}");
        let known = &again[..acknowledged.len()];
        assert!(known.iter().all(|answer| answer["duplicate"] == true), "{point}: {} were acknowledged", known.len());
        lines += LINES;
        run.step();
    }
    rig.postgres.until("SELECT count(*) FROM api_usage_log", &lines.to_string());
    assert_eq!(rig.postgres.psql("SELECT count(DISTINCT id) FROM api_usage_log"), lines.to_string());
    rig.daemon.assert_reconciled();
}

/// Sends lines with stated ids until the daemon is gone. Returns the answers that arrived.
fn send(daemon: &Daemon, numbers: std::ops::Range<u64>) -> Vec<Value> {
    let mut answers = Vec::new();
    for first in numbers.step_by(PART as usize) {
        let more = send_part(daemon, first..first + PART);
        let is_whole = more.len() as u64 == PART;
        answers.extend(more);
        if !is_whole {
            break;
        }
    }
    answers
}

fn send_part(daemon: &Daemon, numbers: std::ops::Range<u64>) -> Vec<Value> {
    // The daemon may be gone.
    let Ok(stream) = UnixStream::connect(daemon.socket()) else { return Vec::new() };
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
    let mut writer = stream.try_clone().expect("a socket is cloned");
    let writing = std::thread::spawn(move || {
        for number in numbers {
            let id = uuid::Uuid::from_u128(number.into());
            // The lines are long, so that few fill a segment.
            let line = format!("{{\"provider\":\"rentcast\",\"id\":\"{id}\",\"request_id\":\"{number:0>250}\"}}\n");
            // The daemon may be gone.
            if writer.write_all(line.as_bytes()).is_err() {
                return;
            }
        }
        let _ = writer.shutdown(Shutdown::Write);
    });
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    let answers = lines.map_while(|line| serde_json::from_str(&line).ok()).collect();
    writing.join().expect("writing does not panic");
    answers
}
