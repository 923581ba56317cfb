//! The WAL's files are damaged, or two daemons open the same ones.

use std::fs;
use std::path::{Path, PathBuf};

use rand::RngExt;
use serde_json::Value;

use crate::rig::Rig;
use crate::run::Run;
use crate::support::postgres::Stop;

/// Row 13: bits flip in the stores of segments while the daemon is down, and each value's checksum finds them. No
/// altered record is loaded, the readable ones are loaded, the damaged store is set aside whole, and health reports it.
/// A command loads the readable records of that store, once.
pub fn flipped_bits(run: &mut Run) {
    let (mut lost, mut set_aside, mut back) = (0, 0, 0);
    for _ in run.rounds() {
        let mut rig = Rig::start(run, |daemon| daemon);
        rig.postgres.until("SELECT to_regclass('api_usage_log') IS NOT NULL", "t");
        // A backlog of several segments, of which nothing is loaded.
        rig.postgres.down(Stop::Fast);
        rig.produce(3);
        rig.until_acked(3_000);
        rig.rest();
        rig.daemon.kill();
        let flips = run.rng.random_range(1..=3);
        for _ in 0..flips {
            flip(run, &rig.daemon.data().join("wal"));
        }
        rig.postgres.up();
        rig.daemon.up();
        let verdict = rig.verdict();
        run.count_acked(&verdict);
        assert!(verdict.doubled == 0 && verdict.altered == 0 && verdict.foreign == 0, "{verdict:#?}");
        if verdict.lost > 0 {
            lost += verdict.lost;
            set_aside += 1;
            rig.daemon.until_status("health is red", |status| status["health"]["wal"]["status"] == "failing");
            let damaged = fs::read_dir(rig.daemon.data().join("wal/damaged")).unwrap().count();
            assert!((1..=flips).contains(&damaged), "{flips} bits flipped, {damaged} segments set aside: {verdict:#?}");
            for _ in 0..2 {
                let replayed = rig.daemon.run(&["wal", "replay", "--all"]);
                assert!(replayed.status.success(), "{replayed:?}");
            }
            let after = rig.verdict();
            assert!(after.doubled == 0 && after.altered == 0 && after.foreign == 0, "{after:#?}");
            assert!(after.lost <= verdict.lost, "before the replay {verdict:#?}, after it {after:#?}");
            back += verdict.lost - after.lost;
        }
        rig.daemon.assert_reconciled();
        rig.fresh_record();
        run.step();
    }
    run.figure("records_in_damaged_segments", lost);
    run.figure("of_those_loaded_by_replay", back);
    run.figure("runs_with_damage_found", set_aside);
}

/// Flips one bit of one store.
fn flip(run: &mut Run, wal: &Path) {
    let mut files: Vec<_> = stores(wal).into_iter().map(|store| store.join("db")).collect();
    // A store is empty if the kill came between its creation and its first write.
    files.retain(|file| fs::metadata(file).unwrap().len() > 0);
    let file = &files[run.rng.random_range(0..files.len())];
    let mut bytes = fs::read(file).unwrap();
    // Only written bytes are worth damaging.
    let written = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
    let at = run.rng.random_range(0..written);
    bytes[at] ^= 1 << run.rng.random_range(0..8);
    fs::write(file, bytes).unwrap();
}

fn stores(wal: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(wal).unwrap().map(|entry| entry.unwrap().path());
    let mut stores: Vec<_> = entries.filter(|path| path.join("db").exists()).collect();
    stores.sort();
    stores
}

/// Row 14: each store has a snapshot that sled was writing when it died. The WAL opens.
pub fn torn_snapshots(run: &mut Run) {
    let mut rig = Rig::start(run, |daemon| daemon);
    rig.produce(2);
    for _ in run.rounds() {
        rig.until_acked(200);
        rig.daemon.kill();
        for store in stores(&rig.daemon.data().join("wal")) {
            let torn: Vec<u8> = (0..run.rng.random_range(0..5_000)).map(|_| run.rng.random()).collect();
            let name = format!("snap.{:016X}.generating", run.rng.random::<u64>());
            fs::write(store.join(name), torn).unwrap();
        }
        rig.daemon.up();
        run.step();
    }
    rig.judge(run);
}

/// Row 15: a second daemon starts on the folder that a running daemon holds. It is refused, its error names the holder,
/// and the first daemon is not disturbed.
pub fn a_second_daemon(run: &mut Run) {
    let mut rig = Rig::start(run, |daemon| daemon);
    rig.produce(2);
    for _ in run.rounds() {
        rig.until_acked(100);
        let second = rig.daemon.run(&["serve"]);
        let said = String::from_utf8_lossy(&second.stderr);
        assert_eq!(second.status.code(), Some(3), "{said}");
        assert!(said.contains(&format!("process {}", rig.daemon.pid())), "{said}");
        run.step();
    }
    rig.judge(run);
    let _: Value = rig.daemon.until_status("it is well", |status| status["health"]["status"] == "ok");
}
