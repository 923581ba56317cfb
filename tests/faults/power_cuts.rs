//! The power fails, and the disk lies.

use rand::RngExt;

use crate::inject::{self, stop};
use crate::power::Image;
use crate::rig::Rig;
use crate::run::Run;
use crate::support::daemon::Daemon;
use crate::support::postgres::Stop;

/// Power cuts that share a disk, a database and a WAL.
const SERIES: u32 = 10;

/// Row 7: the power fails under load, repeatedly. Each record that was acknowledged before is on the disk.
pub fn after_an_ack(run: &mut Run) {
    for series in run.series(SERIES) {
        let Some(disk) = Image::mounted(run) else { return };
        let mut rig = Rig::start(run, |daemon| on(&disk, daemon));
        rig.produce(3);
        for _ in series {
            rig.until_acked(run.rng.random_range(50..600));
            cut(&mut rig, &disk);
            run.step();
        }
        rig.judge(run);
        drop(rig);
    }
}

/// Row 10, which proves that row 7 can fail: every sync does nothing and reports success. The oracle must find
/// acknowledged records lost, or the WAL set aside as damaged.
pub fn a_disk_that_lies_is_noticed(run: &mut Run) {
    if !inject::can_trace(run) {
        return;
    }
    for _ in run.rounds() {
        let Some(disk) = Image::mounted(run) else { return };
        let mut rig = Rig::stopped(run, |daemon| on(&disk, daemon));
        // Working syncs create the folder: this test is about lost records, not about a daemon that cannot start.
        rig.daemon.up();
        rig.daemon.terminate();
        // Nothing is loaded, so that the WAL is the only place of the records.
        rig.postgres.down(Stop::Fast);
        rig.daemon
            .wrap(inject::strace(&["fdatasync", "fsync", "sync_file_range"].map(|call| format!("{call}:retval=0"))));
        rig.daemon.up();
        rig.produce(2);
        rig.until_acked(400);
        rig.daemon.wrap(Vec::new());
        cut(&mut rig, &disk);
        rig.postgres.up();
        let verdict = rig.verdict();
        assert!(verdict.lost > 0, "the harness cuts no power: {verdict:#?}");
        run.noticed(&verdict);
        run.step();
        drop(rig);
    }
}

fn on(disk: &Image, daemon: Daemon) -> Daemon {
    // A small disk, so a small reserve.
    daemon.with_data(&disk.data()).with("TALLYD_WAL_MIN_FREE_BYTES", "1048576")
}

/// Cuts the power under the running daemon, and starts it on the disk's copy.
fn cut(rig: &mut Rig, disk: &Image) {
    stop(rig.daemon.pid());
    disk.cut();
    rig.daemon.kill();
    disk.power_up();
    rig.daemon.up();
}
