//! Without any address the daemon brings a PostgreSQL of its own.

use crate::support::daemon::Daemon;
use crate::support::until;

fn psql(daemon: &Daemon, sql: &str) -> Result<String, String> {
    let output = daemon.run(&["psql", "-XAtc", sql]);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[test]
fn with_no_address_a_private_postgresql_holds_the_records_over_restarts_and_kills() {
    let mut daemon = Daemon::embedded().start();
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
}
