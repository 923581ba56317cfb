//! A private PostgreSQL cluster, used if no database is configured.
//!
//! The server programs must be installed on the machine; tallyd neither contains nor downloads them.
//!
//! # Layout
//! | in the data directory | content |
//! |---|---|
//! | `postgres/` | the cluster, mode 0700, owned by the user that runs it; its Unix socket lies in it |
//! | `postgres.new/` | a cluster that `initdb` is still making; removed at the next start if it is found |
//! | `postgres.lock` | held, by `flock`, by the cluster's owner |
//! | `postgres.log`, `postgres.log.1` | the server's log, bounded |
//!
//! # Life
//! * **Creation.** `initdb` works in `postgres.new`, which is renamed once it is complete: a cluster exists completely
//!   or not at all, whenever the machine stops.
//! * **Running.** The server is a child process, started by a thread that lives until the server ends (`process.rs`).
//!   There is no TCP port. Superuser and database are both called `tallyd`.
//! * **One owner.** The server and all of its processes inherit the lock's descriptor. So the lock is free exactly when
//!   the last of them has ended, independent of the `tallyd` that started them. A process that finds the lock taken
//!   either reaches a server, and uses it without owning it, or waits, because the old server is shutting down.
//! * **Stopping.** A fast shutdown, then an immediate one after a deadline. A killed `tallyd` does not leave a server
//!   behind: the kernel sends the signal of the fast shutdown.
//! * **Restart.** [`Embedded::ensure`] starts the server again if it has crashed, or takes it over if its owner has
//!   ended.
//!
//! # Root
//! The server refuses to run as root. A `tallyd` that is root runs it as `postgres`, or as `nobody` if there is no such
//! user. That user may be unable to reach the data directory by name (it may lie under `/root`). So the programs
//! inherit it as an open descriptor and call it `/proc/self/fd/N`, which does not pass through parent folders. The
//! working directory cannot serve: up to PostgreSQL 15 each program leaves it to find its own path, and returns to it
//! by name.
//!
//! # Clients
//! A socket's path has at most 107 bytes. If the cluster's is longer, clients (including `psql`) go through
//! `/proc/<our process>/fd/N`, which any process of the same user or of root can follow while this process lives.
//! Nothing in `/tmp` can be left behind or guessed.

mod cluster;
mod error;
mod process;
mod programs;
mod server_log;
mod socket;
mod user;

use std::path::{Path, PathBuf};

pub use cluster::Embedded;
pub use error::EmbeddedError;

/// The cluster's superuser.
pub const USER: &str = "tallyd";
/// The database in it.
pub const DATABASE: &str = "tallyd";

/// The folder of the server programs that a new private cluster would use. `bin_dir` is their folder; without it they
/// are looked for.
///
/// # Errors
/// [`EmbeddedError`], if no suitable programs are found.
pub fn server_programs(bin_dir: Option<&Path>) -> Result<PathBuf, EmbeddedError> {
    programs::Programs::find(bin_dir, None).map(|programs| programs.dir)
}
