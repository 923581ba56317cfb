//! Writes arrive torn, reordered, or in part.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rand::RngExt;
use rustix::process::Signal;

use crate::inject::{self, after, failpoints, until_stopped};
use crate::rig::Rig;
use crate::run::Run;
use crate::support::signal;

/// Tears that share a database and a WAL.
const SERIES: u32 = 20;
/// The unit that a disk writes whole.
const SECTOR_BYTES: usize = 512;

/// Row 8: after the last completed sync, an arbitrary part of the written sectors has reached the disk.
///
/// A device's writes cannot be recorded here (no device-mapper), but their outcomes can be made. A fail point stops the
/// daemon once a sync has completed, and another when the next group has been handed to the system and is not synced
/// yet. The store's file is then mixed at random from the sectors of both states. A disk with a volatile cache may keep
/// the same: writes reordered, and torn at 512 bytes.
pub fn torn_and_reordered_writes(run: &mut Run) {
    let mut torn = 0;
    for series in run.series(SERIES) {
        let mut rig = Rig::start(run, failpoints);
        rig.produce(3);
        for _ in series {
            rig.until_acked(100);
            rig.daemon.kill();
            torn += tear_the_next_group(run, &mut rig);
            rig.daemon.up();
            run.step();
        }
        rig.judge(run);
    }
    run.figure("torn_sectors", torn);
}

/// Starts the daemon, kills it in the middle of a commit, and tears the unsynced writes. Returns the number of written
/// sectors that did not arrive.
fn tear_the_next_group(run: &mut Run, rig: &mut Rig) -> u64 {
    let passes = run.rng.random_range(1..40);
    let [synced, flushed] = [("wal.synced", passes), ("wal.flushed", passes + 1)]
        .map(|(point, passes)| after(passes, point, "return(stop)"));
    rig.daemon.set("FAILPOINTS", &format!("{synced};{flushed}"));
    rig.daemon.spawn();
    let copies = tempfile::tempdir().unwrap();
    let (before, wal) = (copies.path().join("before"), rig.daemon.data().join("wal"));
    until_stopped(rig.daemon.pid());
    copy(&wal, &before);
    signal(rig.daemon.pid(), Signal::CONT);
    until_stopped(rig.daemon.pid());
    rig.daemon.kill();
    rig.daemon.unset("FAILPOINTS");
    // A segment that was begun in between is synced already, so it has nothing to tear.
    let name = newest_store(&wal).file_name().unwrap().to_owned();
    let (old, new) = (before.join(&name).join("db"), wal.join(&name).join("db"));
    if !old.exists() {
        return 0;
    }
    if run.rng.random() {
        // The mark is never synced, so its old state may be the one on the disk.
        fs::copy(before.join("synced"), wal.join("synced")).unwrap();
    }
    tear(run, &old, &new)
}

/// Restores the old content of each differing sector, or keeps the new one, at random.
fn tear(run: &mut Run, old: &Path, new: &Path) -> u64 {
    let (old, mut mixed) = (fs::read(old).unwrap(), fs::read(new).unwrap());
    let mut torn = 0;
    for (at, sector) in mixed.chunks_mut(SECTOR_BYTES).enumerate() {
        // Beyond its old end a file holds zeros until it is written.
        let mut before = old.get(at * SECTOR_BYTES..).unwrap_or_default().to_vec();
        before.resize(sector.len(), 0);
        if before != sector && run.rng.random() {
            sector.copy_from_slice(&before);
            torn += 1;
        }
    }
    // The new length is not synced either.
    if mixed.len() > old.len() && run.rng.random() {
        mixed.truncate(run.rng.random_range(old.len()..=mixed.len()));
    }
    fs::write(new, mixed).unwrap();
    torn
}

fn newest_store(wal: &Path) -> PathBuf {
    let stores = fs::read_dir(wal).unwrap().map(|entry| entry.unwrap().path());
    let is_store = |path: &PathBuf| path.join("db").exists() && path.extension().is_none();
    stores.filter(is_store).max().expect("a running daemon has a segment")
}

fn copy(from: &Path, to: &Path) {
    // Lanes may delete a segment meanwhile; a segment that is being deleted is not read.
    Command::new("cp").arg("-a").arg(from).arg(to).output().unwrap();
}

/// Row 12: writes are cut short, and interrupted before their first byte. `strace` can only pretend either, so a small
/// library between the daemon and libc does it.
pub fn short_and_interrupted_writes(run: &mut Run) {
    let folder = tempfile::tempdir().unwrap();
    let Some(library) = inject::short_writes(run, folder.path()) else { return };
    for _ in run.rounds() {
        let (log, seed) = (folder.path().join("counted"), run.rng.random::<u32>());
        let mut rig = Rig::start(run, |daemon| {
            let daemon = daemon.with("LD_PRELOAD", &library.display().to_string());
            daemon.with("SHORT_WRITES_SEED", &seed.to_string()).with("SHORT_WRITES_LOG", &log.display().to_string())
        });
        rig.produce(3);
        rig.until_acked(1_000);
        rig.kill_and_restart();
        rig.until_acked(1_000);
        rig.judge(run);
        assert_eq!(rig.daemon.terminate().code(), Some(0));
        let counted = fs::read_to_string(&log).unwrap_or_default();
        assert!(counted.lines().any(|line| line.parse::<u64>().is_ok_and(|cut| cut > 20)), "cut writes: {counted:?}");
        run.step();
    }
}
