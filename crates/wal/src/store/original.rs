//! A store's file as it was before sled opened it.
//!
//! sled repairs what it opens: behind the first damaged message it takes the file for empty, and writes there. A value that
//! one flipped bit hides from sled would be gone for good then, and with it what [`super::salvage`] could find. So the
//! file is copied first, inside the store's folder, and moves or goes with it. The copy is not synced: it serves as evidence,
//! and each value in it has its own checksum. It costs some milliseconds where a store is opened, at a start and behind
//! a backlog; where the file system shares blocks, nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The copy's name in the store's folder. sled looks at names of its own only.
const NAME: &str = "original";

/// sled's file.
const DB: &str = "db";

fn path(store: &Path) -> PathBuf {
    store.join(NAME)
}

/// The bytes of a store's file before sled touches it, and those from before sled did the first time.
pub(crate) fn read(store: &Path) -> Vec<Vec<u8>> {
    [store.join(DB), path(store)].into_iter().filter_map(|file| fs::read(file).ok()).collect()
}

/// Copies the file, unless there is a copy from before. Without room for it the store is opened all the same.
pub(crate) fn keep(store: &Path) {
    let kept = path(store);
    if kept.exists() {
        return;
    }
    let unfinished = kept.with_extension("new");
    let copied = fs::copy(store.join(DB), &unfinished).and_then(|_| fs::rename(&unfinished, &kept));
    match copied {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(store = %store.display(), %error, "a segment is opened without a copy of its file");
            // Half a copy helps nobody; it goes with the folder at the latest.
            let _ = fs::remove_file(&unfinished);
        }
        _ => {}
    }
}

/// Deletes the copy: the store turned out to be whole.
pub(crate) fn forget(store: &Path) {
    // It goes with the folder at the latest.
    let _ = fs::remove_file(path(store));
}
