//! A disabled recorder keeps nothing and opens nothing.

use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::Duration;

use tallyd_client::{Call, CallScope, FlushOutcome, Record, Stats};

use crate::support::until;
use crate::{builder, socket};

/// Records with a recorder for its own listener, and checks for connections.
fn check(disabled: Option<bool>, is_off: bool) {
    let (_dir, path) = socket();
    let listener = UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut builder = builder(&path).quiet().deny_unknown(true);
    if let Some(disabled) = disabled {
        builder = builder.disabled(disabled);
    }
    let recorder = builder.build();
    assert!((0..100).all(|_| recorder.record(Record::rentcast("/avm"))));
    assert!(Call::begin(&recorder, Record::rentcast("/avm")).end());
    assert!(recorder.room(Duration::ZERO) && !recorder.ready(Duration::ZERO));
    assert_eq!(recorder.check(&CallScope::default()).is_allowed(), is_off, "no daemon has told the state of budgets");
    if !is_off {
        until("it connects", || listener.accept().is_ok());
        assert_eq!(recorder.stats().recorded, 101);
        assert_eq!(recorder.close(Duration::ZERO), FlushOutcome::Outstanding(101));
        return;
    }
    assert_eq!(recorder.flush(Duration::ZERO), FlushOutcome::Settled);
    assert_eq!(recorder.stats(), Stats::default());
    assert_eq!(recorder.close(Duration::ZERO), FlushOutcome::Settled);
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "nobody came");
}

#[test]
fn the_option_and_the_environment_switch_it_off() {
    const NAME: &str = "off::the_option_and_the_environment_switch_it_off";
    if let Ok(is_off) = std::env::var("TALLYD_TEST_OFF") {
        check(None, is_off == "true");
        check(Some(false), false);
        return;
    }
    check(Some(true), true);
    for (value, is_off) in [("1", "true"), (" Yes ", "true"), ("on", "true"), ("0", "false"), ("", "false")] {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture"])
            .envs([("TALLYD_DISABLED", value), ("TALLYD_TEST_OFF", is_off)])
            .output()
            .unwrap();
        assert!(output.status.success(), "{value:?}: {output:?}");
    }
}
