//! Lists the files of `migrations/` by version, each with its checksum, for `src/migrate/files.rs`.
//!
//! The checksum is refinery's: SipHash-1-3 of name, version and text. Histories of databases have it.

use std::fmt::Write as _;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::{env, fs};

use siphasher::sip::SipHasher13;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=migrations");
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let folder = Path::new(&root).join("migrations");
    let folder = folder.canonicalize().expect("the crate has its migrations");
    let entries = fs::read_dir(folder).expect("the migrations can be listed");
    let mut files: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "sql"))
        .map(named)
        .collect();
    files.sort();
    let mut code = String::from("&[\n");
    for (version, name, path) in files {
        let checksum = checksum(&name, version, &fs::read_to_string(&path).expect("a migration is readable text"));
        // Writing into text does not fail.
        let _ = writeln!(
            code,
            "Migration {{ version: {version}, name: {name:?}, checksum: {checksum}, sql: include_str!({path:?}) }},"
        );
    }
    code.push(']');
    let out = env::var("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&out).join("migrations.rs"), code).expect("OUT_DIR is writable");
}

/// Version, name and path of `V12__access.sql`.
fn named(path: PathBuf) -> (i32, String, PathBuf) {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let parts = stem.strip_prefix('V').and_then(|stem| stem.split_once("__"));
    let parts = parts.and_then(|(version, name)| Some((version.parse().ok()?, name.to_owned())));
    let (version, name) = parts.unwrap_or_else(|| panic!("{stem}.sql is not named V<number>__<name>.sql"));
    assert!(
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'),
        "{stem}.sql: words and underscores alone"
    );
    (version, name, path)
}

fn checksum(name: &str, version: i32, sql: &str) -> u64 {
    let mut hasher = SipHasher13::new();
    name.hash(&mut hasher);
    version.hash(&mut hasher);
    sql.hash(&mut hasher);
    hasher.finish()
}
