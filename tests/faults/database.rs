//! PostgreSQL stops, dies, hangs, or blocks the daemon.

use std::time::{Duration, Instant};

use rand::RngExt;

use crate::rig::Rig;
use crate::run::Run;
use crate::support::postgres::{PsqlSession, Stop};
use crate::support::until;

/// How long PostgreSQL is down in a deep run.
const LONG: Duration = Duration::from_secs(60);
/// Rounds that share a database and a WAL.
const SERIES: u32 = 50;

const LANES_WAIT: &str = "SELECT count(*) > 0 FROM pg_stat_activity \
    WHERE application_name = 'tallyd flusher' AND wait_event_type = 'Lock'";

/// Waits until calls are loaded: before that, the tables to lock may not exist.
pub fn until_loading(rig: &Rig) {
    rig.postgres.until("SELECT count(*) > 0 FROM api_usage_log", "t");
}

/// Stops lanes in the middle of their transactions: the rows are copied, and the rollups cannot be written.
pub fn hold_lanes(rig: &Rig) -> PsqlSession {
    let mut holder = rig.postgres.session();
    holder.run("BEGIN; LOCK TABLE daily_api_costs IN SHARE MODE");
    rig.postgres.until(LANES_WAIT, "t");
    holder
}

/// Waits until the daemon has logged one more failed batch of this class than `before`.
fn until_failed(rig: &Rig, class: &str, before: usize) {
    until(&format!("a batch failed as {class}"), || {
        let found = failures(rig, class);
        if found > before { Ok(()) } else { Err(format!("{found} times")) }
    });
}

/// Waits until no lane is in trouble, because a failure that repeats is not logged again.
fn until_well(rig: &mut Rig) {
    rig.daemon.until_status("every lane loads", |status| status["health"]["flusher"]["status"] == "ok");
}

fn failures(rig: &Rig, class: &str) -> usize {
    rig.daemon.log().lines().filter(|line| line.contains("not loaded") && line.contains(class)).count()
}

/// Row 16: PostgreSQL is stopped under load, in a deep run for a minute. The WAL grows, no client waits, and all calls
/// load afterwards.
pub fn stopped_for_long(run: &mut Run) {
    for _ in run.rounds() {
        let mut rig = Rig::start(run, |daemon| daemon);
        rig.produce(4);
        until_loading(&rig);
        rig.postgres.down(Stop::Immediate);
        let (stopped, before) = (Instant::now(), rig.acked());
        rig.until_acked(2_000);
        while run.is_deep() && stopped.elapsed() < LONG {
            rig.until_acked(500);
        }
        let while_down = rig.acked() - before;
        let status = rig.daemon.until_status("it says that the database is gone", |status| {
            status["health"]["status"] == "degraded" && status["health"]["ingest"]["status"] == "ok"
        });
        let waiting = status["wal"]["unflushed_records"].as_u64().unwrap();
        assert!(waiting >= while_down, "{waiting} records wait, and {while_down} were acknowledged");
        run.figure("acked_while_down", while_down);
        rig.postgres.up();
        rig.judge(run);
        run.step();
    }
}

/// Row 17: the server's processes are killed while lanes are in the middle of a transaction.
pub fn killed_in_mid_transaction(run: &mut Run) {
    for series in run.series(SERIES) {
        let mut rig = Rig::start(run, |daemon| daemon);
        rig.produce(4);
        for _ in series {
            until_loading(&rig);
            let holder = hold_lanes(&rig);
            rig.postgres.down(Stop::Kill);
            drop(holder);
            rig.until_acked(100);
            rig.postgres.up();
            rig.drain_under_load(1_000);
            run.step();
        }
        rig.judge(run);
    }
}

/// Row 18: the connection breaks between a COMMIT and its reply. The watermark says that the batch is in.
pub fn commit_reply_lost(run: &mut Run) {
    for series in run.series(SERIES) {
        let mut rig = Rig::through_proxy(run, |daemon| daemon);
        rig.produce(4);
        // After the schema's own COMMITs.
        until_loading(&rig);
        for _ in series {
            let proxy = rig.proxy.as_ref().unwrap();
            let wanted = proxy.commits_lost() + 1;
            proxy.lose_commits(1);
            until("the answer to a COMMIT is lost", || {
                let lost = proxy.commits_lost();
                if lost >= wanted { Ok(()) } else { Err(format!("{lost} of {wanted}")) }
            });
            run.step();
        }
        // The last batch's reply gets lost, too, and no other batch follows that would show the lane that it loads.
        rig.rest();
        rig.drain();
        rig.proxy.as_ref().unwrap().lose_commits(1);
        rig.fresh_record();
        rig.judge(run);
    }
}

/// Row 19: a connection swallows a COPY and stays open. The deadline fires, and the batch is loaded again.
pub fn hangs_in_mid_copy(run: &mut Run) {
    for series in run.series(SERIES) {
        let mut rig = Rig::through_proxy(run, |daemon| daemon.with("TALLYD_FLUSHER_STATEMENT_DEADLINE_MS", "1000"));
        rig.produce(4);
        until_loading(&rig);
        for _ in series {
            let before = failures(&rig, "did not finish a batch");
            let proxy = rig.proxy.as_ref().unwrap();
            let wanted = proxy.copies_swallowed() + 1;
            proxy.swallow_copies(1);
            until("a COPY is swallowed", || {
                let swallowed = proxy.copies_swallowed();
                if swallowed >= wanted { Ok(()) } else { Err(format!("{swallowed} of {wanted}")) }
            });
            until_failed(&rig, "did not finish a batch", before);
            until_well(&mut rig);
            run.step();
        }
        rig.judge(run);
    }
}

/// Row 20: the lanes' sessions are terminated at random moments.
pub fn backend_terminated(run: &mut Run) {
    let terminate = "SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_stat_activity \
        WHERE application_name = 'tallyd flusher'";
    for series in run.series(SERIES) {
        let mut rig = Rig::start(run, |daemon| daemon);
        rig.produce(4);
        until_loading(&rig);
        for _ in series {
            rig.until_acked(run.rng.random_range(1..200));
            rig.postgres.until(terminate, "t");
            run.step();
        }
        rig.judge(run);
    }
}

/// Row 21: a session takes the rollups' locks in another order. PostgreSQL ends the lane's transaction, which waited
/// first, and the lane retries.
pub fn deadlock(run: &mut Run) {
    for series in run.series(SERIES) {
        let mut rig = Rig::start(run, |daemon| daemon.with("TALLYD_FLUSHER_LANES", "1"));
        rig.produce(4);
        until_loading(&rig);
        for _ in series {
            let before = failures(&rig, "40P01");
            let mut other = rig.postgres.session();
            // The rollup that lanes write last comes first. No sum changes.
            other.run("BEGIN; SET LOCAL deadlock_timeout = '100s'; UPDATE daily_api_costs SET updated_at = updated_at");
            rig.postgres.until(LANES_WAIT, "t");
            other.run("LOCK TABLE tallyd_user_deltas_0, tallyd_user_deltas_1 IN SHARE MODE");
            until_failed(&rig, "40P01", before);
            other.run("COMMIT");
            until_well(&mut rig);
            run.step();
        }
        rig.judge(run);
    }
}

/// Row 21: a lock is held. Lanes time out and retry until it is free.
pub fn lock_timeout(run: &mut Run) {
    for series in run.series(SERIES) {
        let mut rig = Rig::start(run, |daemon| daemon);
        rig.postgres.psql("ALTER DATABASE postgres SET lock_timeout = '50ms'");
        rig.postgres
            .psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tallyd flusher'");
        rig.produce(4);
        until_loading(&rig);
        for _ in series {
            let before = failures(&rig, "55P03");
            let mut holder = rig.postgres.session();
            holder.run("SET lock_timeout = 0; BEGIN; LOCK TABLE daily_api_costs IN SHARE MODE");
            until_failed(&rig, "55P03", before);
            rig.until_acked(50);
            holder.run("COMMIT");
            until_well(&mut rig);
            run.step();
        }
        rig.judge(run);
    }
}

/// A trigger that fails each batch with a serialization failure, as long as the table `conflict` has a row.
const CONFLICT: &str = "CREATE TABLE conflict (held boolean NOT NULL); \
    CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
        IF EXISTS (SELECT FROM conflict) THEN RAISE SQLSTATE '40001' USING MESSAGE = 'a conflict'; END IF; \
        RETURN NULL; END $$; \
    CREATE TRIGGER conflict BEFORE UPDATE ON daily_api_costs FOR EACH STATEMENT EXECUTE FUNCTION conflict()";

/// Changes the row that every batch adds to. More than one row, in another order than the lanes', would deadlock.
const CHANGE: &str = "BEGIN; UPDATE daily_api_costs SET updated_at = clock_timestamp() \
    WHERE (day, provider, model, endpoint) = \
        (SELECT day, provider, model, endpoint FROM daily_api_costs ORDER BY calls DESC LIMIT 1)";

/// Row 21: the database's default isolation is repeatable read. A batch does not fail when the rows that its lane
/// waited for have changed, and a serialization failure from elsewhere is retried.
pub fn serialization_failure(run: &mut Run) {
    for series in run.series(SERIES) {
        let mut rig = Rig::stopped(run, |daemon| daemon);
        rig.postgres.psql("ALTER DATABASE postgres SET default_transaction_isolation = 'repeatable read'");
        rig.daemon.up();
        rig.produce(4);
        until_loading(&rig);
        rig.postgres.psql(CONFLICT);
        for _ in series {
            let before = failures(&rig, "40001");
            let mut other = rig.postgres.session();
            other.run("SET default_transaction_isolation = 'read committed'");
            other.run(CHANGE);
            rig.postgres.until(LANES_WAIT, "t");
            other.run("COMMIT");
            until_loads_on(&rig);
            assert_eq!(failures(&rig, "40001"), before, "a lane met a change and its batch failed");
            other.run("INSERT INTO conflict VALUES (true)");
            until_failed(&rig, "40001", before);
            other.run("DELETE FROM conflict");
            until_well(&mut rig);
            run.step();
        }
        rig.judge(run);
    }
}

/// Waits until another call is loaded.
pub fn until_loads_on(rig: &Rig) {
    let calls = rig.postgres.psql("SELECT count(*) FROM api_usage_log");
    rig.postgres.until(&format!("SELECT count(*) > {calls} FROM api_usage_log"), "t");
}
