//! Ways to break the daemon from outside, and the build of it that breaks from inside.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use rustix::process::Signal;

use crate::run::{Run, target};
use crate::support::daemon::Daemon;
use crate::support::{signal, until};

/// The daemon built with fail points. It is built once per test run, beside the ordinary build.
pub fn failpoints(daemon: Daemon) -> Daemon {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let profile = Path::new(env!("CARGO_BIN_EXE_tallyd")).parent().expect("a program lies in a folder");
        let mut command = Command::new(env!("CARGO"));
        command.args(["build", "--quiet", "--bin", "tallyd-failpoints", "--features", "failpoints"]);
        command.arg("--target-dir").arg(target()).current_dir(env!("CARGO_MANIFEST_DIR"));
        if profile.ends_with("release") {
            command.arg("--release");
        }
        assert!(command.status().expect("cargo is there").success(), "the build with fail points failed");
        profile.join("tallyd-failpoints")
    };
    daemon.with_program(PROGRAM.get_or_init(build).clone())
}

/// Fail point `name` passes `passes` times, then does `action` once. See `crates/base/src/failpoint.rs`.
pub fn after(passes: u32, name: &str, action: &str) -> String {
    format!("{name}={passes}*off->1*{action}->off")
}

/// The command line in front of the daemon that runs it under `strace` with these injections, such as
/// `fdatasync:error=EIO:when=3`. With `-D` the tracer is a grandchild, so that the started process is the daemon. Every
/// system call is traced, which is slow, because with `--seccomp-bpf` strace 6.1 misses injected signals.
pub fn strace(injections: &[String]) -> Vec<String> {
    let mut words: Vec<String> = ["strace", "-D", "-f", "-qq", "-o", "/dev/null"].map(Into::into).into();
    let calls: Vec<_> = injections.iter().filter_map(|injection| injection.split(':').next()).collect();
    words.extend(["-e".into(), format!("trace={}", calls.join(","))]);
    for injection in injections {
        words.extend(["-e".into(), format!("inject={injection}")]);
    }
    words
}

/// Suspends a process.
pub fn stop(pid: u32) {
    signal(pid, Signal::STOP);
    until_stopped(pid);
}

/// Waits until each thread of a process is stopped.
pub fn until_stopped(pid: u32) {
    until("the process stands still", || {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).map_err(|error| error.to_string())?;
        for thread in threads.flatten() {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            // The state follows the name, which may contain any character.
            let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
            if !matches!(state, Some('T' | 't')) {
                return Err(stat);
            }
        }
        Ok(())
    });
}

/// True if programs can be traced here; otherwise the report says so.
pub fn can_trace(run: &mut Run) -> bool {
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "inject=fdatasync:retval=0", "true"]);
    let works = command.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !works {
        run.not_run("strace is not installed (scripts/need-strace), or may not trace");
    }
    works
}

/// The library that cuts the daemon's writes short and interrupts them. Without a C compiler there is none, and the
/// report says so.
///
/// `strace` can make a call return a smaller number, but not write only that much. A library in front of libc can.
pub fn short_writes(run: &mut Run, folder: &Path) -> Option<PathBuf> {
    let library = folder.join("short_writes.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/short_writes.c");
    let mut command = Command::new("cc");
    command.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl");
    if command.status().is_ok_and(|status| status.success()) {
        return Some(library);
    }
    run.not_run("no C compiler");
    None
}
