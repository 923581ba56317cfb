//! Shared parts of the tests: servers to break, a daemon to break, load, and waiting for conditions.

#![allow(dead_code, reason = "several test programs share it, and each uses its part")]

pub mod daemon;
pub mod load;
pub mod network;
pub mod pooler;
pub mod postgres;
pub mod proxy;

use std::process::Command;
use std::time::{Duration, Instant};

/// How long a test waits for a condition: far longer than it takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until the answer is `Ok`. After [`PATIENCE`] the test fails with the last answer.
#[track_caller]
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Ok(value) => return value,
            Err(state) => assert!(Instant::now() < deadline, "waited in vain until {what}; at last: {state}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The secret of the tests' producer of this name: the same for each of its connections.
pub fn secret(producer: &str) -> String {
    format!("{producer:.<32}")
}

/// The hello of the tests' producer of this name.
pub fn hello(producer: &str) -> tallyd_protocol::Hello {
    let (protocol, producer, secret) = (tallyd_protocol::PROTOCOL_VERSION, producer.into(), secret(producer));
    tallyd_protocol::Hello { protocol, producer, secret, ..Default::default() }
}

/// A command that is killed when the thread that starts it ends, so that an aborted test leaves no server behind.
pub fn bound_to_us(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Sends a signal to a process that the test started.
pub fn signal(pid: u32, signal: rustix::process::Signal) {
    // A process id is a positive 32-bit number.
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}
