//! The password is changed while the daemon runs.

use std::fs;

use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::load::Load;
use crate::support::network::replace;
use crate::support::postgres::Postgres;

#[test]
fn a_password_in_a_file_is_rotated_without_a_restart_whichever_side_comes_first() {
    let postgres = Postgres::start();
    postgres.role_with_password("tally", "secret-1");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, "secret-1\n").unwrap();
    // The URL has an old password.
    let url = postgres.url().replace("user=postgres", "user=tally password=of-yesterday");
    // One lane, whose session is open once it loads; another lane would need the new password at its first batch.
    let daemon = Daemon::on(&url).with("TALLYD_FLUSHER_LANES", "1");
    let mut daemon = daemon.with("TALLYD_DATABASE_PASSWORD_FILE", file.to_str().unwrap()).start();
    let load = Load::start(&daemon.socket(), 2);
    let loads_on = || {
        let before = load.acked().records();
        postgres.until("SELECT to_regclass('api_usage_log') IS NOT NULL", "t");
        postgres.until(&format!("SELECT count(*) >= {before} FROM api_usage_log"), "t");
    };
    let refused = |status: &Value, why: &str| {
        let message = status["health"]["flusher"]["message"].as_str().unwrap_or_default();
        assert!(!message.contains("of-yesterday"), "{message}");
        status["health"]["status"] == "failing" && message.contains(why)
    };
    load.until_acked(500);
    loads_on();
    for (password, before) in [("secret-2", "secret-1"), ("secret-3", "secret-2")] {
        // Open sessions stay open: only new ones need the new password.
        postgres.psql(&format!("ALTER ROLE tally PASSWORD '{password}'"));
        load.until_acked(500);
        loads_on();
        postgres.end_sessions();
        let status = daemon.until_status("it says so", |status| refused(status, "28P01"));
        assert!(!status.to_string().contains(before), "the password is not told");
        load.until_acked(500);
        replace(&file, format!("{password}\n"));
        loads_on();
    }

    // The file is gone for a moment, then empty, then right; health reports each.
    fs::remove_file(&file).unwrap();
    postgres.end_sessions();
    daemon.until_status("it says so", |status| refused(status, "cannot be read"));
    fs::write(&file, "").unwrap();
    daemon.until_status("it says so", |status| refused(status, "is empty"));
    load.until_acked(500);
    replace(&file, "secret-3");
    load.finish().assert_in(&postgres);
    daemon.until_status("all is well again", |status| status["health"]["status"] == "ok");
    daemon.assert_reconciled();
    let asked = daemon.run(&["psql", "-Atc", "SELECT current_user"]);
    assert_eq!(String::from_utf8_lossy(&asked.stdout), "tally\n", "{}", String::from_utf8_lossy(&asked.stderr));
}

#[test]
fn a_file_for_no_database_is_a_mistake() {
    let daemon = Daemon::embedded().with("TALLYD_DATABASE_PASSWORD_FILE", "/run/secrets/password");
    let output = daemon.run(&["config", "check"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("database.password_file"));
}
