//! The power fails, and the disk lies.

use rand::RngExt;

use crate::inject::{self, stop};
use crate::power::Image;
use crate::rig::Rig;
use crate::run::Run;
use crate::support::daemon::Daemon;
use crate::support::postgres::Stop;

/// Cuts that share a disk, a database and a log.
const SERIES: u32 = 10;

/// Row 7: the power fails under load, again and again. Whatever was acknowledged by then is on the disk.
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

/// Row 10, the proof that row 7 can fail: every sync does nothing and says that it was done. The oracle must find
/// acknowledged records lost, or the log set aside as damaged with them.
pub fn a_disk_that_lies_is_noticed(run: &mut Run) {
    if !inject::can_trace(run) {
        return;
    }
    for _ in run.rounds() {
        let Some(disk) = Image::mounted(run) else { return };
        let mut rig = Rig::stopped(run, |daemon| on(&disk, daemon));
        // The folder is made with syncs that work: what is looked for are lost records, not a daemon that cannot start.
        rig.daemon.up();
        rig.daemon.terminate();
        // Nothing leaves the log: it is the only place that could have kept a record.
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

/// Cuts the daemon's power under its feet, and starts it on what the disk has kept.
fn cut(rig: &mut Rig, disk: &Image) {
    stop(rig.daemon.pid());
    disk.cut();
    rig.daemon.kill();
    disk.power_up();
    rig.daemon.up();
}
