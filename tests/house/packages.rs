//! Packages, containers and published crates have the files that they name.

use std::path::Path;
use std::process::Command;

use crate::{read, root};

#[test]
fn what_a_container_is_built_from_is_there() {
    let mut named = 0;
    for file in ["Dockerfile", "deploy/railway/Dockerfile"] {
        for line in read(file).lines().filter(|line| line.starts_with("COPY ") && !line.contains("--from")) {
            let mut paths: Vec<_> = line.split_whitespace().skip(1).collect();
            // The last one is the destination.
            paths.pop();
            // Paths of the application are the reader's own.
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
                "{file} includes {}, which no COPY of the Dockerfile brings",
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
    // The unit starts and reads files at the package's paths; its user is the one that the package creates.
    for needed in ["ExecStart=/usr/bin/tallyd --config /etc/tallyd/config.toml", "User=tallyd"] {
        assert!(unit.contains(needed), "{needed}");
    }
    assert!(places.iter().any(|place| place == "/usr/bin/") && read("deploy/debian/postinst").contains("useradd"));
    assert!(assets.len() >= 6, "{assets:?}");
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

/// Cargo only warns of a name that is none of the program's crates, which would then be built small.
#[test]
fn the_crates_that_are_built_fast_exist() {
    let manifest: toml::Table = toml::from_str(&read("Cargo.toml")).unwrap();
    let fast = manifest["profile"]["dist"]["package"].as_table().unwrap();
    let lock = read("Cargo.lock");
    for name in fast.keys() {
        assert!(lock.contains(&format!("\nname = \"{name}\"\n")), "{name}");
    }
    assert!(fast.len() > 40, "{fast:?}");
}

fn tallyd(words: &[&str], folder: &Path) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_tallyd")).args(words).current_dir(folder).output().unwrap()
}

/// The commands that `--help` lists, with their subcommands: `prices show`.
fn commands(command: &clap::Command, words: &str, found: &mut Vec<String>) {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help") {
        let words = format!("{words} {}", below.get_name()).trim_start().to_owned();
        commands(below, &words, found);
        found.push(words);
    }
}

#[test]
fn every_command_has_a_man_page_and_is_completed() {
    let mut names = Vec::new();
    commands(&tallyd::command(), "", &mut names);
    assert!(names.len() > 50, "only {names:?}");
    let folder = tempfile::tempdir().unwrap();
    // Neither needs a valid configuration.
    std::fs::write(folder.path().join("config.toml"), "no_such_key = 1\n").unwrap();
    let done = tallyd(&["man", "pages"], folder.path());
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    for name in &names {
        let page = folder.path().join(format!("pages/tallyd-{}.1", name.replace(' ', "-")));
        let page = std::fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        assert!(page.contains(".SH SYNOPSIS"), "{name}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let done = tallyd(&["completions", shell], folder.path());
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let script = String::from_utf8(done.stdout).unwrap();
        for word in names.iter().flat_map(|name| name.split(' ')) {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn the_version_tells_which_build_it_is() {
    let told = |flag| String::from_utf8(tallyd(&[flag], Path::new("/")).stdout).unwrap();
    assert_eq!(told("-V"), concat!("tallyd ", env!("CARGO_PKG_VERSION"), "\n"));
    let long = told("--version");
    let keys: Vec<_> = long.lines().skip(1).filter_map(|line| line.split_once(": ")).map(|(key, _)| key).collect();
    assert_eq!(keys, ["commit", "build", "features"], "{long}");
    assert!(long.starts_with(&told("-V")), "{long}");
}
