//! The house: documents and structure that could drift from the code.

use std::path::{Path, PathBuf};
use std::process::Command;

use tallyd::metrics::registry;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn words<'t>(text: &'t str, is_part: impl Fn(char) -> bool + 't) -> impl Iterator<Item = &'t str> {
    text.split(move |c| !is_part(c)).filter(|word| !word.is_empty())
}

#[test]
fn the_client_builds_neither_sled_nor_a_postgresql_driver() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "-p", "tallyd-client", "-e", "normal", "--prefix", "none"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8_lossy(&output.stdout);
    assert!(tree.contains("tallyd-protocol"), "{tree}");
    for heavy in ["sled", "postgres", "tokio"] {
        assert!(!tree.contains(heavy), "{heavy} in:\n{tree}");
    }
}

#[test]
fn every_metric_of_a_dashboard_exists() {
    let mut named = 0;
    for entry in std::fs::read_dir(root().join("grafana/dashboards")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(dashboard["schemaVersion"].as_u64(), Some(41), "{}", path.display());
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().unwrap() {
                let expression = target["expr"].as_str().unwrap();
                let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
                for word in words(expression, is_part).filter(|word| word.starts_with("tallyd_")) {
                    let name = word.strip_suffix("_bucket").unwrap_or(word);
                    assert!(registry::ALL.iter().any(|(_, known, _)| *known == name), "{word} in {}", path.display());
                    named += 1;
                }
            }
        }
    }
    assert!(named > 10, "only {named} metrics were found");
}

#[test]
fn the_readme_names_targets_commands_and_files_that_exist() {
    let readme = read("README.md");
    let makefile = read("Makefile");
    let targets = readme
        .match_indices("make ")
        .map(|(at, _)| readme[at + 5..].split(|c: char| !c.is_ascii_lowercase() && c != '-').next().unwrap());
    for target in targets.filter(|target| !target.is_empty()) {
        assert!(makefile.contains(&format!("\n{target}:")), "make {target}");
    }
    for (at, _) in readme.match_indices("](") {
        let link = readme[at + 2..].split(')').next().unwrap();
        assert!(link.starts_with("https://") || root().join(link).exists(), "{link}");
    }
    let help = Command::new(env!("CARGO_BIN_EXE_tallyd")).arg("--help").output().unwrap();
    let help = String::from_utf8_lossy(&help.stdout);
    for line in readme.lines().filter_map(|line| line.trim_start_matches("$ target/release/").strip_prefix("tallyd ")) {
        let command = line.split_whitespace().next().unwrap();
        let is_command = command.chars().all(|c| c.is_ascii_lowercase());
        assert!(!is_command || command == "is" || help.contains(&format!("\n  {command} ")), "tallyd {command}");
    }
}

#[test]
fn the_tests_that_the_architecture_names_exist() {
    let architecture = read("ARCHITECTURE.md");
    let mut sources = String::new();
    collect(&root().join("src"), &mut sources);
    let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
    let names = words(&architecture, is_part).filter(|word| word.matches('_').count() >= 4);
    for name in names {
        assert!(sources.contains(&format!("fn {name}(")), "{name}");
    }
}

fn collect(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}
