//! Puts the built admin page, the built documentation, the OpenAPI document and the build's description (`tallyd --version`) into the binary.
//!
//! `make page` builds `page/dist`; its files are embedded, each with its compressed form. `make book` builds `target/book`;
//! its files are embedded compressed alone. A build without either works all the same: `/` and `/docs/` say then how to have them.
//!
//! The commit is `BUILD_COMMIT` where a build has no repository (an image, a package's source), and otherwise git's. A debug build
//! names none: it would have to be compiled anew after every commit.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use flate2::Compression;
use flate2::write::GzEncoder;

fn main() {
    println!("cargo::rerun-if-changed=page/dist");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=BUILD_COMMIT");
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let page = files(&Path::new(&root).join("page/dist"));
    let book = files(&Path::new(&root).join("target/book"));
    if !book.is_empty() {
        // Cargo runs this program at each build that misses a watched folder. `make book` touches build.rs instead.
        println!("cargo::rerun-if-changed=target/book");
    }
    describe_build(&root, !page.is_empty(), !book.is_empty());
    write_list("page.rs", &page, true);
    write_list("book.rs", &book, false);
    pack_openapi(&root);
}

/// Packs the OpenAPI document, which `make snapshots` has written, with this version in it.
fn pack_openapi(root: &str) {
    let path = Path::new(root).join("tests/snapshots/openapi.snap");
    println!("cargo::rerun-if-changed={}", path.display());
    let text = fs::read_to_string(path).expect("`make snapshots` writes the OpenAPI document");
    // A snapshot's own lines stand before it.
    let document = &text[text.find('{').expect("the snapshot has a document")..];
    let version = env::var("CARGO_PKG_VERSION").expect("cargo sets it");
    let document = document.replacen("\"(the version)\"", &format!("{version:?}"), 1);
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(document.as_bytes()).expect("memory is writable");
    let out = env::var("OUT_DIR").expect("cargo sets it");
    let packed = packed.finish().expect("memory is writable");
    fs::write(Path::new(&out).join("openapi.json.gz"), packed).expect("OUT_DIR is writable");
}

/// The files of a folder and its folders, by their paths in it, in order.
fn files(folder: &Path) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, Ok(name)) = (entry.path(), entry.file_name().into_string()) else { continue };
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|(inner, path)| (format!("{name}/{inner}"), path)));
        } else {
            found.insert(name, path);
        }
    }
    found
}

/// Writes the list of assets that `src/http/assets.rs` describes. Compressed forms are forms of a file, not files.
fn write_list(list: &str, files: &BTreeMap<String, PathBuf>, with_plain: bool) {
    let mut code = String::from("&[\n");
    let include = |path: Option<&PathBuf>| path.map_or("None".into(), |path| format!("Some(include_bytes!({path:?}))"));
    for (name, path) in files.iter().filter(|(name, _)| !name.ends_with(".gz")) {
        let gzip = files.get(&format!("{name}.gz"));
        let plain = Some(path).filter(|_| with_plain || gzip.is_none());
        // Writing into text does not fail.
        let _ = writeln!(code, "Asset {{ name: {name:?}, plain: {}, gzip: {} }},", include(plain), include(gzip));
    }
    code.push(']');
    let out = env::var("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&out).join(list), code).expect("OUT_DIR is writable");
}

/// Sets the variables that `--version` is made of.
fn describe_build(root: &str, has_page: bool, has_book: bool) {
    let profile = env::var("PROFILE").expect("cargo sets it");
    let target = env::var("TARGET").expect("cargo sets it");
    let commit = env::var("BUILD_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = commit.or_else(|| if profile == "release" { commit_of(root) } else { None });
    let mut features = vec![if has_page { "page" } else { "no page" }.to_owned()];
    if has_book {
        features.push("documentation".to_owned());
    }
    if env::var_os("CARGO_FEATURE_FAILPOINTS").is_some() {
        features.push("failpoints".to_owned());
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
