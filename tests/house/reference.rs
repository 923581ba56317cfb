//! `config.toml`, the pages of `docs/reference/` and the lists of the record's fields, which are written from the code.
//!
//! `make snapshots` writes them anew. Each test compares a file with the text that the code gives now.

mod cli;
mod config;
mod fields;
mod http;
mod metrics;
mod schema;

use crate::{read, root};

/// The first lines of each page.
fn head(title: &str, source: &str) -> String {
    format!("# {title}\n\n<!-- Written from {source} by `make snapshots`. Change the source, not this page. -->\n\n")
}

/// Compares a file with its text, or writes it if `TALLYD_WRITE_DOCS` is set.
fn holds(file: &str, text: &str) {
    let text = format!("{}\n", text.trim_end());
    let path = root().join(file);
    if std::env::var_os("TALLYD_WRITE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let is = if path.exists() { read(file) } else { String::new() };
    for (number, (is, wanted)) in is.lines().zip(text.lines()).enumerate() {
        assert_eq!(is, wanted, "{file}, line {}: `make snapshots` writes it anew from the code", number + 1);
    }
    assert!(is == text, "{file} has another length than what the code says: `make snapshots` writes it anew");
}
