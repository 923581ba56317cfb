//! Embeds the admin page: what `make page` has built into `page/dist`, or, without that, a page that says so.
//!
//! Each file goes into a table with its type and its compressed forms, which the page's build makes: the daemon compresses
//! nothing at run time.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

const UNBUILT: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>tallyd</title>\
    <h1>tallyd</h1><p>This daemon was built without its page. <code>make page</code> builds it, and the next \
    <code>cargo build</code> embeds it. <a href=/api/docs>The API</a> is here all the same.";

/// A file's type by how its name ends.
const TYPES: [(&str, &str); 5] = [
    (".html", "text/html; charset=utf-8"),
    (".js", "text/javascript; charset=utf-8"),
    (".css", "text/css; charset=utf-8"),
    (".svg", "image/svg+xml"),
    (".json", "application/json"),
];

fn main() {
    // The folder itself is always there: cargo would run this at each build for the sake of one that is missing.
    println!("cargo:rerun-if-changed=page/dist");
    println!("cargo:rerun-if-changed=build.rs");
    // Cargo sets both for every build script.
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    let (dist, files) = (root.join("page/dist"), out.join("page"));
    fs::create_dir_all(&files).expect("OUT_DIR can be written to");
    let mut table = String::from("&[\n");
    if dist.join("index.html").exists() {
        add_folder(&mut table, &dist, "", &files);
        add_folder(&mut table, &dist.join("assets"), "assets/", &files);
    } else {
        println!("cargo:warning=the admin page is not built, and is left out of the program; `make page` builds it");
        let unbuilt = out.join("unbuilt.html");
        fs::write(&unbuilt, UNBUILT).expect("OUT_DIR can be written to");
        add(&mut table, "index.html", TYPES[0].1, &unbuilt, &files);
    }
    table.push_str("]\n");
    fs::write(out.join("page.rs"), table).expect("OUT_DIR can be written to");
}

fn add_folder(table: &mut String, folder: &Path, prefix: &str, out: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    // The same program from the same files.
    names.sort();
    for name in names {
        // Others are compressed forms, which go with their file.
        if let Some((_, kind)) = TYPES.iter().find(|(end, _)| name.ends_with(end)) {
            add(table, &format!("{prefix}{name}"), kind, &folder.join(&name), out);
        }
    }
}

/// Adds a file to the table. It is copied first: the page may be built anew while the program is compiled.
fn add(table: &mut String, name: &str, kind: &str, file: &Path, out: &Path) {
    let copy = |path: &Path| {
        let name = path.file_name().expect("a file of a folder has a name");
        let copied = out.join(name);
        fs::copy(path, &copied).expect("OUT_DIR can be written to");
        copied.display().to_string()
    };
    let form = |end: &str| {
        let path = PathBuf::from(format!("{}.{end}", file.display()));
        if path.exists() { format!("Some(include_bytes!({:?}))", copy(&path)) } else { "None".to_owned() }
    };
    let (brotli, gzip, file) = (form("br"), form("gz"), copy(file));
    // Writing into text does not fail.
    let _ = writeln!(
        table,
        "    File {{ name: {name:?}, kind: {kind:?}, plain: include_bytes!({file:?}), brotli: {brotli}, gzip: {gzip} }},"
    );
}
