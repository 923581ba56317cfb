//! Errors of backups and restores.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use super::manifest::MANIFEST;
use crate::connection::{ConnectError, describe};
use crate::embedded::EmbeddedError;
use crate::migrate::MigrateError;

/// Why there is no backup, or why it cannot be restored. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file operation failed.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// The operation, as a verb.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The folder for a backup has files.
    #[error("{} is not empty. hint: a backup goes into a folder of its own, such as {}", path.display(), example.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// A folder that would do.
        example: PathBuf,
    },
    /// A program of PostgreSQL could not be started.
    #[error(
        "{program} cannot be run: {source}. hint: it comes with PostgreSQL's client programs (`apt-get install postgresql-client`); \
         without it, stop the daemon and copy its whole data folder"
    )]
    Program {
        /// Its name.
        program: String,
        /// The reason.
        source: io::Error,
    },
    /// A program of PostgreSQL failed.
    #[error("{program} failed ({status}): {said}")]
    Failed {
        /// Its name.
        program: String,
        /// Its exit status.
        status: ExitStatus,
        /// Its messages.
        said: String,
    },
    /// The manifest is missing.
    #[error("{} has no {MANIFEST}: it is not a backup, or one that was not finished", path.display())]
    Incomplete {
        /// The folder.
        path: PathBuf,
    },
    /// The manifest cannot be understood.
    #[error("{}: {reason}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// The problem with it.
        reason: String,
    },
    /// A file differs from the one that was backed up.
    #[error("{} is damaged: {reason}. hint: use another copy of this backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The difference.
        reason: String,
    },
    /// The database does not have tallyd's tables.
    #[error("this database does not have tallyd's tables. hint: `tallyd migrate` makes them")]
    NoTables,
    /// A dump would be restored over existing tables.
    #[error(
        "the database has {}: a restore does not overwrite. hint: restore into an empty database, and point the daemons to it",
        tables.join(", ")
    )]
    Standing {
        /// Tables that are in the way.
        tables: Vec<String>,
    },
    /// The tables are spread over nodes, which do not share a snapshot.
    #[error(
        "the tables are spread over Citus' nodes, and a dump of them would not be one state. hint: back up each node by a base \
         backup, with citus_create_restore_point()"
    )]
    Spread,
    /// The schema is unknown or unfinished.
    #[error(transparent)]
    Schema(#[from] MigrateError),
    /// The database cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// PostgreSQL failed.
    #[error("the database cannot be read: {}", describe(.0))]
    Database(#[from] tokio_postgres::Error),
    /// The private cluster is in the way, or cannot be written.
    #[error(transparent)]
    Cluster(#[from] EmbeddedError),
}

impl BackupError {
    /// Wraps a failed file operation: `map_err(BackupError::io("read", path))`.
    pub(super) fn io<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io { what, path: path.to_owned(), source }
    }
}
