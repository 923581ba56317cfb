//! Rules of the source that no lint has.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use tallyd_config::env::CLIENT_VARIABLES;

use crate::{read, root, walk, words};

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

/// An application and the daemon beside it share one environment, so neither may fail over the other's variables.
#[test]
fn the_daemon_knows_each_variable_that_a_client_reads() {
    let mut found = BTreeSet::new();
    let clients = ["typescript/src", "python/tallyd", "rust/src", "go", "php/src"];
    let mut folders = clients.map(|path| root().join("clients").join(path)).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            // Go's tests are in the source folder.
            if path.to_string_lossy().ends_with("_test.go") {
                continue;
            }
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            let is_part = |c: char| c.is_ascii_uppercase() || c == '_';
            found.extend(words(&text, is_part).filter(|word| word.starts_with("TALLYD_")).map(str::to_owned));
        }
    }
    let mut known: BTreeSet<String> = CLIENT_VARIABLES.map(str::to_owned).into();
    known.insert("TALLYD_SOCKET".to_owned());
    assert_eq!(found, known, "config::env::CLIENT_VARIABLES is the list");
}

#[test]
fn nothing_was_left_to_be_filled_in() {
    for file in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "benches/README.md", "grafana/README.md"] {
        let text = read(file);
        let is_blank = |line: &&str| {
            let word = line.trim();
            word.len() > 2 && word.starts_with('@') && word.ends_with('@')
        };
        assert_eq!(text.lines().find(is_blank), None, "{file}");
    }
}

#[test]
fn no_file_holds_a_path_of_one_machine() {
    // In two parts, so that this file does not contain them itself.
    let homes = ["/home", "/Users", "/root"].map(|home| format!("{home}/"));
    let mut places = homes.to_vec();
    places.push(format!("{}/", root().display()));
    let mut files = Vec::new();
    walk(&root(), &mut |path| files.push(path.to_owned()));
    assert!(files.len() > 100, "only {} files were looked at", files.len());
    for path in files {
        // Binary files do not name paths for readers.
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for place in &places {
            for (at, _) in text.match_indices(place.as_str()) {
                let before = text[..at].chars().next_back();
                // `clients/src/` is not `/src/`.
                let is_absolute = before.is_none_or(|c| !c.is_alphanumeric() && !"._-}/*>".contains(c));
                assert!(!is_absolute, "{place} in {}", path.display());
            }
        }
    }
}

/// Every login of a database can take advisory locks, so a stranger could keep tallyd waiting.
#[test]
fn no_lock_is_everybodys_to_take() {
    let mut found = Vec::new();
    let mut look = |path: &Path| {
        if std::fs::read_to_string(path).unwrap_or_default().contains("advisory_") {
            found.push(path.display().to_string());
        }
    };
    for folder in ["src", "crates"] {
        walk(&root().join(folder), &mut look);
    }
    assert!(found.is_empty(), "advisory locks (crates/store/src/locks.rs has the others): {found:?}");
}

/// All SQL is in `crates/store`. Calls of the driver and the first words of a statement show SQL elsewhere.
#[test]
fn the_daemon_sends_no_sql_of_its_own() {
    const CALLS: [&str; 13] = [
        ".query(",
        ".query_one(",
        ".query_opt(",
        ".query_raw(",
        ".query_scalar(",
        ".query_typed",
        ".execute(",
        ".execute_raw(",
        ".execute_typed(",
        ".batch_execute(",
        ".simple_query",
        ".copy_in(",
        ".copy_out(",
    ];
    // `Uri::query` takes no arguments.
    let is_sql = |line: &str| {
        let line = line.replace(".query()", "");
        CALLS.iter().any(|call| line.contains(call))
    };
    let (mut looked_at, mut found) = (0, Vec::new());
    let src = root().join("src");
    walk(&src, &mut |path| {
        let name = path.strip_prefix(&src).unwrap().display().to_string();
        if !name.ends_with(".rs") || name.contains("test") {
            return;
        }
        looked_at += 1;
        let text = std::fs::read_to_string(path).unwrap();
        let product = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        found.extend(product.lines().filter(|line| is_sql(line)).map(|line| format!("src/{name}: {}", line.trim())));
    });
    assert!(looked_at > 100, "only {looked_at} files were looked at");
    let put = "SQL belongs to crates/store; a question of the API is a function in crates/store/src/queries/";
    assert!(found.is_empty(), "{put}:\n{}", found.join("\n"));
}

/// Two features of serde_json give keys of a document a special meaning, which led to a stack overflow and a panic.
#[test]
fn no_key_of_a_json_document_has_a_meaning_of_its_own() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "-p",
            "tallyd",
            "-e",
            "features,normal,build,dev",
            "-i",
            "serde_json",
            "--prefix",
            "none",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    let tree = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && tree.contains("serde_json feature \"std\""), "{tree}");
    for feature in ["raw_value", "arbitrary_precision"] {
        let on = format!("serde_json feature \"{feature}\"");
        assert!(!tree.contains(&on), "{feature} is on: crates/model/src/json/mod.rs says why not\n{tree}");
    }
}

/// The uses of serde_json to read, outside of tests, with the reason for each. It stops at 128 levels, but keeps no
/// digits and refuses half of a surrogate pair. Everything else is read with `tallyd_model::json`.
const READ_BY_SERDE_JSON: [(&str, &str); 9] = [
    ("crates/model/src/pricing/catalog/file.rs", "the built-in catalog, packed by the build"),
    ("src/http/openapi.rs", "the OpenAPI document, packed by the build"),
    ("src/cli/status.rs", "the daemon's own answer"),
    ("src/cli/top/sample.rs", "the daemon's own answers"),
    ("crates/store/src/prices/cache.rs", "the daemon's own file"),
    ("src/http/auth/keys.rs", "the configured issuer's keys, into fixed types"),
    ("src/http/page/gotrue.rs", "the configured issuer's answers, bounded in bytes"),
    ("src/http/page/sign_in.rs", "what the daemon sealed itself"),
    ("crates/wal/src/files.rs", "the daemon's own file"),
];

#[test]
fn what_comes_from_outside_is_read_by_one_json_reader() {
    let output = Command::new("git").args(["ls-files", "src", "crates"]).current_dir(root()).output().unwrap();
    let files = String::from_utf8(output.stdout).unwrap();
    let is_test = |file: &str| file.contains("/tests") || file.contains("_test.rs");
    let reads = ["from_str", "from_slice", "from_reader", "Deserializer"].map(|name| format!("serde_json::{name}"));
    let mut found = BTreeSet::new();
    for file in files.lines().filter(|file| file.ends_with(".rs") && !is_test(file)) {
        let text = read(file);
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        if reads.iter().any(|reads| code.contains(reads)) {
            found.insert(file.to_owned());
        }
    }
    let known: BTreeSet<_> = READ_BY_SERDE_JSON.iter().map(|(file, _)| (*file).to_owned()).collect();
    assert_eq!(found, known, "read it with tallyd_model::json, or say in READ_BY_SERDE_JSON why serde_json may");
}

/// Nouns that a number counts in a sentence. A number that is never 1 (a bound, a constant) has a name in capitals.
const COUNTED: &[&str] = &[
    "records", "calls", "letters", "days", "rows", "users", "models", "prices", "names", "alerts", "budgets",
    "requests", "segments", "lanes", "minutes", "sessions", "keys", "files",
];

/// A number and its noun agree: `noun(…)` in the daemon and the page, a choice of words in the clients.
#[test]
fn no_message_has_one_records() {
    let (mut looked_at, mut found) = (0, Vec::new());
    for folder in [
        "src",
        "crates",
        "page/src",
        "clients/typescript/src",
        "clients/python/tallyd",
        "clients/rust/src",
        "clients/rust/examples",
    ] {
        walk(&root().join(folder), &mut |path| {
            let name = path.strip_prefix(root()).unwrap().display().to_string();
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let is_code = [".rs", ".ts", ".tsx", ".py"].iter().any(|end| name.ends_with(end));
            if !is_code || name.contains("test") {
                return;
            }
            looked_at += 1;
            let product = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
            found.extend(product.lines().filter(|line| disagrees(line)).map(|line| format!("{name}: {}", line.trim())));
        });
    }
    assert!(looked_at > 300, "only {looked_at} files were looked at");
    let mend = "a number and its noun that may not agree; in Rust noun(count, \"day\", \"days\") writes both";
    assert!(found.is_empty(), "{mend}:\n{}", found.join("\n"));
}

/// True if a line has a placeholder before a plural, and nothing that chooses the singular.
fn disagrees(line: &str) -> bool {
    let is_comment = ["//", "*", "#", "\"\"\""].iter().any(|mark| line.trim_start().starts_with(mark));
    // `1 =>` and `== 1`, `!= 1` choose. A number in a column of its own, or a bound, does not need a choice.
    let chooses = [
        "== 1",
        "!= 1",
        "caption=",
        "rows={",
        "human_len",
        "more than {",
        "takes at most {",
        "longer than",
        "credits => ",
    ];
    if is_comment || chooses.iter().any(|word| line.contains(word)) {
        return false;
    }
    COUNTED.iter().any(|noun| {
        ["} ", "%d "].iter().any(|mark| {
            let phrase = format!("{mark}{noun}");
            line.match_indices(&phrase).any(|(at, _)| {
                let ends = line[at + phrase.len()..]
                    .chars()
                    .next()
                    .is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != '=');
                let placeholder = line[..=at].rsplit('{').next().unwrap_or_default();
                let is_constant = placeholder.trim_end_matches('}').chars().all(|c| c.is_ascii_uppercase() || c == '_');
                ends && (*mark == "%d " || !is_constant || placeholder == "}")
            })
        })
    })
}
