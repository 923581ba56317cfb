//! The disk is full.

use rand::RngExt;
use serde_json::Value;

use crate::power::Tmpfs;
use crate::rig::Rig;
use crate::run::Run;
use crate::support::postgres::Stop;

/// Bytes of the disk: some segments, and the reserve.
const DISK_BYTES: u64 = 24 << 20;
/// Bytes that the daemon leaves free.
const RESERVE_BYTES: u64 = 8 << 20;

/// Row 11: another program fills the disk up to the reserve. Clients are held back and health reports it; once there is
/// space, the daemon continues by itself. A kill while the disk is full changes nothing.
pub fn up_to_the_reserve(run: &mut Run) {
    let Some(disk) = Tmpfs::mounted(run, DISK_BYTES) else { return };
    let mut rig = Rig::start(run, |daemon| on(&disk, daemon));
    rig.produce(2);
    for _ in run.rounds() {
        rig.until_acked(300);
        disk.fill(RESERVE_BYTES / 2);
        let status = rig.daemon.until_status("the disk is full", is_full);
        assert!(status["health"]["wal"]["message"].as_str().unwrap().contains("wal.min_free_bytes"), "{status:#}");
        if run.rng.random() {
            rig.kill_and_restart();
            rig.daemon.until_status("the disk is full still", is_full);
        }
        disk.free();
        rig.daemon.until_status("there is room again", |status| status["health"]["wal"]["status"] == "ok");
        run.step();
    }
    rig.until_acked(300);
    rig.judge(run);
    drop(rig);
}

/// Row 11 beyond the reserve: another program takes the last byte. Writes fail, no unwritten record is acknowledged,
/// and the daemon ends with an error. Started with space, it works again.
pub fn to_the_last_byte(run: &mut Run) {
    let Some(disk) = Tmpfs::mounted(run, DISK_BYTES) else { return };
    let mut rig = Rig::start(run, |daemon| on(&disk, daemon));
    let mut died = 0;
    for _ in run.rounds() {
        // Nothing is loaded, so that no segment is deleted.
        rig.postgres.down(Stop::Fast);
        rig.produce(2);
        rig.until_acked(run.rng.random_range(100..600));
        disk.fill(0);
        let full = crate::support::until("the daemon meets the full disk", || {
            if let Some(ended) = rig.daemon.has_ended() {
                return Ok(Some(ended));
            }
            match rig.daemon.status() {
                Some(status) if is_full(&status) => Ok(None),
                _ => Err("it works on".into()),
            }
        });
        disk.free();
        if let Some(ended) = full {
            assert!(ended.code().is_some_and(|code| code != 0), "{ended}");
            died += 1;
            rig.daemon.up();
        }
        rig.postgres.up();
        rig.rest();
        rig.drain();
        run.step();
    }
    run.figure("ended_with_an_error", died);
    rig.judge(run);
    drop(rig);
}

fn on(disk: &Tmpfs, daemon: crate::support::daemon::Daemon) -> crate::support::daemon::Daemon {
    let daemon = daemon.with_data(&disk.data());
    daemon.with("TALLYD_WAL_MIN_FREE_BYTES", &RESERVE_BYTES.to_string())
}

fn is_full(status: &Value) -> bool {
    status["health"]["wal"]["status"] == "failing"
}
