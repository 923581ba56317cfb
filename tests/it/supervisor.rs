//! What systemd is told through `NOTIFY_SOCKET`.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;

/// The next message that says something of `about`.
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
    // Far longer than any of it takes: a message that does not come fails the test.
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
