//! Everything that documents, dashboards and alerts name exists.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use tallyd_base::registry;

use crate::{read, root, walk, words};

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
                    let known = registry::ALL.iter().any(|metric| metric.name == name);
                    assert!(known, "{}: {word} is not in crates/base/src/registry.rs", path.display());
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
    let (tests, runbook) = (read("grafana/prometheus/alerts_test.yml"), read("docs/operate/runbook.md"));
    let alerts: Vec<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).map(str::trim).collect();
    assert!(alerts.len() >= 15, "{alerts:?}");
    for alert in &alerts {
        assert!(tests.contains(&format!("- name: {alert}\n")), "grafana/prometheus/alerts_test.yml has no {alert}");
        assert!(runbook.contains(&format!("\n## {alert}\n")), "docs/operate/runbook.md has no section {alert}");
        let link = format!("docs/operate/runbook.md#{}\"", alert.to_ascii_lowercase());
        assert!(rules.contains(&link), "{alert} does not lead to {link}: its runbook_url in alerts.yml");
    }
    let sections = runbook.lines().filter_map(|line| line.strip_prefix("## "));
    assert_eq!(
        sections.collect::<Vec<_>>(),
        alerts,
        "docs/operate/runbook.md has a section for each alert, in the order of alerts.yml"
    );
    for file in [&rules, &tests] {
        for line in file.lines().filter(|line| !line.trim_start().starts_with("runbook_url")) {
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
            for word in words(line, is_part).filter(|word| word.starts_with("tallyd_")) {
                let name = word.strip_suffix("_bucket").unwrap_or(word);
                let known = registry::ALL.iter().any(|metric| metric.name == name);
                assert!(known, "grafana/prometheus/: {word} is not in crates/base/src/registry.rs");
            }
        }
    }
}

/// The compiler never reports an unused `pub const`: a metric without a call site would be documented only.
#[test]
fn every_metric_is_counted_somewhere() {
    let list = "crates/base/src/registry.rs";
    let mut code = String::new();
    for folder in ["src", "crates"] {
        walk(&root().join(folder), &mut |path| {
            if path != root().join(list) && path.extension().is_some_and(|extension| extension == "rs") {
                code.push_str(&std::fs::read_to_string(path).unwrap());
            }
        });
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let named: BTreeSet<_> = words(&code, is_part).collect();
    let list = read(list);
    let is_kind = |word: &str| ["counter", "gauge", "histogram"].contains(&word);
    let constants = list.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (kind, constant, sign) = (words.next()?, words.next()?, words.next()?);
        (is_kind(kind) && sign == "=").then_some(constant)
    });
    let mut found = 0;
    for constant in constants {
        assert!(named.contains(constant), "{constant} is in crates/base/src/registry.rs, and no code counts it");
        found += 1;
    }
    assert_eq!(found, registry::ALL.len(), "how a metric is written in crates/base/src/registry.rs");
}

#[test]
fn the_guide_and_the_help_name_every_vendor_whose_bill_is_read() {
    let output = Command::new(env!("CARGO_BIN_EXE_tallyd")).args(["bill-check", "--help"]).output().unwrap();
    let help = String::from_utf8_lossy(&output.stdout);
    let guide = read("docs/guide/prices.md");
    let paragraph = guide.split("\n\n").find(|text| text.contains("`tallyd bill-check` reads "));
    let paragraph = paragraph.expect("docs/guide/prices.md has a paragraph with: `tallyd bill-check` reads");
    for (_, vendor) in tallyd_model::bill::VENDORS {
        assert!(
            paragraph.contains(vendor),
            "docs/guide/prices.md, on the bills that `tallyd bill-check` reads: {vendor}"
        );
        assert!(help.contains(vendor), "tallyd bill-check --help (src/cli/bill_check.rs): {vendor}");
    }
}

/// Every tracked document except the changelog, which names files as they were.
fn documents() -> Vec<String> {
    let found = Command::new("git").args(["ls-files", "*.md"]).current_dir(root()).output().unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    // The second is a part of a page, which a test puts into docs/reference/.
    let is_left_out = |file: &str| ["CHANGELOG.md", "crates/intake/src/otlp/table.md"].contains(&file);
    let is_ours = |file: &&str| !is_left_out(file) && !file.starts_with("fuzz/corpus/") && root().join(file).exists();
    found.lines().filter(is_ours).map(str::to_owned).collect()
}

/// The text without blocks of code, in which brackets mean something else.
fn without_blocks(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// The anchors of a page: its headings as GitHub and mdbook write them, and explicit ones.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = without_blocks(text);
    let headings =
        headings.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let is_kept = |c: &char| c.is_alphanumeric() || "-_ ".contains(*c);
    headings.map(|line| line.to_lowercase().chars().filter(is_kept).collect::<String>().replace(' ', "-")).collect()
}

#[test]
fn every_link_of_a_document_leads_to_a_file_and_a_heading() {
    let (mut files, mut headings) = (0, 0);
    for page in documents() {
        let text = without_blocks(&read(&page));
        for (at, _) in text.match_indices("](") {
            let link = text[at + 2..].split(')').next().unwrap();
            if link.contains("://") || link.contains(' ') || link.starts_with("mailto:") {
                continue;
            }
            let (file, heading) = link.split_once('#').map_or((link, None), |(file, heading)| (file, Some(heading)));
            let folder = root().join(&page).parent().unwrap().to_owned();
            let target = if file.is_empty() { root().join(&page) } else { folder.join(file) };
            assert!(target.exists(), "{page} leads to {link}, which is not there");
            files += 1;
            if let Some(heading) = heading {
                let there = anchors(&std::fs::read_to_string(&target).unwrap());
                assert!(there.contains(heading), "{page} leads to {link}; the headings of that page: {there:?}");
                headings += 1;
            }
        }
    }
    assert!(files > 150 && headings > 15, "only {files} links were found, {headings} of them to headings");
}

#[test]
fn documents_name_targets_of_the_makefile_that_exist() {
    let makefile = read("Makefile");
    let mut found = 0;
    for page in documents() {
        let text = read(&page);
        // In code only: "make sure" is English.
        for span in text.split('`').skip(1).step_by(2).filter_map(|span| span.strip_prefix("make ")) {
            let Some(target) = span.split_whitespace().next() else { continue };
            let is_name = target.chars().all(|c| c.is_ascii_lowercase() || c == '-' || c.is_ascii_digit());
            assert!(
                !is_name || makefile.contains(&format!("\n{target}:")),
                "{page} names `make {target}`, which the Makefile lacks"
            );
            found += 1;
        }
    }
    assert!(found > 20, "only {found} were found");
}

#[test]
fn the_table_of_contents_names_every_page() {
    let contents = read("docs/README.md");
    let decisions = read("docs/decisions/README.md");
    let mut pages = 0;
    for page in documents().iter().filter(|page| page.starts_with("docs/") && *page != "docs/README.md") {
        let link = page.strip_prefix("docs/").unwrap();
        let is_named = match link.strip_prefix("decisions/") {
            Some(decision) if decision != "README.md" => decisions.contains(&format!("]({decision})")),
            _ => contents.contains(&format!("]({link})")),
        };
        assert!(is_named, "{page} is missing in the table of contents (docs/README.md, docs/decisions/README.md)");
        pages += 1;
    }
    assert!(pages > 40, "only {pages} pages were found");
    // scripts/book makes the site's contents of these lists.
    for item in contents.lines().filter(|line| line.starts_with(['*', '-', ' '])) {
        assert!(item.starts_with("* ["), "docs/README.md: an item begins with its page, and is not nested: {item}");
    }
}

/// A long README becomes guide, reference and report at once, and a long map is not read. Details belong in docs/.
#[test]
fn the_readme_and_the_map_stay_short() {
    for (page, bytes) in [("README.md", 9_500), ("ARCHITECTURE.md", 14_500)] {
        let length = read(page).len();
        assert!(length <= bytes, "{page} has {length} bytes, more than {bytes}: move details to docs/");
    }
}

/// The commands that the README shows: the words after `tallyd` in its shell blocks, continued lines joined.
fn shown_commands(readme: &str) -> Vec<Vec<String>> {
    let joined = readme.replace("\\\n", " ");
    let blocks = joined.split("```").skip(1).step_by(2);
    let blocks = blocks.filter_map(|block| block.strip_prefix("sh\n").or(block.strip_prefix("console\n")));
    let lines = blocks.flat_map(str::lines).filter_map(|line| {
        let line = line.split(" # ").next().unwrap_or(line);
        let mut rest = line.split_whitespace().skip_while(|word| ["$", "npx"].contains(word) || word.contains('='));
        let program = rest.next()?;
        (program == "tallyd" || program.ends_with("/tallyd")).then(|| rest.map(str::to_owned).collect())
    });
    lines.collect()
}

#[test]
fn the_readmes_commands_and_flags_exist() {
    let commands = shown_commands(&read("README.md"));
    assert!(commands.len() >= 5, "only {commands:?} were found");
    for words in commands {
        // Alone it starts the daemon.
        let Some(command) = words.first() else { continue };
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
fn the_documents_environment_variables_are_settings() {
    let is_part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let mut names = BTreeSet::new();
    let pages = documents();
    for page in
        pages.iter().filter(|page| *page == "README.md" || page.starts_with("docs/") || page.starts_with("deploy/"))
    {
        let text = read(page);
        let is_setting = |name: &&str| name.starts_with("TALLYD_") && !name.ends_with('_');
        names.extend(words(&text, is_part).filter(is_setting).map(str::to_owned));
    }
    assert!(names.len() >= 15, "only {names:?} were found");
    for name in names.iter().filter(|name| *name != "TALLYD_WRITE_DOCS") {
        // The value may be wrong. Only an error about an unknown name matters.
        let mut command = Command::new(env!("CARGO_BIN_EXE_tallyd"));
        let output =
            command.args(["config", "check"]).env_clear().env(name, "1234").current_dir(root()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("unknown environment variable"), "{said}");
    }
}

#[test]
fn the_files_that_architecture_and_contributing_name_exist() {
    const ENDS: [&str; 8] = [".rs", ".toml", ".md", ".json", ".yml", ".py", ".sql", "/"];
    for (page, least) in [
        ("ARCHITECTURE.md", 20),
        ("CONTRIBUTING.md", 15),
        ("docs/internals/wal.md", 4),
        ("docs/internals/flusher.md", 1),
    ] {
        let text = read(page);
        // Without the blocks of commands, whose fences are backticks, too.
        let text: String = text.split("```").step_by(2).collect();
        let named = text.split('`').skip(1).step_by(2);
        let mut checked = 0;
        for name in named.filter(|name| name.contains('/') && ENDS.iter().any(|end| name.ends_with(end))) {
            // A placeholder for a new name does not exist; its folder does.
            let name =
                name.split_once('<').map_or(name, |(before, _)| &before[..=before.rfind('/').unwrap_or_default()]);
            if name.contains(' ') {
                continue;
            }
            for file in expanded(name) {
                assert!(root().join(&file).exists(), "{page} names {file}, which is not there: was it moved?");
                checked += 1;
            }
        }
        assert!(checked > least, "only {checked} files were found in {page}");
    }
}

/// `a/{b,c}.rs` as `a/b.rs` and `a/c.rs`.
fn expanded(name: &str) -> Vec<String> {
    let Some((before, rest)) = name.split_once('{') else { return vec![name.to_owned()] };
    let (choices, after) = rest.split_once('}').expect("a brace that is opened is closed");
    choices.split(',').map(|choice| format!("{before}{choice}{after}")).collect()
}

#[test]
fn the_tests_that_the_internals_name_exist() {
    let architecture = read("ARCHITECTURE.md") + &read("docs/internals/wal.md");
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
        assert!(
            sources.contains(&format!("fn {name}(")),
            "ARCHITECTURE.md or docs/internals/wal.md names the test {name}, which is not there"
        );
        checked += 1;
    }
    assert!(checked >= 5, "only {checked} were found");
}
