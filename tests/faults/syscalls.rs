//! System calls fail, and the daemon is killed in the middle of them.

use std::time::{Duration, Instant};

use rand::RngExt;

use crate::inject;
use crate::rig::Rig;
use crate::run::Run;
use crate::support::{PATIENCE, until};

/// System calls that change the files.
const CALLS: [&str; 10] = [
    "pwrite64",
    "fdatasync",
    "sync_file_range",
    "fsync",
    "ftruncate",
    "rename",
    "unlink",
    "mkdir",
    "unlinkat",
    "write",
];
/// Kills that share a database and a WAL.
const SERIES: u32 = 50;

/// Row 2: killed as it enters the first, second, third … of its writing calls, in each of its threads.
///
/// Round n kills at the (n / calls + 1)th entry of one of [`CALLS`], counted per thread, during recovery or under load.
pub fn killed_at_each_call(run: &mut Run) {
    if !inject::can_trace(run) {
        return;
    }
    for series in run.series(SERIES) {
        let mut rig = Rig::start(run, |daemon| daemon);
        rig.produce(3);
        for round in series {
            let call = CALLS[round as usize % CALLS.len()];
            let when = round as usize / CALLS.len() + 1;
            rig.until_acked(50);
            rig.daemon.kill();
            rig.daemon.wrap(inject::strace(&[format!("{call}:signal=KILL:when={when}")]));
            rig.daemon.spawn();
            if !killed_in_time(&mut rig) {
                // It makes fewer of these calls, so any moment will do.
                rig.daemon.kill();
            }
            rig.daemon.wrap(Vec::new());
            rig.daemon.up();
            run.step();
        }
        rig.judge(run);
    }
}

/// The time is limited, because some calls are rare: a rename comes with a rotation, a truncation with a start.
fn killed_in_time(rig: &mut Rig) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        if let Some(ended) = rig.daemon.has_ended() {
            assert_eq!(ended.code(), None, "it ended by itself: {ended}");
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

/// Row 6: killed while the WAL opens, at each call with which recovery and sled change files: sled's snapshots, their
/// renames, the seal of the found segment, the new segment.
pub fn killed_while_the_log_opens(run: &mut Run) {
    if !inject::can_trace(run) {
        return;
    }
    let mut rig = Rig::start(run, |daemon| daemon);
    rig.produce(2);
    let calls = ["rename", "write", "pwrite64", "fsync", "ftruncate", "unlink", "mkdir", "fdatasync", "openat"];
    let mut killed = 0;
    for round in run.rounds() {
        let call = calls[round as usize % calls.len()];
        // The first calls of `openat` are the dynamic linker's.
        let when = round as usize / calls.len() + if call == "openat" { 20 } else { 1 };
        rig.until_acked(100);
        rig.daemon.kill();
        rig.daemon.wrap(inject::strace(&[format!("{call}:signal=KILL:when={when}")]));
        rig.daemon.spawn();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if rig.daemon.has_ended().is_some() {
                killed += 1;
                break;
            }
            // The WAL is open, and the call did not come so often.
            if rig.daemon.status().is_some() {
                rig.daemon.kill();
                break;
            }
            assert!(Instant::now() < deadline, "it neither starts nor dies");
        }
        rig.daemon.wrap(Vec::new());
        rig.daemon.up();
        run.step();
    }
    run.figure("killed_while_opening", killed);
    assert!(killed * 10 >= run.rounds().end, "calls were met while the log opened in {killed} rounds only");
    rig.judge(run);
}

/// Row 9: a write or a sync fails. No acknowledgement follows, the daemon names the file and ends with an error, and
/// the next start recovers.
pub fn a_call_fails(run: &mut Run) {
    if !inject::can_trace(run) {
        return;
    }
    let mut rig = Rig::start(run, |daemon| daemon);
    rig.produce(2);
    for round in run.rounds() {
        let (call, error) = [
            ("fdatasync", "EIO"),
            ("fsync", "EIO"),
            ("pwrite64", "EIO"),
            ("sync_file_range", "EIO"),
            ("pwrite64", "ENOSPC"),
            ("rename", "EIO"),
        ][round as usize % 6];
        rig.until_acked(50);
        rig.daemon.kill();
        let when = if ["fdatasync", "fsync", "pwrite64"].contains(&call) {
            run.rng.random_range(1..60)
        } else {
            1 + round / 6
        };
        rig.daemon.wrap(inject::strace(&[format!("{call}:error={error}:when={when}")]));
        rig.daemon.spawn();
        let said_before = rig.daemon.log().len();
        let ended =
            until(&format!("{call} fails with {error}"), || rig.daemon.has_ended().ok_or_else(|| "it runs".into()));
        assert!(ended.code().is_some_and(|code| code != 0), "{call} failed with {error}, and it ended with {ended}");
        let said = rig.daemon.log().split_off(said_before);
        let names_it = |line: &str| line.starts_with("error: ") && line.contains("data/");
        assert!(said.lines().any(names_it), "it does not say what failed: {said}");
        assert!(!said.contains("stopped at the deadline"), "somebody waits for an answer that cannot come: {said}");
        rig.daemon.wrap(Vec::new());
        rig.daemon.up();
        run.step();
    }
    rig.judge(run);
}
