//! Partitions are in Parquet files before they are dropped, whole and verified, however often that is killed.

mod bucket;
mod s3;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::support::bound_to_us;
use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;

const DROP: [&str; 5] = ["partitions", "drop", "--before", "2025-03-01", "--yes"];
const OLD: &str = "SELECT count(*) FROM tallyd_partitions() WHERE to_at <= '2025-03-01Z'";
/// The command waits for a lock that the test holds.
const WAITS: &str = "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'tallyd partitions' AND wait_event_type = 'Lock'";
/// Every column of every call.
const ALL: &str = "SELECT md5(string_agg(t::text, E'\\n' ORDER BY id)) FROM";

/// Calls of January and February of 2025: priced, unpriced, with everything that a call can have.
fn calls() -> String {
    let call = |number: usize| {
        let at = format!("2025-0{}-{:02}T{:02}:10:00.123456Z", 1 + number % 2, 1 + number % 28, number % 24);
        let what = match number % 3 {
            0 => r#""provider":"claude","model":"claude-sonnet-4-5","input_tokens":1234,"output_tokens":567,"extra_units":{"web_search":2}"#.to_owned(),
            1 => format!(r#""provider":"acme","cost_usd":"0.00000000000000{number:04}","metadata":{{"n":[1.50,"ü\"\\"]}}"#),
            _ => r#""provider":"claude","model":"unheard-of","input_tokens":11,"status":500,"latency_ms":7"#.to_owned(),
        };
        format!(
            "{{{what},\"occurred_at\":\"{at}\",\"user_id\":\"u{}\",\"tags\":{{\"team\":\"t{}\"}}}}\n",
            number % 7,
            number % 2
        )
    };
    (0..300).map(call).collect()
}

fn json(daemon: &Daemon, arguments: &[&str]) -> Value {
    let output = daemon.run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Starts the command, waits until it waits for a lock, and kills it.
fn kill_while_it_waits(postgres: &Postgres, daemon: &Daemon) {
    let settings = daemon.command(&DROP);
    let mut command = bound_to_us(env!("CARGO_BIN_EXE_tallyd"));
    command.args(settings.get_args()).current_dir(settings.get_current_dir().unwrap()).env_clear();
    command.envs(settings.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut dropping = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    postgres.until(WAITS, "t");
    dropping.kill().unwrap();
    dropping.wait().unwrap();
    postgres.until("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tallyd partitions'", "0");
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn a_partition_is_in_its_file_before_it_is_dropped_however_often_that_is_killed() {
    let postgres = Postgres::start();
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("archive");
    let mut daemon = Daemon::on(&postgres.url())
        .with("TALLYD_RETENTION_ARCHIVE", &archive.display().to_string())
        .with("TALLYD_DIMENSIONS_NAMES", "team")
        .start();
    daemon.lines(&calls());
    postgres.until_calls(300);
    let january = "api_usage_log_2025_01";

    // Killed before the file has its row: it does not have its name either.
    let mut holder = postgres.session();
    holder.run("BEGIN; LOCK TABLE tallyd_archives IN SHARE MODE");
    kill_while_it_waits(&postgres, &daemon);
    holder.run("ROLLBACK");
    assert_eq!(postgres.psql("SELECT count(*) FROM tallyd_archives"), "0");
    assert!(files(&archive).iter().all(|file| file.extension().unwrap() == "part"), "{:?}", files(&archive));

    // Killed between the file and the emptying. A call that arrives now makes that file outdated.
    holder.run(&format!("BEGIN; LOCK TABLE {january} IN ROW EXCLUSIVE MODE"));
    kill_while_it_waits(&postgres, &daemon);
    holder.run("ROLLBACK");
    assert_eq!(postgres.psql("SELECT count(*) FROM tallyd_archives WHERE emptied_at IS NULL AND calls = 150"), "1");
    let first = files(&archive);
    assert_eq!(first.len(), 1, "{first:?}");
    daemon.lines("{\"provider\":\"acme\",\"occurred_at\":\"2025-01-05T00:00:00Z\",\"user_id\":\"u1\"}\n");
    postgres.until_calls(301);
    assert_eq!(postgres.psql(OLD), "2");

    // A row that was not verified is discarded, and written anew under its name.
    postgres.psql("UPDATE tallyd_archives SET verified_at = NULL, sha256 = 'x'");
    assert_eq!(json(&daemon, &["archive", "list", "--json"]).as_array().unwrap().len(), 0);

    // Killed while the partition is being emptied: its file is taken up by the next run.
    holder.run(&format!("BEGIN; SELECT count(*) FROM {january}"));
    kill_while_it_waits(&postgres, &daemon);
    holder.run("ROLLBACK");
    assert_eq!(postgres.psql("SELECT calls FROM tallyd_archives"), "151");
    let whole = files(&archive);
    assert!(whole.len() == 1 && whole != first, "{first:?} {whole:?}");
    assert_eq!(daemon.assert_reconciled()["log_rows"], 301);

    let old = postgres.psql(&format!("{ALL} api_usage_log AS t"));
    assert!(daemon.run(&DROP).status.success());
    assert_eq!(postgres.psql(OLD), "0");
    assert_eq!(daemon.assert_reconciled()["dropped_rows"], 301);
    assert!(files(&archive).contains(&whole[0]), "it was not written anew");

    // The daemon does the same by itself; calls that came late get a file of their own.
    daemon.lines(
        "{\"provider\":\"acme\",\"occurred_at\":\"2025-01-06T00:00:00Z\",\"user_id\":\"late\",\"cost_usd\":\"0.5\"}\n",
    );
    postgres.until_calls(1);
    assert_eq!(daemon.terminate().code(), Some(0));
    daemon.set("TALLYD_RETENTION_LOG_DAYS", "400");
    daemon.up();
    postgres.until(OLD, "0");
    assert_eq!(daemon.assert_reconciled()["dropped_rows"], 302);

    let listed = json(&daemon, &["archive", "list", "--json"]);
    let sum = |name: &str| listed.as_array().unwrap().iter().map(|one| one[name].as_i64().unwrap()).sum::<i64>();
    assert_eq!((listed.as_array().unwrap().len(), sum("calls"), sum("unpriced_calls")), (3, 302, 101), "{listed:#}");
    assert!(listed.as_array().unwrap().iter().all(|one| one["emptied_at"].is_string()), "{listed:#}");
    assert!(daemon.run(&["archive", "verify"]).status.success());

    // A user who is forgotten after that has no name in restored calls.
    let forget = daemon.run(&["users", "forget", "late", "--yes"]);
    assert!(forget.status.success(), "{}", String::from_utf8_lossy(&forget.stderr));
    for one in listed.as_array().unwrap() {
        let restored = daemon.run(&["archive", "restore", &one["id"].to_string()]);
        assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    }
    let ids: Vec<i64> = listed.as_array().unwrap().iter().map(|one| one["id"].as_i64().unwrap()).collect();
    let tables: Vec<String> = ids.iter().map(|id| format!("SELECT * FROM tallyd_restored_{id}")).collect();
    let restored = format!("({}) AS t", tables.join(" UNION ALL "));
    assert_eq!(postgres.psql(&format!("{ALL} {restored} WHERE occurred_at <> '2025-01-06Z'")), old);
    assert_eq!(postgres.psql(&format!("SELECT count(*) FROM {restored} WHERE user_id = 'late'")), "0");
    let open = "SELECT count(*) FROM pg_class WHERE relname LIKE 'tallyd\\_restored\\_%' AND NOT relrowsecurity";
    assert_eq!(postgres.psql(open), "0");
    assert_eq!(daemon.assert_reconciled()["dropped_rows"], 302);

    // Each of these commands would lose something, or say nothing of it.
    let (again, first) = (daemon.run(&["archive", "restore", &ids[0].to_string()]), &ids[0]);
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(!again.status.success() && said.contains(&format!("DROP TABLE public.tallyd_restored_{first}")), "{said}");
    let bare = daemon.command(&DROP).env_remove("TALLYD_RETENTION_ARCHIVE").output().unwrap();
    let said = String::from_utf8_lossy(&bare.stderr).into_owned();
    assert!(!bare.status.success() && said.contains("--without-archive"), "{said}");
    let export = ["export", "calls", "--from", "2025-01-01", "--to", "2025-12-31", "--format", "ndjson"];
    let said = String::from_utf8(daemon.run(&export).stderr).unwrap();
    assert!(said.contains("302 calls of these days left the call log"), "{said}");

    // A changed byte is found, and such a file is not restored.
    let damaged = &files(&archive)[0];
    let mut bytes = std::fs::read(damaged).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(damaged, bytes).unwrap();
    let verified = daemon.run(&["archive", "verify"]);
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    let name = damaged.file_name().unwrap().to_str().unwrap();
    assert!(verified.status.code() == Some(1) && said.matches("whole").count() == 2 && said.contains(name), "{said}");
}
