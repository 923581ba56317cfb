//! Errors of the private cluster.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Why the private cluster cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// There is no cluster, and only a daemon makes one.
    #[error(
        "there is no PostgreSQL in the data folder {}, and no database.url. hint: --data-dir or TALLYD_DATA_DIR names the daemon's data \
         folder; `tallyd serve` makes a new one",
        path.display()
    )]
    NoCluster {
        /// The data folder.
        path: PathBuf,
    },
    /// Server programs are not installed, or not in the configured folder.
    #[error(
        "no PostgreSQL server programs (initdb, postgres) were found in {looked_in}. \
         hint: install them (`apt-get install postgresql`, `dnf install postgresql-server`, `brew install postgresql`), \
         or set TALLYD_DATABASE_URL to a PostgreSQL that runs elsewhere"
    )]
    NoPrograms {
        /// The searched places.
        looked_in: String,
    },
    /// Server programs are installed, but no suitable version.
    #[error(
        "PostgreSQL {wanted} is needed{because}, and only {found} is installed. \
         hint: install the server programs of PostgreSQL {wanted}, or set TALLYD_DATABASE_URL"
    )]
    WrongVersion {
        /// `13 or later`, or the one version that the cluster was made with.
        wanted: String,
        /// The reason for that version.
        because: String,
        /// The found versions.
        found: String,
    },
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
    /// A program could not be started.
    #[error("cannot run {}: {source}", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// `initdb` failed.
    #[error("initdb could not make a cluster in {} ({status}): {output}", path.display())]
    Initdb {
        /// The folder of the new cluster.
        path: PathBuf,
        /// Its exit status.
        status: ExitStatus,
        /// Its message.
        output: String,
    },
    /// The folder is neither empty nor a cluster.
    #[error(
        "{} is not empty and not a PostgreSQL cluster (it has no PG_VERSION). \
         hint: move it away, or choose another data directory", path.display()
    )]
    NotACluster {
        /// The folder.
        path: PathBuf,
    },
    /// A copy of a cluster would overwrite one.
    #[error(
        "there is a cluster in {}, and a restore does not overwrite it. hint: move it away, such as \
         `mv {} {}.before`", path.display(), path.display(), path.display()
    )]
    Standing {
        /// The cluster.
        path: PathBuf,
    },
    /// The folder belongs to a user as whom this process cannot run the server.
    #[error(
        "the cluster {} belongs to the user id {owner}, and this process runs as {we}. \
         hint: run tallyd as that user, or as root{root_hint}", path.display()
    )]
    Owner {
        /// The folder.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Our user.
        we: u32,
        /// More advice, if root owns the folder.
        root_hint: &'static str,
    },
    /// The server ended before it accepted a connection.
    #[error("the PostgreSQL server ended at its start ({status}); the end of {} says: {tail}", log.display())]
    Exited {
        /// How it ended.
        status: String,
        /// The server's log file.
        log: PathBuf,
        /// The last lines of that file.
        tail: String,
    },
    /// The server runs, but does not accept connections.
    #[error(
        "the PostgreSQL server in {} accepted no connection within {} s. hint: its log is {}",
        path.display(), waited.as_secs(), log.display()
    )]
    NotReady {
        /// The cluster.
        path: PathBuf,
        /// The time waited.
        waited: Duration,
        /// The server's log file.
        log: PathBuf,
    },
    /// Another process holds the lock, and its server cannot be reached.
    #[error(
        "another process has held {} for {} s without its PostgreSQL accepting connections. \
         hint: `fuser -v {}` names it", lock.display(), waited.as_secs(), lock.display()
    )]
    Busy {
        /// The lock file.
        lock: PathBuf,
        /// The time waited.
        waited: Duration,
    },
    /// A foreign PostgreSQL runs on the folder.
    #[error(
        "a PostgreSQL that tallyd did not start (process {pid}) runs on the cluster {}. \
         hint: stop it (`pg_ctl stop`), or set TALLYD_DATABASE_URL to use it", path.display()
    )]
    Foreign {
        /// The cluster.
        path: PathBuf,
        /// The server's process.
        pid: u32,
    },
    /// The socket's path is too long for this system.
    #[error("the path of the socket in {} is longer than {max} bytes. hint: choose a shorter data directory", path.display())]
    LongPath {
        /// The cluster.
        path: PathBuf,
        /// Bytes that the system takes.
        max: usize,
    },
    /// The server refused the set-up of the database.
    #[error("the database `tallyd` could not be made: {0}")]
    CreateDatabase(#[source] tokio_postgres::Error),
    /// The cluster was stopped on purpose.
    #[error("the private PostgreSQL has been stopped: tallyd is shutting down")]
    Stopped,
}

impl EmbeddedError {
    /// Wraps a failed file operation: `map_err(EmbeddedError::io("create", path))`.
    pub(super) fn io<'a>(what: &'static str, path: &'a std::path::Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io { what, path: path.to_owned(), source }
    }
}
