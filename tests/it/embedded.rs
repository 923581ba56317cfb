//! Without any address the daemon brings a PostgreSQL of its own.

use std::fs;
use std::process::Stdio;

use crate::support::daemon::Daemon;
use crate::support::until;

fn psql(daemon: &Daemon, sql: &str) -> Result<String, String> {
    let output = daemon.run(&["psql", "-XAtc", sql]);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[test]
fn with_no_address_a_private_postgresql_holds_the_records_over_restarts_and_kills() {
    let mut daemon = Daemon::embedded();
    // This process poses as a daemon that has its folder, and neither a socket nor a cluster yet.
    fs::create_dir(daemon.data()).unwrap();
    fs::write(daemon.data().join("tallyd.lock"), format!("tallyd serve (process {})\n", std::process::id())).unwrap();
    let create = ["token", "create", "--name", "first", "--role", "read"];
    let waits = daemon.command(&create).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    daemon.up();
    let made = waits.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success() && made.stdout.starts_with(b"tallyd_1_"), "{said}");
    let line = r#"{"provider":"claude","model":"claude-sonnet-4-5","output_tokens":1000000}"#;
    for round in 1..=3 {
        assert_eq!(daemon.lines(line)[0]["cost_usd"], "15");
        until("the record is in the database", || {
            match psql(&daemon, "SELECT count(*), sum(cost_usd) FROM api_usage_log")? {
                found if found == format!("{round}|{}", 15 * round) => Ok(()),
                other => Err(other),
            }
        });
        daemon.assert_reconciled();
        if round == 1 {
            assert_eq!(daemon.terminate().code(), Some(0));
        } else {
            daemon.kill();
        }
        daemon.up();
    }
    assert_eq!(daemon.terminate().code(), Some(0));
    // Without the daemon a command starts an existing cluster, and never makes one.
    assert_eq!(psql(&daemon, "SELECT count(*) FROM api_usage_log").unwrap(), "3");
    let slip = daemon.data().with_file_name("dtaa");
    let commands: [&[&str]; 6] = [
        &["budgets", "list"],
        &["migrate"],
        &["psql", "-c", "SELECT 1"],
        &["token", "list"],
        &["dead-letters", "list"],
        &["reconcile"],
    ];
    for command in commands {
        let output = daemon.command(command).env("TALLYD_DATA_DIR", &slip).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
        assert!(said.contains("there is no PostgreSQL") && said.contains("dtaa"), "{command:?}: {said}");
        assert!(!slip.exists(), "{command:?} has made {}", slip.display());
    }
}
