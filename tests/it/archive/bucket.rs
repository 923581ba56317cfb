//! An archive in a bucket: the same promises as in a folder, and the faults of a service.

use std::process::{Command, Stdio};

use super::s3::{Fault, KEY, REGION, S3};
use super::{ALL, DROP, OLD, calls, json};
use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;
use crate::support::{bound_to_us, until};

const ROWS: &str = "SELECT string_agg(file, ' ') FROM tallyd_archives";
const ENDED: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tallyd partitions'";

/// A daemon with an archive in the service's bucket. Its key is in a file and a variable.
fn archiving(postgres: &Postgres, s3: &S3) -> Daemon {
    let daemon = Daemon::on(&postgres.url())
        .with("TALLYD_RETENTION_ARCHIVE", "s3://calls/of/tallyd")
        .with("TALLYD_RETENTION_S3_ENDPOINT", &s3.url)
        .with("TALLYD_RETENTION_S3_REGION", REGION)
        .with("TALLYD_RETENTION_S3_ACCESS_KEY_ID", "env:ARCHIVE_KEY")
        .with("TALLYD_RETENTION_S3_PATIENCE_MS", "10000")
        .with("ARCHIVE_KEY", KEY);
    let secret = daemon.data().parent().unwrap().join("secret");
    std::fs::write(&secret, "a secret\n").unwrap();
    daemon.with("TALLYD_RETENTION_S3_SECRET_ACCESS_KEY", &format!("file:{}", secret.display()))
}

/// Starts the command, waits until its request is stalled, and kills it.
fn kill_while_stalled(postgres: &Postgres, daemon: &Daemon, s3: &S3) {
    let settings = daemon.command(&DROP);
    let mut command: Command = bound_to_us(env!("CARGO_BIN_EXE_tallyd"));
    command.args(settings.get_args()).current_dir(settings.get_current_dir().unwrap()).env_clear();
    command.envs(settings.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut dropping = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    s3.until_stalled();
    dropping.kill().unwrap();
    dropping.wait().unwrap();
    s3.fault(None);
    postgres.until(ENDED, "0");
    let proof = daemon.assert_reconciled();
    assert_eq!(proof["log_rows"].as_u64().unwrap() + proof["dropped_rows"].as_u64().unwrap(), 300);
    // An object without a row would be counted twice by a reader of all objects.
    let rows = postgres.psql(ROWS);
    assert!(s3.names().iter().all(|name| rows.contains(name)), "{:?} {rows}", s3.names());
}

/// Runs the command, which fails, and returns its message.
fn refused(daemon: &Daemon) -> String {
    let output = daemon.run(&DROP);
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_partition_is_in_the_bucket_before_it_is_dropped_however_often_that_is_killed() {
    let (postgres, s3) = (Postgres::start(), S3::start());
    let daemon = archiving(&postgres, &s3).start();
    daemon.lines(&calls());
    postgres.until_calls(300);
    let old = postgres.psql(&format!("{ALL} api_usage_log AS t"));

    for step in [
        ("POST", "?uploads", Fault::StallBefore),
        ("PUT", "partNumber=1", Fault::StallAfter),
        ("POST", "uploadId", Fault::StallBefore),
        ("POST", "uploadId", Fault::StallAfter),
        ("GET", "2025_01", Fault::StallBefore),
        ("GET", "2025_02", Fault::StallBefore),
    ] {
        s3.fault(Some(step));
        kill_while_stalled(&postgres, &daemon, &s3);
    }
    // The last kill left January dropped, and February in its object and not verified.
    assert_eq!(postgres.psql(OLD), "1");
    assert!(daemon.run(&DROP).status.success());
    assert_eq!(postgres.psql(OLD), "0");
    assert_eq!(daemon.assert_reconciled()["dropped_rows"], 300);
    let listed = json(&daemon, &["archive", "list", "--json"]);
    let mut files: Vec<_> = listed.as_array().unwrap().iter().map(|one| one["file"].as_str().unwrap()).collect();
    files.sort_unstable();
    assert_eq!(s3.names(), files);
    assert!(daemon.run(&["archive", "verify"]).status.success());

    let mut tables = Vec::new();
    for one in listed.as_array().unwrap() {
        let restored = daemon.run(&["archive", "restore", &one["id"].to_string()]);
        assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
        tables.push(format!("SELECT * FROM tallyd_restored_{}", one["id"]));
    }
    assert_eq!(postgres.psql(&format!("{ALL} ({}) AS t", tables.join(" UNION ALL "))), old);

    s3.damage(files[0]);
    let verified = daemon.run(&["archive", "verify"]);
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(verified.status.code() == Some(1) && said.contains("are not the ones that were written"), "{said}");
}

#[test]
fn a_service_that_fails_is_told_with_a_hint_and_loading_goes_on() {
    let (postgres, s3) = (Postgres::start(), S3::start());
    let mut daemon = archiving(&postgres, &s3).start();
    daemon.lines(&calls());
    postgres.until_calls(300);

    // A service that is busy for a moment costs a moment.
    s3.fault(Some(("PUT", "partNumber", Fault::Answer("503 Slow Down", "SlowDown", 2))));
    s3.asked();
    daemon.set("TALLYD_RETENTION_LOG_DAYS", "400");
    assert!(daemon.run(&["partitions", "drop", "--before", "2025-02-01", "--yes"]).status.success());
    assert_eq!(s3.asked().iter().filter(|asked| asked.contains("partNumber=1")).count(), 3);
    assert_eq!(s3.names().len(), 1);

    daemon.set("TALLYD_RETENTION_S3_PATIENCE_MS", "50");
    for (method, text, status, code, hint) in [
        ("POST", "uploads", "403 Forbidden", "AccessDenied", "s3:PutObject"),
        ("POST", "uploads", "404 Not Found", "NoSuchBucket", "make the bucket"),
        ("PUT", "partNumber", "503 Slow Down", "SlowDown", "fewer requests"),
        ("POST", "uploadId", "500 Internal Server Error", "InternalError", "tallyd doctor"),
        ("GET", "2025_02", "403 Forbidden", "AccessDenied", "s3:GetObject"),
    ] {
        s3.fault(Some((method, text, Fault::Answer(status, code, usize::MAX))));
        let said = refused(&daemon);
        let whole =
            said.contains(code) && said.contains(hint) && said.contains("s3://calls/of/tallyd/api_usage_log_2025_02");
        assert!(whole && said.contains("api_usage_log_2025_02 was not archived and stays"), "{said}");
    }
    assert_eq!(s3.uploads(), 0, "uploads of failed runs are aborted");

    // The daemon tells it by its metric, and goes on loading.
    s3.fault(Some(("POST", "uploads", Fault::Answer("403 Forbidden", "AccessDenied", usize::MAX))));
    daemon.terminate();
    daemon.up();
    let shown = |daemon: &Daemon, value: &str| {
        until("the metric", || {
            let metrics = daemon.metrics();
            if metrics.contains(&format!("tallyd_archive_failing {value}")) { Ok(()) } else { Err(metrics) }
        });
    };
    shown(&daemon, "1");
    daemon.lines("{\"provider\":\"acme\",\"cost_usd\":\"0.5\"}\n");
    postgres.until_calls(151);

    let doctor = daemon.run(&["doctor"]);
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(
        doctor.status.code() == Some(1) && said.contains("AccessDenied") && said.contains("s3:PutObject"),
        "{said}"
    );
    s3.fault(None);
    let said = String::from_utf8(daemon.run(&["doctor"]).stdout).unwrap();
    assert!(said.contains("s3://calls/of/tallyd: a small file was written"), "{said}");
    // The host's name may have the bucket.
    let by_host = daemon.command(&["doctor"]).env("TALLYD_RETENTION_S3_PATH_STYLE", "false").output().unwrap();
    assert!(String::from_utf8_lossy(&by_host.stdout).contains("a small file was written"));
    assert!(s3.asked().iter().any(|asked| asked.contains(" /of/tallyd/.tallyd-doctor")));

    daemon.terminate();
    daemon.up();
    shown(&daemon, "0");
    postgres.until(OLD, "0");
    assert_eq!(daemon.assert_reconciled()["dropped_rows"], 300);

    // A missing setting is told before anything is sent.
    daemon.set("TALLYD_RETENTION_S3_SECRET_ACCESS_KEY", "file:/not/there");
    let check = daemon.run(&["config", "check"]);
    let said = String::from_utf8_lossy(&check.stderr).into_owned();
    assert!(check.status.code() == Some(2) && said.contains("/not/there cannot be read"), "{said}");
    let unreachable = daemon.command(&["archive", "verify"]).output().unwrap();
    assert!(String::from_utf8_lossy(&unreachable.stdout).contains("hint: `tallyd config check`"));
}

#[test]
fn a_service_that_hangs_or_cuts_connections_costs_a_bounded_time_and_the_partition_stays() {
    let (postgres, s3) = (Postgres::start(), S3::start());
    let mut daemon = archiving(&postgres, &s3).start();
    daemon.lines(&calls());
    postgres.until_calls(300);
    daemon.set("TALLYD_RETENTION_S3_TIMEOUT_MS", "500");
    daemon.set("TALLYD_RETENTION_S3_PATIENCE_MS", "1");
    let busy = |status| Fault::Answer(status, "Busy", usize::MAX);
    let (within, slow, fewer) = ("no answer from", "retention.s3.timeout_ms", "fewer requests");
    for (method, text, fault, said_is, hint_is) in [
        ("POST", "uploads", Fault::StallBefore, within, slow),
        ("POST", "uploads", Fault::StallWithin, within, slow),
        ("PUT", "partNumber", Fault::StallBefore, within, slow),
        ("POST", "uploadId", Fault::StallWithin, within, slow),
        ("GET", "2025_01", Fault::StallWithin, within, slow),
        ("POST", "uploads", Fault::CutBefore, "", "tallyd doctor"),
        ("PUT", "partNumber", Fault::CutBefore, "", "tallyd doctor"),
        ("GET", "2025_01", Fault::Cut, "", "tallyd doctor"),
        // An hour is not waited for.
        ("POST", "uploads", busy("503 Service Unavailable\r\nretry-after: 3600"), "Busy", fewer),
        ("PUT", "partNumber", busy("429 Too Many Requests\r\nretry-after: 3600"), "Busy", fewer),
    ] {
        s3.fault(Some((method, text, fault)));
        s3.asked();
        let said = refused(&daemon);
        let whole = said.contains(said_is) && said.contains(hint_is);
        let place = said.contains("s3://calls/of/tallyd/api_usage_log_2025_01");
        assert!(
            whole && place && said.contains("api_usage_log_2025_01 was not archived and stays"),
            "{method} {text}: {said}"
        );
        // Only a failure within the first millisecond is sent again, and after the pause no more.
        let asked = s3.asked();
        let tries = asked.iter().filter(|one| one.starts_with(method) && one.contains(text)).count();
        let at_most = if said_is == within { 1 } else { 2 };
        assert!((1..=at_most).contains(&tries), "{asked:?}");
        assert_eq!(postgres.psql(OLD), "2");
    }
    // A request that hangs is sent again within the patience, and then told.
    daemon.set("TALLYD_RETENTION_S3_TIMEOUT_MS", "100");
    daemon.set("TALLYD_RETENTION_S3_PATIENCE_MS", "400");
    s3.fault(Some(("POST", "uploads", Fault::StallBefore)));
    s3.asked();
    assert!(refused(&daemon).contains(within));
    assert!((2..=5).contains(&s3.asked().len()), "sent again, not for ever");

    // A daemon whose archive hangs loads, and ends when it is told to.
    daemon.set("TALLYD_RETENTION_S3_TIMEOUT_MS", "600000");
    daemon.set("TALLYD_RETENTION_LOG_DAYS", "400");
    daemon.terminate();
    s3.fault(Some(("POST", "uploads", Fault::StallBefore)));
    daemon.up();
    s3.until_stalled();
    daemon.lines("{\"provider\":\"acme\",\"cost_usd\":\"0.5\"}\n");
    postgres.until_calls(301);
    assert_eq!(daemon.terminate().code(), Some(0));
    assert_eq!(postgres.psql(OLD), "2");

    // The service answers again: the partitions' turn comes, and each is in the bucket once.
    s3.fault(None);
    daemon.set("TALLYD_RETENTION_S3_TIMEOUT_MS", "90000");
    daemon.set("TALLYD_RETENTION_S3_PATIENCE_MS", "10000");
    daemon.up();
    postgres.until(OLD, "0");
    assert_eq!(daemon.assert_reconciled()["dropped_rows"], 300);
    let rows = postgres.psql(ROWS);
    assert!(s3.names().iter().all(|name| rows.contains(name)), "{:?} {rows}", s3.names());
    assert!(daemon.run(&["archive", "verify"]).status.success());
}
