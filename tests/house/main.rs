//! The house: documents and structure that could drift from the code.

mod reference;
mod settings;
mod snapshots;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use tallyd_base::registry;
use tallyd_config::env::CLIENT_VARIABLES;

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

/// One environment serves an application and the daemon beside it, so neither may stumble over the other's variables.
#[test]
fn the_daemon_knows_each_variable_that_a_client_reads() {
    let mut found = BTreeSet::new();
    let mut folders =
        ["clients/typescript/src", "clients/python/tallyd", "clients/rust/src"].map(|path| root().join(path)).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
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
fn every_metric_of_a_dashboard_exists() {
    let mut named = 0;
    for entry in std::fs::read_dir(root().join("grafana/dashboards")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(dashboard["schemaVersion"].as_u64(), Some(41), "{}", path.display());
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().unwrap() {
                // The others are SQL: tests/monitoring/dashboards.py runs them.
                let Some(expression) = target["expr"].as_str() else { continue };
                let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
                for word in words(expression, is_part).filter(|word| word.starts_with("tallyd_")) {
                    let name = word.strip_suffix("_bucket").unwrap_or(word);
                    assert!(registry::ALL.iter().any(|metric| metric.name == name), "{word} in {}", path.display());
                    named += 1;
                }
            }
        }
    }
    assert!(named > 10, "only {named} metrics were found");
}

#[test]
fn every_alert_has_metrics_that_exist_a_test_and_a_section_of_the_runbook() {
    let rules = read("grafana/prometheus/alerts.yml");
    let (tests, runbook) = (read("grafana/prometheus/alerts_test.yml"), read("docs/runbook.md"));
    let alerts: Vec<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).map(str::trim).collect();
    assert!(alerts.len() >= 15, "{alerts:?}");
    for alert in &alerts {
        assert!(tests.contains(&format!("- name: {alert}\n")), "{alert} is not tested");
        assert!(runbook.contains(&format!("\n## {alert}\n")), "{alert} is not in the runbook");
        let link = format!("docs/runbook.md#{}\"", alert.to_ascii_lowercase());
        assert!(rules.contains(&link), "{alert} does not lead to {link}");
    }
    let sections = runbook.lines().filter_map(|line| line.strip_prefix("## "));
    assert_eq!(sections.collect::<Vec<_>>(), alerts, "the runbook's sections are the alerts, in their order");
    for file in [&rules, &tests] {
        for line in file.lines().filter(|line| !line.trim_start().starts_with("runbook_url")) {
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
            for word in words(line, is_part).filter(|word| word.starts_with("tallyd_")) {
                let name = word.strip_suffix("_bucket").unwrap_or(word);
                assert!(registry::ALL.iter().any(|metric| metric.name == name), "{word}");
            }
        }
    }
}

#[test]
fn the_readme_names_targets_and_files_that_exist() {
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
}

/// The commands that the README shows: what follows `tallyd` in its shell blocks, continued lines joined.
fn shown_commands(readme: &str) -> Vec<Vec<String>> {
    let joined = readme.replace("\\\n", " ");
    let blocks = joined.split("```sh\n").skip(1).filter_map(|block| block.split("```").next());
    let lines = blocks.flat_map(str::lines).filter_map(|line| {
        let line = line.split(" # ").next().unwrap_or(line);
        let mut rest = line.split_whitespace().skip_while(|word| *word == "$" || word.contains('='));
        let program = rest.next()?;
        (program == "tallyd" || program.ends_with("/tallyd")).then(|| rest.map(str::to_owned).collect())
    });
    lines.collect()
}

#[test]
fn the_readmes_commands_and_flags_exist() {
    let commands = shown_commands(&read("README.md"));
    assert!(commands.len() >= 6, "only {commands:?} were found");
    for words in commands {
        let command = words.first().expect("the README never shows `tallyd` alone in a block");
        let output = Command::new(env!("CARGO_BIN_EXE_tallyd")).args([command, "--help"]).output().unwrap();
        assert!(output.status.success(), "tallyd {command}: {}", String::from_utf8_lossy(&output.stderr));
        let help = String::from_utf8_lossy(&output.stdout);
        let flags: Vec<_> = help.split(|c: char| c.is_whitespace() || c == ',').collect();
        for flag in words.iter().filter(|word| word.starts_with("--")) {
            assert!(flags.contains(&flag.as_str()), "tallyd {command} {flag}");
        }
    }
}

#[test]
fn the_readmes_environment_variables_are_settings() {
    let readme = read("README.md");
    let is_part = |c: char| c.is_ascii_uppercase() || c == '_';
    let names: BTreeSet<_> = words(&readme, is_part)
        .filter(|name| {
            name.starts_with("TALLYD_") && !name.ends_with('_') || *name == "DATABASE_URL" || *name == "PORT"
        })
        .collect();
    assert!(names.len() >= 6, "only {names:?} were found");
    for name in names {
        // Not a good value for each of them. Only what is said of an unknown name matters.
        let mut command = Command::new(env!("CARGO_BIN_EXE_tallyd"));
        let output =
            command.args(["config", "check"]).env_clear().env(name, "1234").current_dir(root()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("unknown environment variable"), "{said}");
    }
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
    // In two parts, so that this file does not hold them itself.
    let homes = ["/home", "/Users", "/root"].map(|home| format!("{home}/"));
    let mut places = homes.to_vec();
    places.push(format!("{}/", root().display()));
    let mut files = Vec::new();
    walk(&root(), &mut |path| files.push(path.to_owned()));
    assert!(files.len() > 100, "only {} files were looked at", files.len());
    for path in files {
        // What is not text names no path that a reader would follow.
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for place in &places {
            for (at, _) in text.match_indices(place.as_str()) {
                let before = text[..at].chars().next_back();
                // `clients/src/` is no `/src/`.
                let is_absolute = before.is_none_or(|c| !c.is_alphanumeric() && !"._-}/*>".contains(c));
                assert!(!is_absolute, "{place} in {}", path.display());
            }
        }
    }
}

#[test]
fn the_files_that_the_architecture_names_exist() {
    let architecture = read("ARCHITECTURE.md");
    let named = architecture.split('`').skip(1).step_by(2);
    let mut checked = 0;
    for name in named.filter(|name| name.ends_with(".rs") || name.contains('/') && name.ends_with('/')) {
        for file in expanded(name) {
            let places = ["", "src/pipeline", "src"];
            assert!(places.iter().any(|place| root().join(place).join(&file).exists()), "{file}");
            checked += 1;
        }
    }
    assert!(checked > 20, "only {checked} were found");
}

/// `a/{b,c}.rs` as `a/b.rs` and `a/c.rs`.
fn expanded(name: &str) -> Vec<String> {
    let Some((before, rest)) = name.split_once('{') else { return vec![name.to_owned()] };
    let (choices, after) = rest.split_once('}').expect("a brace that is opened is closed");
    choices.split(',').map(|choice| format!("{before}{choice}{after}")).collect()
}

#[test]
fn the_tests_that_the_architecture_names_exist() {
    let architecture = read("ARCHITECTURE.md");
    let mut sources = String::new();
    let mut add = |path: &Path| {
        if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&std::fs::read_to_string(path).unwrap());
        }
    };
    for folder in ["src", "crates"] {
        walk(&root().join(folder), &mut add);
    }
    let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
    let names = words(&architecture, is_part).filter(|word| word.matches('_').count() >= 4);
    let mut checked = 0;
    for name in names {
        assert!(sources.contains(&format!("fn {name}(")), "{name}");
        checked += 1;
    }
    assert!(checked >= 5, "only {checked} were found");
}

/// Every file of the project itself: nothing that was built, fetched or recorded.
fn walk(folder: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if ["target", ".git", "tallyd-data", "node_modules"].contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() { walk(&path, visit) } else { visit(&path) }
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

/// All SQL is in `crates/store`. Beside the calls of the driver, a statement's first words show it.
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
    assert!(found.is_empty(), "SQL belongs to crates/store:\n{}", found.join("\n"));
}

#[test]
fn what_a_container_is_built_from_is_there() {
    let mut named = 0;
    for file in ["Dockerfile", "deploy/railway/Dockerfile"] {
        for line in read(file).lines().filter(|line| line.starts_with("COPY ") && !line.contains("--from")) {
            let mut paths: Vec<_> = line.split_whitespace().skip(1).collect();
            // The last one is where it goes.
            paths.pop();
            // What is the application's, an example's reader has.
            for path in paths.into_iter().filter(|path| !path.starts_with("app/")) {
                assert!(root().join(path).exists(), "{file}: {path}");
                named += 1;
            }
        }
    }
    for line in read("deploy/compose/compose.yaml").lines().map(str::trim) {
        if let Some((path, _)) = line.strip_prefix("- ../../").and_then(|mount| mount.split_once(':')) {
            assert!(root().join(path).exists(), "compose.yaml: {path}");
            named += 1;
        }
    }
    assert!(named > 12, "only {named} paths were found");
}

#[test]
fn a_container_gets_every_file_that_the_source_includes() {
    let dockerfile = read("Dockerfile");
    let copied: Vec<_> =
        dockerfile.lines().filter(|line| line.starts_with("COPY ")).flat_map(str::split_whitespace).collect();
    let found = Command::new("git").args(["ls-files", "src", "crates"]).current_dir(root()).output().unwrap();
    let mut named = 0;
    for file in String::from_utf8(found.stdout).unwrap().lines().filter(|file| file.ends_with(".rs")) {
        for included in read(file).split("include_").skip(1).filter_map(|rest| rest.split_once("!(\"")) {
            let path = included.1.split('"').next().unwrap_or_default();
            let path = root().join(file).parent().unwrap().join(path);
            let Ok(path) = path.canonicalize() else { continue };
            let path = path.strip_prefix(root()).unwrap().to_owned();
            let first = path.components().next().unwrap().as_os_str().to_str().unwrap().to_owned();
            assert!(
                copied.iter().any(|copied| *copied == first || Path::new(copied) == path),
                "{file} includes {}, which is not copied",
                path.display()
            );
            named += 1;
        }
    }
    assert!(named >= 3, "only {named} were found");
}

#[test]
fn the_debian_package_names_files_that_exist() {
    let manifest: toml::Table = toml::from_str(&read("Cargo.toml")).unwrap();
    let deb = &manifest["package"]["metadata"]["deb"];
    let assets = deb["assets"].as_array().unwrap();
    let path = |asset: &toml::Value, at: usize| asset[at].as_str().unwrap().to_owned();
    for file in assets.iter().map(|asset| path(asset, 0)).filter(|file| !file.starts_with("target/")) {
        assert!(root().join(&file).exists(), "{file}");
    }
    let places: Vec<_> = assets.iter().map(|asset| format!("/{}", path(asset, 1))).collect();
    for file in deb["conf-files"].as_array().unwrap() {
        assert!(places.iter().any(|place| place == file.as_str().unwrap()), "{file} is not in the package");
    }
    for script in ["postinst", "postrm"] {
        let script = format!("{}{script}", deb["maintainer-scripts"].as_str().unwrap());
        assert!(read(&script).contains("\n#DEBHELPER#\n"), "{script} leaves out what the unit needs");
    }
    for file in [&deb["license-file"][0], &deb["changelog"]] {
        assert!(root().join(file.as_str().unwrap()).exists(), "{file}");
    }
    let units = &deb["systemd-units"];
    let (folder, name) = (units["unit-scripts"].as_str().unwrap(), units["unit-name"].as_str().unwrap());
    let unit = read(&format!("{folder}{name}.service"));
    // What the unit starts and reads is where the package puts it; its user is the one that is made.
    for needed in ["ExecStart=/usr/bin/tallyd --config /etc/tallyd/config.toml", "User=tallyd"] {
        assert!(unit.contains(needed), "{needed}");
    }
    assert!(places.iter().any(|place| place == "/usr/bin/") && read("deploy/debian/postinst").contains("useradd"));
    assert!(assets.len() >= 6, "{assets:?}");
}

/// Two features of serde_json give keys of a document a meaning of their own. A stack overflow and a panic came of them.
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

/// Where serde_json reads, outside of tests, and why it may: it stops at 128 levels, but keeps no digits and refuses half of a
/// surrogate pair. Everything else reads with `tallyd_model::json`.
const READ_BY_SERDE_JSON: [(&str, &str); 7] = [
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

#[test]
fn the_published_crates_have_their_licences_readmes_and_metadata() {
    for folder in ["protocol", "clients/rust"] {
        let manifest = read(&format!("{folder}/Cargo.toml"));
        for key in ["description", "license", "repository", "readme", "keywords", "categories"] {
            assert!(manifest.lines().any(|line| line.starts_with(key)), "{folder}/Cargo.toml: {key}");
        }
        for file in ["README.md", "LICENSE-MIT", "LICENSE-APACHE"] {
            assert!(!read(&format!("{folder}/{file}")).is_empty(), "{folder}/{file}");
        }
    }
}

/// What a number counts in a sentence. A number that is never one (a bound, a constant) has a name in capitals.
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
        "crates/model/src",
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
    assert!(found.is_empty(), "a number and its noun that may not agree:\n{}", found.join("\n"));
}

/// Whether a line has a placeholder with a plural after it, and nothing that chooses the singular.
fn disagrees(line: &str) -> bool {
    let is_comment = ["//", "*", "#", "\"\"\""].iter().any(|mark| line.trim_start().starts_with(mark));
    // `1 =>` and `== 1`, `!= 1` choose; what has a column of its own, and a bound, is not one.
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
