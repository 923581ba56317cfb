//! Puts the built admin page and the build's description (`tallyd --version`) into the binary.
//!
//! `make page` builds `page/dist`; its files are embedded, each with the forms that it was compressed to. A
//! build without it works all the same: `/` says then how to have the page.
//!
//! The commit is `BUILD_COMMIT` where a build has no repository (an image, a package's source), and otherwise git's. A debug build
//! names none: it would have to be compiled anew after every commit.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=page/dist");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=BUILD_COMMIT");
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let out = env::var("OUT_DIR").expect("cargo sets it");
    let dist = Path::new(&root).join("page/dist");
    let mut code = String::from("&[\n");
    let page = names(&dist);
    describe_build(&root, !page.is_empty());
    for name in page {
        let path = dist.join(&name);
        let include = |suffix: &str| {
            let path = dist.join(format!("{name}{suffix}"));
            if path.exists() { format!("Some(include_bytes!({path:?}))") } else { "None".to_owned() }
        };
        let (gzip, brotli) = (include(".gz"), include(".br"));
        // Writing into text does not fail.
        let _ = writeln!(
            code,
            "Asset {{ name: {name:?}, plain: include_bytes!({path:?}), gzip: {gzip}, brotli: {brotli} }},"
        );
    }
    code.push(']');
    fs::write(Path::new(&out).join("page.rs"), code).expect("OUT_DIR is writable");
}

/// Files that are served under their own name, in order.
fn names(dist: &Path) -> Vec<String> {
    let entries = fs::read_dir(dist).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| !name.ends_with(".gz") && !name.ends_with(".br"));
    names.sort();
    names
}

/// Sets the variables that `--version` is made of.
fn describe_build(root: &str, has_page: bool) {
    let profile = env::var("PROFILE").expect("cargo sets it");
    let target = env::var("TARGET").expect("cargo sets it");
    let commit = env::var("BUILD_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = commit.or_else(|| if profile == "release" { commit_of(root) } else { None });
    let mut features = vec![if has_page { "page" } else { "no page" }.to_owned()];
    for feature in ["failpoints", "model"] {
        if env::var_os(format!("CARGO_FEATURE_{}", feature.to_uppercase())).is_some() {
            features.push(feature.to_owned());
        }
    }
    // Cargo sets these for programs that it runs, too: TALLYD_… would be a setting to the daemon.
    println!("cargo::rustc-env=BUILT_COMMIT={}", commit.as_deref().unwrap_or("not recorded"));
    println!("cargo::rustc-env=BUILT_AS={profile}, {target}");
    println!("cargo::rustc-env=BUILT_FEATURES={}", features.join(", "));
}

/// The commit that is checked out, with a mark if tracked files differ from it.
fn commit_of(root: &str) -> Option<String> {
    let git = |words: &[&str]| {
        let output = Command::new("git").arg("-C").arg(root).args(words).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    // A package's source may lie within the repository of something else.
    if Path::new(&git(&["rev-parse", "--show-toplevel"])?).canonicalize().ok()?
        != Path::new(root).canonicalize().ok()?
    {
        return None;
    }
    for file in ["HEAD", "index"] {
        println!(
            "cargo::rerun-if-changed={}",
            git(&["rev-parse", "--git-path", file]).map(|path| absolute(root, &path))?
        );
    }
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_none_or(|changes| !changes.is_empty());
    Some(format!("{}{}", git(&["rev-parse", "--short=12", "HEAD"])?, if changed { ", with changes" } else { "" }))
}

/// Git answers relative to the folder that it was asked about.
fn absolute(root: &str, path: &str) -> String {
    Path::new(root).join(path).display().to_string()
}
