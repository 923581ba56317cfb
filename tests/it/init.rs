//! The files of `tallyd init` start a daemon and record a call; existing files are not replaced.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;

fn init(folder: &Path, flags: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallyd"));
    command.args(["init", "--defaults"]).args(flags).current_dir(folder).stdin(Stdio::null());
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).output().unwrap()
}

fn read(folder: &TempDir, file: &str) -> String {
    std::fs::read_to_string(folder.path().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn written(output: &Output) -> Vec<String> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(|line| line.trim_start_matches("./").to_owned()).collect()
}

#[test]
fn what_it_writes_starts_a_daemon_that_takes_the_example_s_call() {
    let postgres = Postgres::start();
    let folder = tempfile::Builder::new().prefix("tallyd-init-").tempdir().unwrap();
    let names = written(&init(folder.path(), &["--database-url", &postgres.url()]));
    assert_eq!(names, ["config.toml", "tallyd.env", "tallyd-example.sh"]);
    let mode = std::fs::metadata(folder.path().join("config.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "the URL may hold a password");
    let config = folder.path().join("config.toml");
    let mut daemon = Daemon::embedded().with_data(&folder.path().join("tallyd-data"));
    daemon.set("TALLYD_CONFIG", config.to_str().unwrap());
    daemon.up();
    let program = Path::new(env!("CARGO_BIN_EXE_tallyd")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let script = "set -a; . ./tallyd.env; exec sh tallyd-example.sh";
    let mut example = Command::new("sh");
    example.args(["-c", script]).current_dir(folder.path()).env_clear().env("PATH", path);
    let example = example.output().unwrap();
    assert!(example.status.success(), "{}", String::from_utf8_lossy(&example.stderr));
    postgres.until_calls(1);
}

#[test]
fn nothing_is_replaced_unless_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let first = written(&init(folder.path(), &["--connect", "tcp", "--language", "python", "--monitoring", "grafana"]));
    assert!(first.len() > 8 && first.contains(&"monitoring/dashboards/costs.json".to_owned()), "{first:?}");
    let token = |folder: &TempDir| {
        let text = read(folder, "tallyd.env");
        text.lines().find_map(|line| line.strip_prefix("TALLYD_TOKEN=")).unwrap().to_owned()
    };
    let before = token(&folder);
    assert!(before.len() == 64 && read(&folder, "config.toml").contains(&before));
    std::fs::remove_file(folder.path().join("tallyd.env")).unwrap();
    let refused = init(folder.path(), &["--connect", "tcp", "--language", "python"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("config.toml and 1 more would be replaced") && said.contains("--force"), "{said}");
    assert!(!folder.path().join("tallyd.env").exists(), "all or none");
    written(&init(folder.path(), &["--connect", "tcp", "--language", "python", "--force"]));
    assert_ne!(token(&folder), before);
}

#[test]
fn an_answer_that_is_wrong_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let refused = init(folder.path(), &["--data-dir", &format!("/{}", "x".repeat(120))]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("a Unix socket's path at most"), "{said}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
