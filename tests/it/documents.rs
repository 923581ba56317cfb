//! The commands that documents show: each is run here against a real daemon, or is named below with who runs it, or why nobody can.
//!
//! The root's README.md is `tests/house/`' affair; samples in JavaScript and Python are their clients' tests'.

use std::path::{Path, PathBuf};

use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;

/// Who runs a command that is not run here.
enum Elsewhere {
    /// This target of the Makefile is itself what is shown; it is there.
    Target,
    /// This file runs it, or the same thing.
    File(&'static str),
    /// Nobody can, for this reason.
    Nobody(&'static str),
}
use Elsewhere::{File, Nobody, Target};

/// Commands by their first words.
const ELSEWHERE: &[(&str, Elsewhere)] = &[
    ("make deb", Target),
    ("make test", Target),
    ("make bench", Target),
    ("sudo apt install ./target/debian/tallyd_", Nobody("it would change the machine that runs the tests")),
    ("sudo systemctl enable --now tallyd", Nobody("no systemd runs in a container")),
    (
        "tallyd --socket /run/tallyd/tallyd.sock status",
        Nobody("it asks the installed service; the same command is run from the runbook"),
    ),
    ("apt install postgresql", Nobody("it would change the machine that runs the tests")),
    ("find ~/.claude/projects", File("src/cli/import/preset/tests.rs")),
    ("tallyd migrate --citus", File("tests/database/citus.rs")),
    ("echo '{\"provider\":\"rentcast\"", File("tests/it/vectors.rs")),
    (
        "cargo run -p tallyd-client --example record",
        Nobody("it records at the installed service; cargo test compiles it"),
    ),
    (
        "pip install ./clients/python",
        Nobody("it would change the machine; scripts/need-python-client has what it needs"),
    ),
];

/// Words that begin a command where a text shows one.
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

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The documents for users below the root: README.md of deploy/ and clients/ and their folders, and docs/.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut look = |folder: &Path, every: bool| {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name == "README.md" || every && name.ends_with(".md") {
                found.push(path);
            } else if path.join("README.md").exists() {
                found.push(path.join("README.md"));
            }
        }
    };
    look(Path::new("deploy"), false);
    look(Path::new("clients"), false);
    look(Path::new("docs"), true);
    found.sort();
    found
}

/// A command as it is shown, without a comment behind it.
struct Shown {
    at: String,
    command: String,
    /// In a block: to be run as it is. Otherwise it is only named in a sentence.
    is_whole: bool,
}

fn shown(path: &Path) -> Vec<Shown> {
    let text = std::fs::read_to_string(path).unwrap();
    let at = path.strip_prefix(root()).unwrap().display().to_string();
    let mut found = Vec::new();
    for (index, part) in text.split("```").enumerate() {
        let mut add = |command: &str, is_whole| {
            let command = command.split(" # ").next().unwrap_or(command).split("  #").next().unwrap_or(command).trim();
            if !command.is_empty() {
                found.push(Shown { at: at.clone(), command: command.to_owned(), is_whole });
            }
        };
        if index % 2 == 1 {
            let Some(block) = part.strip_prefix("sh\n") else { continue };
            block.replace("\\\n", " ").lines().for_each(|line| add(line, true));
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

/// Words as a shell has them: spaces part them, quotes keep them together.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in command.chars() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (None, ' ') => words.push(String::new()),
            (_, c) => words.last_mut().expect("there is one from the start").push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The setting that a line like `NAME=value` makes.
fn setting(command: &str) -> Option<(&str, String)> {
    let (name, value) = command.split_once('=')?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    is_name.then(|| (name, words(value).concat()))
}

#[test]
fn every_command_of_the_documents_is_run_or_accounted_for() {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).start();
    // What a reader of the README does first, with nothing else installed.
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let first = readme.lines().find_map(|line| line.strip_prefix("$ ")).unwrap();
    let first = first.strip_prefix("target/release/tallyd record ").expect("the first command is tallyd record");
    let output = daemon.run(&[&["record"], &*first.split_whitespace().collect::<Vec<_>>()].concat());
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    let (_, cost) = answer.rsplit_once(',').unwrap();
    assert!(output.status.success() && readme.contains(cost.trim_end()), "{answer}");
    // The dead letter that the runbook speaks of: a model's name that is too long, which it mends.
    postgres.until("SELECT to_regclass('public.dead_letters') IS NOT NULL", "t");
    postgres.psql("ALTER TABLE dead_letters ALTER id RESTART WITH 42");
    let letter = format!("{{\"provider\":\"claude\",\"model\":\"{}\",\"input_tokens\":9}}\n", "m".repeat(600));
    daemon.lines(&letter);
    postgres.until("SELECT string_agg(id::text, ' ') FROM dead_letters", "42");

    // The files that docs/import.md imports.
    let file = |name: &str, text: &str| std::fs::write(daemon.data().with_file_name(name), text).unwrap();
    file("calls.csv", "time,prompt,answer,user_id\n2026-08-10 10:00:00 UTC,1200,300,u-42\n");
    file(
        "events.jsonl",
        "{\"model\":\"claude-sonnet-4-5\",\"message\":{\"id\":\"m1\",\"usage\":{\"input_tokens\":7}}}\n",
    );

    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    let mut used = vec![false; ELSEWHERE.len()];
    let (mut run, mut named) = (0, 0);
    for one in documents().iter().flat_map(|path| shown(path)) {
        let Shown { at, command, is_whole } = &one;
        let listed = ELSEWHERE.iter().position(|(begins, _)| command.starts_with(begins));
        if let Some(place) = listed {
            used[place] = true;
            match &ELSEWHERE[place].1 {
                Target => {
                    let target = command.split_whitespace().nth(1).unwrap();
                    assert!(makefile.contains(&format!("\n{target}:")), "{at}: {command}");
                }
                File(file) => assert!(root().join(file).exists(), "{file}"),
                Nobody(reason) => assert!(reason.len() > 20, "{at}: {command}"),
            }
        } else if let Some((name, value)) = setting(command) {
            // Not a good value on this machine. Only what is said of an unknown name matters.
            let output = daemon.command(&["config", "check"]).env(name, value).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!said.contains("unknown environment variable"), "{at}: {said}");
            run += 1;
        } else {
            let words = words(command);
            assert_eq!(words[0], "tallyd", "{at}: nobody runs {command:?}; see ELSEWHERE");
            let words: Vec<&str> = words[1..].iter().map(String::as_str).collect();
            if *is_whole {
                let output = daemon.run(&words);
                assert!(output.status.success(), "{at}: {command}: {}", String::from_utf8_lossy(&output.stderr));
                run += 1;
            } else {
                // A sentence names a command, whose arguments are its reader's.
                let commands: Vec<&str> = words
                    .iter()
                    .take_while(|word| {
                        word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-')
                    })
                    .copied()
                    .collect();
                let output = daemon.run(&[&commands[..], &["--help"]].concat());
                let help = String::from_utf8_lossy(&output.stdout);
                assert!(output.status.success(), "{at}: {command}: {}", String::from_utf8_lossy(&output.stderr));
                for flag in words.iter().filter(|word| word.starts_with("--")) {
                    assert!(help.contains(flag), "{at}: {command}: {flag}");
                }
                named += 1;
            }
        }
    }
    for ((begins, _), is_used) in ELSEWHERE.iter().zip(used) {
        assert!(is_used, "no document shows {begins:?} any more");
    }
    assert!(run >= 15 && named >= 10, "only {run} were run, and {named} looked up");
    let settled = "SELECT count(*) FROM api_usage_log WHERE model = 'claude-sonnet-4-5' AND input_tokens = 9";
    postgres.until(settled, "1");
    daemon.assert_reconciled();
}
