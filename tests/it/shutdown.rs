//! The end: orderly, in time, and without a loss. A second daemon cannot start beside a running one.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::daemon::Daemon;
use crate::support::load::Load;
use crate::support::postgres::{Postgres, Stop};
use crate::support::{signal, until};

#[test]
fn sigterm_under_load_ends_in_time_with_everything_acknowledged_loaded() {
    let postgres = Postgres::start();
    let mut daemon = Daemon::on(&postgres.url()).start();
    let load = Load::start(&daemon.socket(), 2);
    postgres.until("SELECT count(*) > 0 FROM api_usage_log", "t");
    load.until_acked(2_000);
    let start = Instant::now();
    let status = daemon.terminate();
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    assert_eq!(status.code(), Some(0));
    // Acknowledgements have ended: the producers find no daemon.
    load.acked().assert_among(&postgres);
    assert!(daemon.log().contains("every record is in PostgreSQL"));
    daemon.up();
    load.finish().assert_in(&postgres);
    daemon.assert_reconciled();
}

#[test]
fn sigterm_while_postgresql_is_down_ends_in_time_and_the_next_start_loads_the_rest() {
    let mut postgres = Postgres::start();
    let mut daemon = Daemon::on(&postgres.url()).with("TALLYD_SHUTDOWN_DEADLINE_MS", "2000").start();
    let load = Load::start(&daemon.socket(), 2);
    postgres.until("SELECT count(*) > 0 FROM api_usage_log", "t");
    postgres.down(Stop::Fast);
    load.until_acked(1_000);
    let start = Instant::now();
    let status = daemon.terminate();
    assert!(start.elapsed() < Duration::from_secs(12), "the default is 15 s: {:?}", start.elapsed());
    assert_eq!(status.code(), Some(0));
    assert!(daemon.log().contains("load at the next start"));
    postgres.up();
    daemon.up();
    load.finish().assert_in(&postgres);
    daemon.assert_reconciled();
}

#[test]
fn a_second_daemon_on_the_data_folder_is_refused_and_told_who_has_it() {
    let postgres = Postgres::stopped();
    let daemon = Daemon::on(&postgres.url()).start();
    let second = daemon.run(&["serve"]);
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(3), "{said}");
    assert!(said.contains(&format!("process {}", daemon.pid())), "{said}");
    assert_eq!(daemon.lines(r#"{"provider":"rentcast","endpoint":"/avm"}"#)[0]["ok"], true);
}

#[test]
fn sighup_changes_what_is_logged_and_a_wrong_filter_changes_nothing() {
    let postgres = Postgres::start();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[log]\nfilter = \"error\"\n").unwrap();
    let path = file.path().display().to_string();
    let mut daemon = Daemon::on(&postgres.url()).with("TALLYD_CONFIG", &path);
    daemon.unset("TALLYD_LOG");
    daemon.up();
    assert_eq!(daemon.log(), "");
    let told = |text: &str, filter: &str| {
        std::fs::write(file.path(), format!("[log]\nfilter = \"{filter}\"\n")).unwrap();
        signal(daemon.pid(), Signal::HUP);
        until(text, || if daemon.log().contains(text) { Ok(()) } else { Err(daemon.log()) });
    };
    told("log.filter was read again", "info");
    told("nothing was changed", "tallyd=loudly");
    daemon.lines(r#"{"provider":"rentcast"}"#);
    postgres.until_calls(1);
    assert_eq!(daemon.terminate().code(), Some(0));
    assert!(daemon.log().contains("SIGTERM"), "{}", daemon.log());
}

/// The next message that contains `about`.
fn next(socket: &UnixDatagram, about: &str) -> String {
    let mut bytes = [0; 1024];
    loop {
        let read = socket.recv(&mut bytes).unwrap_or_else(|error| panic!("nothing more of {about}: {error}"));
        let message = String::from_utf8_lossy(&bytes[..read]).into_owned();
        if message.lines().any(|line| line.starts_with(about)) {
            return message;
        }
    }
}

#[test]
fn systemd_hears_that_records_are_accepted_that_the_daemon_lives_and_that_it_ends() {
    let postgres = Postgres::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    // Far longer than any step takes: a message that does not come fails the test.
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut daemon = Daemon::on(&postgres.url())
        .with("NOTIFY_SOCKET", &path.display().to_string())
        .with("WATCHDOG_USEC", "200000")
        .start();
    assert_eq!(next(&socket, "READY="), "READY=1\nSTATUS=records are accepted\n");
    for _ in 0..3 {
        assert_eq!(next(&socket, "WATCHDOG="), "WATCHDOG=1\n");
    }
    assert_eq!(daemon.terminate().code(), Some(0));
    assert!(next(&socket, "STOPPING=").starts_with("STOPPING=1\n"));
}
