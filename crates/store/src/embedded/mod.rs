//! A private PostgreSQL cluster: what `tallyd` records into when no database is configured.
//!
//! It is run by the server programs that are installed on the machine; none are bundled or downloaded.
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
//! * **Making.** `initdb` works in `postgres.new`, which is renamed once it is complete: a cluster is there whole or not
//!   at all, whenever the machine stops.
//! * **Running.** The server is a child process of ours, started by a thread that lives as long as it does
//!   (`process.rs`). There is no TCP port. Superuser and database are both called `tallyd`.
//! * **One runner.** The lock's descriptor is inherited by the server and by all of its processes, so the lock is free
//!   exactly when the last of them is gone, independent of the `tallyd` that started them. A process that finds it taken either reaches
//!   a server, and uses it without owning it, or waits: the old server is shutting down.
//! * **Stopping.** A fast shutdown, then a harder one past a deadline. A killed `tallyd` leaves no server behind: the
//!   kernel sends the same signal.
//! * **Again.** [`Embedded::ensure`] starts the server again if it has crashed, or takes it over if the process that
//!   owned it has gone.
//!
//! # Root
//! The server refuses to run as root. A `tallyd` that is root runs it as `postgres`, or as `nobody` where there is no
//! such user. That user may be unable to reach the data directory by name (it may lie under `/root`), so the programs
//! get it as an open descriptor and call it `/proc/self/fd/N`, which passes no parent folder. The working directory
//! would not do: up to PostgreSQL 15 each program leaves it to find its own path, and returns to it by name.
//!
//! # Clients
//! A socket's path has at most 107 bytes. Where the cluster's is longer, clients (`psql` too) go through
//! `/proc/<our process>/fd/N`, which any process of the same user or of root can follow while we live. There is nothing
//! in `/tmp` that could be left behind or guessed.

mod cluster;
mod error;
mod process;
mod programs;
mod server_log;
mod socket;
mod user;

pub use cluster::Embedded;
pub use error::EmbeddedError;

/// The cluster's superuser.
pub const USER: &str = "tallyd";
/// The database in it.
pub const DATABASE: &str = "tallyd";
