//! Puts the built admin page into the binary.
//!
//! `make page` builds `page/dist`; whatever is there is embedded, each file with the forms that it was compressed to. A
//! build without it works all the same: `/` says then how to have the page.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=page/dist");
    println!("cargo::rerun-if-changed=build.rs");
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let out = env::var("OUT_DIR").expect("cargo sets it");
    let dist = Path::new(&root).join("page/dist");
    let mut code = String::from("&[\n");
    for name in names(&dist) {
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
