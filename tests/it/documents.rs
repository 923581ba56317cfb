//! The commands in documents. Each page's shell blocks run here against a real daemon, as one script. A command that
//! cannot run here is listed in [`ELSEWHERE`] with the test that runs it, or with the reason why none can.
//!
//! Blocks with output (`console`) are examples: their commands and flags are looked up in the help, as are commands
//! within sentences. Samples in JavaScript and Python are run by their clients' tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;

/// The reason why a command does not run here.
enum Elsewhere {
    /// This file runs it, or an equivalent.
    File(&'static str),
    /// No test can run it, for this reason.
    Nobody(&'static str),
}
use Elsewhere::{File, Nobody};

/// Commands by their first words.
const ELSEWHERE: &[(&str, Elsewhere)] = &[
    ("sudo apt install ./target/debian/tallyd_", Nobody("it would change the machine that runs the tests")),
    ("sudo systemctl enable --now tallyd", Nobody("no systemd runs in a container")),
    (
        "tallyd --socket /run/tallyd/tallyd.sock status",
        Nobody("it asks the installed service; the same command is run from the runbook"),
    ),
    ("apt install postgresql", Nobody("it would change the machine that runs the tests")),
    ("npm install ./tallyd/clients/typescript", File("clients/typescript/tests/guide.test.mjs")),
    ("npm install", File("tests/packages/try.py")),
    ("pip install \"tallyd[daemon]\"", File("tests/packages/try.py")),
    ("pip install tallyd", File("tests/packages/try.py")),
    ("cargo install tallyd", Nobody("nothing is published yet; `make packages` packs the crates")),
    (
        "cargo run --release -p tallyd-client --example spool",
        Nobody("it measures, and a timed test would be one of the machine"),
    ),
    ("tallyd backup /mnt/", File("tests/it/backup.rs")),
    ("tallyd restore /mnt/", File("tests/it/backup.rs")),
    ("openssl req -x509 -newkey ec", File("tests/http/tls.rs")),
    ("curl --cacert /etc/tallyd/tls.crt", File("tests/http/tls.rs")),
    ("cargo install --path", Nobody("it compiles for minutes, as `make run` does")),
    ("cargo add tallyd-client", Nobody("nothing is published yet; `make packages` packs the crates")),
    ("skopeo copy", Nobody("it needs a container engine; `make try-packages` runs the image without one")),
    ("docker run --read-only", Nobody("it needs a container engine; `make try-packages` runs the image without one")),
    ("helm install", Nobody("it needs a cluster; `make test-deploy` lints the chart")),
    ("find ~/.claude/projects", File("src/cli/import/preset/tests.rs")),
    ("tallyd migrate --citus", File("tests/database/citus.rs")),
    ("tallyd adopt --", File("tests/it/adopt.rs")),
    ("tallyd bill-check", File("tests/it/bill.rs")),
    ("tallyd prices sync", File("tests/it/prices.rs")),
    ("echo '{\"provider\":\"rentcast\"", File("tests/it/vectors.rs")),
    ("curl --unix-socket", File("tests/http/socket.rs")),
    ("curl -sf -H \"Authorization: Bearer $INGEST\"", File("tests/http/administered.rs")),
    ("tallyd alerts test", File("tests/it/alerts.rs")),
    ("tallyd rules set", File("tests/it/alerts.rs")),
    ("tallyd calls ", File("tests/it/amend.rs")),
    ("tallyd archive verify", File("tests/it/archive.rs")),
    ("tallyd archive restore", File("tests/it/archive.rs")),
    ("tallyd psql -c 'SELECT * FROM tallyd_restored_", File("tests/it/archive.rs")),
    ("tallyd psql -c 'DROP TABLE tallyd_restored_", Nobody("the table is made by a command that is tested elsewhere")),
    ("mkdir -p ~/.config/tallyd", Nobody("it writes into the home folder of the user who runs the tests")),
    ("echo whsec_", Nobody("it only writes a secret, with openssl")),
    ("claude mcp add", Nobody("it needs Claude Code; `make test-mcp` runs the server with a client of the protocol")),
    ("echo '{\"jsonrpc\"", File("tests/mcp/check.py")),
    (
        "cargo run -p tallyd-client --example record",
        Nobody("it records at the installed service; cargo test compiles it"),
    ),
    (
        "pip install ./tallyd/clients/python",
        Nobody("it would change the machine; scripts/need-python-client has what it needs"),
    ),
    (
        "pip install ./clients/python",
        Nobody("it would change the machine; scripts/need-python-client has what it needs"),
    ),
];

/// Words that begin a command in a document.
const PROGRAMS: [&str; 13] = [
    "tallyd",
    "make",
    "cargo",
    "docker",
    "npm",
    "pip",
    "apt install",
    "systemctl",
    "sudo",
    "curl",
    "echo",
    "psql",
    "usermod",
];

/// Pages whose blocks another test runs.
const RUN_AS_A_WHOLE: [(&str, &str); 3] = [
    ("README.md", "tests/packages/try.py"),
    ("docs/guide/replace-a-tracker.md", "clients/typescript/tests/guide.test.mjs"),
    ("docs/guide/install.md", "tests/packages/try.py"),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The documents for users: README.md, the hand-written pages of docs/, and the README.md of deploy/ and clients/.
fn documents() -> Vec<PathBuf> {
    fn look(folder: &Path, every: bool, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name == "README.md" || every && name.ends_with(".md") {
                found.push(path);
            } else if every && path.is_dir() {
                look(&path, every, found);
            } else if path.join("README.md").exists() {
                found.push(path.join("README.md"));
            }
        }
    }
    let mut found = vec![root().join("README.md")];
    for (folder, every) in [("deploy", false), ("clients", false), ("docs", true)] {
        look(&root().join(folder), every, &mut found);
    }
    // Pages that are written from the code are left out.
    found.retain(|path| path.parent().is_some_and(|folder| !folder.ends_with("reference")));
    found.sort();
    found
}

/// A command as it is shown, without its trailing comment.
struct Shown {
    command: String,
    /// True for a command of a shell block, which is run. Otherwise a sentence or an example mentions it.
    is_whole: bool,
}

fn shown(path: &Path) -> Vec<Shown> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut found = Vec::new();
    for (index, part) in text.split("```").enumerate() {
        let mut add = |command: &str, is_whole| {
            let command = command.split(" # ").next().unwrap_or(command).split("  #").next().unwrap_or(command).trim();
            if !command.is_empty() {
                found.push(Shown { command: command.to_owned(), is_whole });
            }
        };
        if index % 2 == 1 {
            if let Some(block) = part.strip_prefix("sh\n") {
                block.replace("\\\n", " ").lines().for_each(|line| add(line, true));
            } else if let Some(block) = part.strip_prefix("console\n") {
                let lines = block.lines().filter_map(|line| line.strip_prefix("$ "));
                lines.for_each(|line| add(line.trim_start_matches("npx "), false));
            }
        } else {
            for span in part.split('`').skip(1).step_by(2) {
                let span = span.split_whitespace().collect::<Vec<_>>().join(" ");
                if PROGRAMS.iter().any(|program| span.starts_with(&format!("{program} "))) {
                    add(&span, false);
                }
            }
        }
    }
    found
}

/// Name and value of a line like `NAME=value`.
fn setting(command: &str) -> Option<(&str, String)> {
    let (name, value) = command.split_once('=')?;
    let is_name = name.starts_with("TALLYD_") && name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    is_name.then(|| (name, value.trim_matches('\'').to_owned()))
}

/// Checks that the subcommand and the flags of a mentioned command exist. Its arguments may be anything.
fn look_up(daemon: &Daemon, at: &str, command: &str) {
    let words: Vec<&str> = command.split_whitespace().collect();
    assert_eq!(words[0], "tallyd", "{at}: nobody runs {command:?}; see ELSEWHERE");
    let is_name = |word: &&&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-');
    let commands: Vec<&str> = words[1..].iter().take_while(is_name).copied().collect();
    // The last words may be values, such as a provider's name.
    let helps = (1..=commands.len()).rev().map(|known| daemon.run(&[&commands[..known], &["--help"]].concat()));
    let output = helps.into_iter().find(|output| output.status.success());
    let output = output.unwrap_or_else(|| panic!("{at}: {command} has no help"));
    let help = String::from_utf8_lossy(&output.stdout);
    for flag in words.iter().filter(|word| word.starts_with("--")) {
        assert!(help.contains(flag), "{at}: {command}: {flag}");
    }
}

/// Runs a page's lines as one script of the daemon's user, with `tallyd` on the `PATH`.
fn run_script(daemon: &Daemon, at: &str, lines: &[String]) {
    let link = String::from_utf8(daemon.run(&["open"]).stdout).unwrap();
    let address = link.split('/').nth(2).expect("tallyd open prints a link");
    let script = lines.join("\n").replace("127.0.0.1:7420", address);
    let script = format!("set -euo pipefail\ntrap 'echo \"failed: $BASH_COMMAND\" >&2' ERR\n{script}\n");
    let folder = Path::new(env!("CARGO_BIN_EXE_tallyd")).parent().unwrap().display().to_string();
    let path = format!("{folder}:{}", std::env::var("PATH").unwrap());
    let mut command = daemon.environment(std::process::Command::new("bash"));
    let output = command.args(["-c", &script]).env("PATH", path).output().unwrap();
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{at}:\n{script}\n{said}\n{complained}");
}

#[test]
fn every_command_of_the_documents_is_run_or_accounted_for() {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).start();
    // The first command of the README, with nothing else installed.
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let first = readme.lines().find_map(|line| line.strip_prefix("$ ")).unwrap();
    let first = first.strip_prefix("npx tallyd record ").expect("the first command is tallyd record");
    let output = daemon.run(&[&["record"], &*first.split_whitespace().collect::<Vec<_>>()].concat());
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    let (_, cost) = answer.rsplit_once(',').unwrap();
    assert!(output.status.success() && readme.contains(cost.trim_end()), "{answer}");
    // The dead letters that the pages retry: a model's name that is too long.
    postgres.until("SELECT to_regclass('public.dead_letters') IS NOT NULL", "t");
    postgres.psql("ALTER TABLE dead_letters ALTER id RESTART WITH 42");
    let letter = format!("{{\"provider\":\"claude\",\"model\":\"{}\",\"input_tokens\":9}}\n", "m".repeat(600));
    daemon.lines(&format!("{letter}{letter}"));
    postgres.until("SELECT string_agg(id::text, ' ' ORDER BY id) FROM dead_letters", "42 43");

    // The files that docs/guide/import.md imports.
    let file = |name: &str, text: &str| std::fs::write(daemon.data().with_file_name(name), text).unwrap();
    file("calls.csv", "time,prompt,answer,user_id\n2026-08-10 10:00:00 UTC,1200,300,u-42\n");
    // The file of docs/guide/unit-economics.md.
    file("orders.csv", "day,dimension,value,unit,quantity,revenue_usd\n2026-11-29,tag:customer,acme,order,1200,480\n");
    file(
        "events.jsonl",
        "{\"model\":\"claude-sonnet-4-5\",\"message\":{\"id\":\"m1\",\"usage\":{\"input_tokens\":7}}}\n",
    );

    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    let mut used = vec![false; ELSEWHERE.len()];
    let (mut run, mut named) = (0, 0);
    let mut scripts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in documents() {
        let at = path.strip_prefix(root()).unwrap().display().to_string();
        for Shown { command, is_whole } in shown(&path) {
            if let Some((_, other)) = RUN_AS_A_WHOLE.iter().find(|(page, _)| is_whole && at == *page) {
                let test = std::fs::read_to_string(root().join(other)).unwrap();
                assert!(test.contains(&at), "{other} does not run {at}");
                continue;
            }
            if let Some(target) = command.strip_prefix("make ") {
                let target = target.split_whitespace().next().unwrap();
                assert!(makefile.contains(&format!("\n{target}:")), "{at}: {command}");
                named += 1;
                continue;
            }
            let listed = ELSEWHERE.iter().position(|(begins, _)| command.starts_with(begins));
            if let Some(place) = listed {
                used[place] = true;
                match &ELSEWHERE[place].1 {
                    File(file) => assert!(root().join(file).exists(), "{file}"),
                    Nobody(reason) => assert!(reason.len() > 20, "{at}: {command}"),
                }
            } else if let Some((name, value)) = setting(&command) {
                // The value may be wrong on this machine. Only the name is checked.
                let output = daemon.command(&["config", "check"]).env(name, value).output().unwrap();
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(!said.contains("unknown environment variable"), "{at}: {said}");
                run += 1;
            } else if is_whole {
                scripts.entry(at.clone()).or_default().push(command);
                run += 1;
            } else {
                look_up(&daemon, &at, &command);
                named += 1;
            }
        }
    }
    for (at, lines) in &scripts {
        run_script(&daemon, at, lines);
    }
    for ((begins, _), is_used) in ELSEWHERE.iter().zip(used) {
        assert!(is_used, "no document shows {begins:?} any more");
    }
    assert!(run >= 60 && named >= 40, "only {run} were run, and {named} looked up");
    let settled = "SELECT count(*) FROM api_usage_log WHERE model = 'claude-sonnet-5' AND input_tokens = 9";
    postgres.until(settled, "2");
    daemon.assert_reconciled();
}
