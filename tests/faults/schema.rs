//! The database's tables, accounts or rows are not as the daemon expects.

use rand::RngExt;
use serde_json::Value;

use crate::calls;
use crate::database::{until_loading, until_loads_on};
use crate::inject::failpoints;
use crate::producers::{Acked, Ledger};
use crate::rig::Rig;
use crate::run::Run;

/// Rounds that share a database and a WAL.
const SERIES: u32 = 20;
/// Records of the frame with poison rows.
const FRAME: u64 = 60;

fn holds(status: &Value) -> bool {
    let lanes = status["database"]["lanes"].as_array().unwrap();
    status["health"]["status"] == "failing" && lanes.iter().any(|lane| lane["hold"] == true)
}

/// Waits until loading holds and health gives the hint `told`, then lets the producers send more.
fn until_held(rig: &mut Rig, told: &str) {
    let status = rig.daemon.until_status("loading holds", |status| {
        let message = status["health"]["flusher"]["message"].as_str().unwrap_or_default();
        holds(status) && message.contains(told)
    });
    assert_eq!(status["health"]["ingest"]["status"], "ok", "{status:#}");
    rig.until_acked(200);
}

fn until_released(rig: &mut Rig) {
    rig.daemon.until_status("loading goes on by itself", |status| !holds(status));
    until_loads_on(rig);
}

/// Row 22: rows that pass validation and that PostgreSQL refuses, among many that it takes. Only the refused ones
/// become dead letters, each once.
pub fn poison_rows(run: &mut Run) {
    let mut rig = Rig::start(run, |daemon| daemon);
    rig.produce(2);
    // A constraint that somebody has added to the call log.
    rig.postgres.until("SELECT to_regclass('api_usage_log') IS NOT NULL", "t");
    rig.postgres.alter("ALTER TABLE api_usage_log ADD CONSTRAINT no_poison CHECK (request_id <> 'poison')");
    let producer = calls::FLAWLESS + rig.own_producer();
    let mut ledger = Ledger { producer, ..Ledger::default() };
    let (mut session, mut poison) = (rig.daemon.session("faults-poison"), 0);
    for round in run.rounds() {
        let first = u64::from(round) * FRAME + 1;
        let mut records: Vec<_> = (first..first + FRAME).map(|seq| calls::call(producer, seq)).collect();
        let guilty: Vec<_> = records.iter().map(|_| run.rng.random_range(0..10) == 0).collect();
        for ((record, seq), is_guilty) in records.iter_mut().zip(first..).zip(guilty) {
            if is_guilty {
                record.request_id = "poison".into();
                poison += 1;
            } else {
                ledger.acked.push(Acked { seq, print: calls::fingerprint(record), refused: false });
            }
        }
        session.send(first, &records).unwrap();
        ledger.sent = first + FRAME - 1;
        assert_eq!(session.recv_ack().unwrap().seq, ledger.sent);
        run.step();
    }
    rig.add_ledger(ledger);
    let letters = "SELECT count(*), count(DISTINCT (wal_seq, position)) FROM dead_letters WHERE kind = 'poison'";
    rig.postgres.until(letters, &format!("{poison}|{poison}"));
    // A retry fails for them again; corrected, they are ordinary calls.
    let retry = |rig: &Rig, more: &[&str]| {
        let asked = [&["dead-letters", "retry", "--kind", "poison", "--json"], more].concat();
        serde_json::from_slice::<Value>(&rig.daemon.run(&asked).stdout).unwrap()
    };
    assert_eq!(retry(&rig, &[])["refused"].as_array().unwrap().len(), poison);
    assert_eq!(retry(&rig, &["--set", "request_id=fine"])["retried"], poison);
    rig.daemon.assert_reconciled();
    run.figure("poison", poison);
    // The oracle knows neither these calls nor their dead letters.
    rig.rest();
    rig.drain();
    let ids = "SELECT record_id FROM dead_letters WHERE kind = 'poison'";
    rig.postgres.psql(&format!(
        "DELETE FROM api_usage_log WHERE id IN ({ids}); DELETE FROM dead_letters WHERE kind = 'poison'"
    ));
    rig.daemon.terminate();
    let rebuilt = rig.daemon.run(&["rollups", "rebuild", "--time-zone", "UTC", "--yes"]);
    assert!(rebuilt.status.success(), "{rebuilt:?}");
    rig.daemon.up();
    rig.judge(run);
}

/// Row 23: the partition of all calls is dropped under the daemon. The daemon believes that it exists, or has just
/// created it and not used it yet. It is created again.
pub fn partition_dropped(run: &mut Run) {
    for series in run.series(SERIES) {
        let vanishes = "flusher.partition_vanishes=2*return->2*off->1*return->off";
        let mut rig = Rig::start(run, |daemon| failpoints(daemon).with("FAILPOINTS", vanishes));
        rig.produce(4);
        until_loading(&rig);
        rig.postgres.psql("CREATE TABLE saved AS SELECT * FROM api_usage_log WHERE false");
        for _ in series {
            // Its rows are put back in the end, so that the oracle finds them.
            rig.postgres.alter(
                "LOCK TABLE api_usage_log IN ACCESS EXCLUSIVE MODE; \
                 INSERT INTO saved SELECT * FROM api_usage_log_2026_03; DROP TABLE api_usage_log_2026_03",
            );
            rig.postgres.until("SELECT count(*) > 0 FROM api_usage_log", "t");
            run.step();
        }
        rig.rest();
        rig.drain();
        rig.postgres.psql("INSERT INTO api_usage_log SELECT * FROM saved");
        rig.judge(run);
    }
}

/// Row 23: columns are renamed, retyped and dropped. Loading holds, and no row becomes a dead letter. Once the change
/// is undone, loading continues by itself.
pub fn table_changed(run: &mut Run) {
    let changes = [
        (
            "ALTER TABLE api_usage_log RENAME COLUMN app TO application",
            "ALTER TABLE api_usage_log RENAME COLUMN application TO app",
        ),
        (
            // PostgreSQL refuses to change a type below a view.
            "DROP VIEW IF EXISTS tallyd_view_calls; ALTER TABLE api_usage_log ALTER COLUMN input_tokens TYPE int4",
            "ALTER TABLE api_usage_log ALTER COLUMN input_tokens TYPE int8",
        ),
        (
            "ALTER TABLE daily_api_costs RENAME COLUMN calls TO count",
            "ALTER TABLE daily_api_costs RENAME COLUMN count TO calls",
        ),
    ];
    for series in run.series(SERIES) {
        let mut rig = Rig::start(run, |daemon| daemon);
        rig.produce(4);
        until_loading(&rig);
        for round in series {
            let (change, back) = changes[round as usize % changes.len()];
            rig.postgres.alter(change);
            until_held(&mut rig, "goes on by itself");
            rig.postgres.alter(back);
            until_released(&mut rig);
            run.step();
        }
        assert_eq!(rig.postgres.psql("SELECT count(*) FROM dead_letters WHERE kind = 'poison'"), "0");
        rig.judge(run);
    }
}

/// Row 24: the password changes under the daemon, and changes back.
pub fn wrong_password(run: &mut Run) {
    for series in run.series(SERIES) {
        let mut rig = Rig::stopped(run, |daemon| daemon);
        rig.postgres.role_with_password("tally", "right");
        let url = rig.postgres.url().replace("user=postgres", "user=tally password=right");
        rig.daemon.set("TALLYD_DATABASE_URL", &url);
        rig.daemon.up();
        rig.produce(4);
        until_loading(&rig);
        for _ in series {
            rig.postgres.psql("ALTER ROLE tally PASSWORD 'wrong'");
            rig.postgres.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'tally'");
            until_held(&mut rig, "pg_hba.conf");
            rig.postgres.psql("ALTER ROLE tally PASSWORD 'right'");
            until_released(&mut rig);
            run.step();
        }
        rig.judge(run);
    }
}

/// Row 24: a table is missing, and comes back.
pub fn table_missing(run: &mut Run) {
    let tables = ["ingest_watermark", "api_usage_log", "tallyd_delta_ring"];
    for series in run.series(SERIES) {
        let mut rig = Rig::start(run, |daemon| daemon);
        rig.produce(4);
        until_loading(&rig);
        for round in series {
            let table = tables[round as usize % tables.len()];
            rig.postgres.alter(&format!("ALTER TABLE {table} RENAME TO misplaced"));
            until_held(&mut rig, table);
            rig.postgres.alter(&format!("ALTER TABLE misplaced RENAME TO {table}"));
            until_released(&mut rig);
            run.step();
        }
        rig.judge(run);
    }
}
