//! `deploy/beside`: a daemon and an application as one container's process.

use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;
use crate::support::until;

fn beside(daemon: &Daemon, application: &str) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/beside");
    let settings = daemon.command(&[]);
    let mut command = Command::new(script);
    for (name, value) in settings.get_envs().filter_map(|(name, value)| Some((name, value?))) {
        command.env(name, value);
    }
    command.env("TALLYD_PROGRAM", env!("CARGO_BIN_EXE_tallyd")).current_dir(settings.get_current_dir().unwrap());
    command.args(["sh", "-c", application]).stdout(Stdio::null());
    command
}

const RECORD: &str = "record --provider rentcast --endpoint /avm";

#[test]
fn an_application_ends_with_its_own_code_and_what_it_recorded_is_loaded() {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url());
    let record = format!("{} {RECORD} && exit 7", env!("CARGO_BIN_EXE_tallyd"));
    let ended = beside(&daemon, &record).status().unwrap();
    assert_eq!(ended.code(), Some(7));
    assert!(daemon.status().is_none(), "the daemon has ended, too");
    // An application that ends at once leaves no time to load. Its record stays on disk until the next start.
    let _daemon = daemon.start();
    postgres.until_calls(1);
}

#[test]
fn sigterm_ends_the_application_first_and_a_daemon_that_was_killed_comes_back() {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url());
    let program = env!("CARGO_BIN_EXE_tallyd");
    // The application records once more on SIGTERM: the daemon must still run.
    let application = format!("trap '{program} {RECORD}; exit 0' TERM; touch begun; while :; do sleep 0.1; done");
    let mut child = beside(&daemon, &application).spawn().unwrap();
    let pid = |what: &str| {
        until(what, || daemon.status().and_then(|status| status["pid"].as_i64()).ok_or_else(|| "no answer".to_owned()))
    };
    let begun = daemon.data().parent().unwrap().join("begun");
    until("the application runs", || if begun.exists() { Ok(()) } else { Err("it does not".to_owned()) });
    let first = pid("the daemon answers");
    kill_process(Pid::from_raw(first as i32).unwrap(), Signal::KILL).unwrap();
    until("another daemon answers", || match pid("the daemon answers") {
        again if again != first => Ok(()),
        same => Err(same.to_string()),
    });
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let _daemon = daemon.start();
    postgres.until_calls(1);
}
