//! A damaged segment of the WAL: it is set aside with an alarm, and the other segments load. Its readable records are
//! loaded once, including those that were loaded before the damage.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::load::{Load, Sent};
use crate::support::postgres::{Postgres, Stop};
use crate::support::until;

/// Segments with a seal, the oldest first.
fn sealed(daemon: &Daemon) -> Vec<PathBuf> {
    let entries = fs::read_dir(daemon.data().join("wal")).unwrap().map(|entry| entry.unwrap().path());
    let mut stores: Vec<_> = entries.filter(|path| path.is_dir() && path.with_extension("sealed").exists()).collect();
    stores.sort();
    stores
}

/// Flips a bit in each `every`-th byte of a store's file, beginning at `from`.
fn flip(store: &std::path::Path, from: usize, every: usize) {
    let path = store.join("db");
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    assert!(end > from, "the store has {end} bytes");
    for at in (from..end).step_by(every) {
        bytes[at] ^= 0x10;
    }
    fs::write(path, bytes).unwrap();
}

fn json(daemon: &Daemon, arguments: &[&str]) -> Value {
    let output = daemon.run(&[&["wal"], arguments, &["--json"]].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

fn states(daemon: &Daemon) -> Vec<String> {
    let listed = json(daemon, &["list"]);
    listed.as_array().unwrap().iter().map(|segment| segment["state"].as_str().unwrap().to_owned()).collect()
}

fn sum(replayed: &Value, what: &str) -> u64 {
    replayed.as_array().unwrap().iter().map(|segment| segment[what].as_u64().unwrap()).sum()
}

/// Acknowledged records in several sealed segments, of which none is loaded. The daemon is not running afterwards.
fn backlog(daemon: &mut Daemon) -> Sent {
    let load = Load::start(&daemon.socket(), 2);
    load.until_acked(6_000);
    let sent = load.finish();
    assert_eq!(daemon.terminate().code(), Some(0));
    assert!(sealed(daemon).len() >= 3);
    sent
}

/// Small segments and a small hand-off, so that lanes read damaged segments from disk.
fn daemon(postgres: &Postgres) -> Daemon {
    Daemon::on(&postgres.url())
        .with("TALLYD_WAL_SEGMENT_BYTES", "65536")
        .with("TALLYD_WAL_RECENT_BYTES", "65536")
        .with("TALLYD_SHUTDOWN_DEADLINE_MS", "1000")
        .start()
}

#[test]
fn segments_are_listed_and_read_beside_a_running_daemon_without_disturbing_it() {
    let mut postgres = Postgres::stopped();
    let mut daemon = daemon(&postgres);
    let load = Load::start(&daemon.socket(), 2);
    load.until_acked(4_000);
    // Between the seal of one segment and the next one's file, none is active.
    let listed = until("two are sealed and one is active", || {
        let listed = json(&daemon, &["list"]);
        let in_state = |state| listed.as_array().unwrap().iter().filter(|segment| segment["state"] == state).count();
        if in_state("sealed") >= 2 && in_state("active") == 1 { Ok(listed) } else { Err(format!("{listed:#}")) }
    });
    for segment in listed.as_array().unwrap().iter().filter(|segment| segment["state"] == "sealed") {
        let name = segment["name"].as_str().unwrap();
        let read = json(&daemon, &["inspect", name]);
        assert_eq!(read["calls"], segment["records"], "{read:#}");
        assert_eq!(read["missing_keys"], 0);
        let lines = daemon.run(&["wal", "inspect", name, "--records"]).stdout;
        assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count() as u64, segment["records"].as_u64().unwrap());
        assert_eq!(daemon.run(&["wal", "replay", name]).status.code(), Some(1), "the daemon loads it by itself");
    }
    let active = listed.as_array().unwrap().iter().find(|segment| segment["state"] == "active").unwrap();
    assert!(json(&daemon, &["inspect", active["name"].as_str().unwrap()])["calls"].as_u64().is_some());
    postgres.up();
    load.finish().assert_in(&postgres);
    daemon.until_status("all is well", |status| status["health"]["status"] == "ok");
    daemon.assert_reconciled();
}

#[test]
fn what_is_left_of_segments_that_sled_cannot_read_is_loaded_once() {
    let mut postgres = Postgres::stopped();
    let mut daemon = daemon(&postgres);
    let sent = backlog(&mut daemon);
    // One store loses everything after its first page, one a value here and there.
    let stores = sealed(&daemon);
    flip(&stores[0], 0, usize::MAX);
    flip(&stores[1], 9_000, 30_000);
    postgres.up();
    daemon.up();
    // Its file is set aside after it has left the list of segments.
    let status = daemon.until_status("the rest is loaded, and what helps is said", |status| {
        let message = status["health"]["wal"]["message"].as_str().unwrap_or_default();
        let is_loaded = status["wal"]["damaged"] == true && status["wal"]["segments"].as_u64().unwrap() <= 2;
        is_loaded && message.contains("tallyd wal replay")
    });
    assert_eq!(status["health"]["wal"]["status"], "failing", "{status:#}");
    let set_aside = states(&daemon).iter().filter(|state| *state == "set_aside").count() as u64;
    assert!(set_aside >= 1, "{:?}", states(&daemon));
    let before: u64 = postgres.psql("SELECT count(*) FROM api_usage_log").parse().unwrap();
    assert!(before < sent.records(), "nothing was lost: the test proves nothing");

    let replayed = json(&daemon, &["replay", "--all"]);
    let after: u64 = postgres.psql("SELECT count(*) FROM api_usage_log").parse().unwrap();
    assert_eq!(after - before, sum(&replayed, "loaded"), "{replayed:#}");
    let missing = sum(&replayed, "missing_keys");
    assert!(missing < 20, "{replayed:#}");
    // A key has frames of one connection that arrived together: at most its window, 8 of 25 records.
    assert!(after + 8 * 25 * missing >= sent.records(), "{after} of {}: {replayed:#}", sent.records());
    assert!(sum(&replayed, "loaded") > 500, "{replayed:#}");
    daemon.assert_reconciled();
    daemon.until_status("health is well again", |status| status["health"]["status"] == "ok");
    assert_eq!(states(&daemon).iter().filter(|state| *state == "replayed").count() as u64, set_aside);

    for name in json(&daemon, &["list"]).as_array().unwrap().iter().filter(|segment| segment["state"] == "replayed") {
        let again = json(&daemon, &["replay", name["name"].as_str().unwrap()]);
        assert_eq!(sum(&again, "loaded"), 0, "{again:#}");
    }
    assert_eq!(postgres.psql("SELECT count(*) - count(DISTINCT id) FROM api_usage_log"), "0");
    daemon.assert_reconciled();
}

#[test]
fn a_segment_that_was_loaded_before_it_was_set_aside_adds_nothing() {
    let mut postgres = Postgres::stopped();
    let mut daemon = daemon(&postgres);
    let sent = backlog(&mut daemon);
    let stores = sealed(&daemon);
    let kept = stores[1].with_file_name("kept");
    for extension in ["", "open", "sealed"] {
        let from = stores[1].with_extension(extension);
        assert!(
            std::process::Command::new("cp")
                .arg("-a")
                .arg(&from)
                .arg(kept.with_extension(extension))
                .status()
                .unwrap()
                .success()
        );
    }
    postgres.up();
    daemon.up();
    sent.assert_in(&postgres);
    // The segment is set aside as it was, as if a bit had flipped after its last record was loaded.
    let name = stores[1].file_name().unwrap().to_str().unwrap().to_owned();
    let folder = daemon.data().join("wal/damaged").join(format!("{name}-1"));
    fs::create_dir_all(&folder).unwrap();
    for extension in ["", "open", "sealed"] {
        fs::rename(kept.with_extension(extension), folder.join(&name).with_extension(extension)).unwrap();
    }
    let replayed = json(&daemon, &["replay", &format!("{name}-1")]);
    assert_eq!(sum(&replayed, "loaded"), 0, "{replayed:#}");
    assert!(sum(&replayed, "there") > 300, "{replayed:#}");
    sent.assert_only(&postgres);
    daemon.assert_reconciled();
}

#[test]
fn a_replay_that_is_killed_or_raced_loads_each_record_once() {
    let mut postgres = Postgres::stopped();
    let mut daemon = daemon(&postgres);
    let sent = backlog(&mut daemon);
    // The seal is damaged, not the store: the segment is set aside whole, and all of it is readable.
    let seal = sealed(&daemon)[1].with_extension("sealed");
    fs::write(&seal, fs::read_to_string(&seal).unwrap().replace("records", "recordz")).unwrap();
    let opening = sealed(&daemon)[2].with_extension("open");
    fs::write(&opening, "00000000 {}\n").unwrap();
    postgres.up();
    daemon.up();
    daemon.until_status("the rest is loaded", |status| {
        status["wal"]["unflushed_records"] == 0 && status["wal"]["segments"].as_u64().unwrap() <= 2
    });
    let before: u64 = postgres.psql("SELECT count(*) FROM api_usage_log").parse().unwrap();
    assert!(before < sent.records());

    let spawn = || {
        let mut command = daemon.command(&["wal", "replay", "--all"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut holder = postgres.session();
    holder.run("BEGIN; LOCK TABLE daily_api_costs IN SHARE MODE");
    let mut killed = spawn();
    let waiting = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
        AND application_name = 'tallyd replay'";
    postgres.until(waiting, "t");
    killed.kill().unwrap();
    killed.wait().unwrap();
    holder.run("COMMIT");
    let racers = [spawn(), spawn(), spawn()];
    for racer in racers {
        let output = racer.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    sent.assert_only(&postgres);
    daemon.assert_reconciled();
    postgres.down(Stop::Fast);
}

#[test]
fn calls_of_days_that_the_log_has_no_more_are_left_out_and_counted() {
    let mut postgres = Postgres::stopped();
    let mut daemon = daemon(&postgres);
    let sent = backlog(&mut daemon);
    let seal = sealed(&daemon)[1].with_extension("sealed");
    fs::write(&seal, fs::read_to_string(&seal).unwrap().replace("records", "recordz")).unwrap();
    postgres.up();
    daemon.up();
    daemon.until_status("the rest is loaded", |status| {
        status["wal"]["unflushed_records"] == 0 && status["wal"]["segments"].as_u64().unwrap() <= 2
    });
    let loaded: u64 = postgres.psql("SELECT count(*) FROM api_usage_log").parse().unwrap();
    assert_eq!(daemon.terminate().code(), Some(0));
    // Rows were deleted, as retention would: it is unknown which of the segment's calls were among them.
    postgres.psql("DELETE FROM api_usage_log");
    let replayed = json(&daemon, &["replay", "--all"]);
    assert_eq!(sum(&replayed, "loaded"), 0, "{replayed:#}");
    assert_eq!(sum(&replayed, "expired"), sent.records() - loaded, "{replayed:#}");
    assert_eq!(postgres.psql("SELECT sum(calls) FROM daily_api_costs"), loaded.to_string(), "nothing is counted twice");
}
