//! The files of `migrations/`, which the crate's `build.rs` lists.

/// A file of SQL.
#[derive(Debug)]
pub(super) struct Migration {
    pub(super) version: i32,
    pub(super) name: &'static str,
    /// Of name, version and text, as refinery computes it. A history has it as text.
    pub(super) checksum: u64,
    pub(super) sql: &'static str,
}

impl Migration {
    /// The file's name without its ending.
    pub(super) fn file(&self) -> String {
        format!("V{}__{}", self.version, self.name)
    }
}

/// All of them, by version.
pub(super) const ALL: &[Migration] = include!(concat!(env!("OUT_DIR"), "/migrations.rs"));
