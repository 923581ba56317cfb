//! The WAL, a write-ahead log: the acknowledged records that are not in PostgreSQL yet.
//!
//! ## Constraints
//! An acknowledged record survives the end of the process and of the machine. The engine is sled 0.34.7, used within
//! the limits in which it keeps that promise:
//!
//! * `flush()` alone survives a killed process, not a power cut. So the store's file is then synced through a
//!   descriptor of our own, and only then are records acknowledged ([`writer`]).
//! * A failed write or sync is fatal. Nothing is acknowledged afterwards, and it is never tried again: a second sync
//!   would report data as safe that the kernel has dropped.
//! * A page of more than 128 KiB would go to a `blobs/` file that sled never syncs. A leaf holds up to 16 values, so a
//!   value has at most [`value::VALUE_BYTES_MAX`] bytes, and a blob file that appears all the same is fatal.
//! * A damaged store can open as an empty one, without an error. Recovery is therefore compared with a mark of our own:
//!   the highest synced key of the WAL ([`mark`]).
//! * A store that was reopened is never written to again: each start seals the existing stores, and begins a new one.
//!
//! ## Layout
//! ```text
//! wal/buffer                       the WAL's identity (buffer_id), written once
//! wal/synced                       the mark: the highest key known to be on disk
//! wal/committed                    what each lane had committed when a segment was last deleted
//! wal/00000000000000000001.open    segment: first key, lanes, each producer's high-water mark; synced at creation
//! wal/00000000000000000001.sealed  segment: last key, values, records, checksum; synced at rotation
//! wal/00000000000000000001/        the sled store; `original` in it is its file before sled opened it again ([`store::salvage`])
//! wal/identities/                  keys of calls whose identity was stated, a file for each sealed segment ([`window`])
//! wal/damaged/                     segments that were set aside, complete
//! ```
//! Keys are `u64`, big-endian in sled, and contiguous within a segment. A value has one chunk, or one part of a chunk
//! that is larger than a value ([`value`]), and names the lane that loads it ([`lanes`]). Chunks that were filled side
//! by side are a bundle: their values follow one another, and each but the last has a flag that more follow.
//!
//! ## Write
//! One thread ([`writer`]) takes chunks from the channel, appends up to [`writer::GROUP_VALUES`] values, syncs once,
//! acknowledges, and passes the chunks to the flusher in memory ([`recent`]). This thread alone numbers, deduplicates
//! and fences producers ([`producers`]), and owns the window of stated identities ([`window`]).
//!
//! A connection may ask for acknowledgements after PostgreSQL's COMMIT; those wait in [`commits`].
//!
//! ## Read
//! By key, in order, from memory if the value is recent, otherwise from its segment ([`wal`]). Each read checks the
//! value's CRC32C.
//!
//! ## Delete
//! A segment is deleted whole once every lane has committed past its last key. There are no deletes within a store.
//!
//! ## Damage
//! A missing key that no later value claims as synced begins the unsynced tail of a crash, which was never
//! acknowledged. It is dropped with all later values, and with the parts of a bundle that it cuts. Keeping a later
//! value, or a part of a bundle, would move a producer's high-water mark over lost records.
//!
//! A missing key that a later value or the mark claims as synced is damage. The rest is kept and loaded, and the store
//! is moved to `wal/damaged/` instead of deleted. Health reports the damage until a person has looked. After damage the
//! next key leaps by [`wal::DAMAGE_LEAP`], so that no lost key is used twice. [`inspect`] finds the readable values of
//! a segment that was set aside, also if sled finds nothing ([`store::salvage`]), and `tallyd wal replay` loads them.
//!
//! ## Bounds
//! The WAL is bounded in bytes and by the disk's free space ([`space`]). At the bound the writer stops taking chunks,
//! the channel fills, and connections stop reading from their sockets. Writing resumes by itself once there is room.

#![warn(unreachable_pub)]

pub mod append;
pub mod channel;
pub mod chunk;
pub mod commits;
pub mod files;
pub mod identity;
pub mod inspect;
pub(crate) mod lanes;
pub(crate) mod mark;
pub mod producers;
pub mod reader;
pub mod recent;
pub mod recovery;
pub(crate) mod scan;
pub(crate) mod segment;
pub mod space;
pub mod store;
pub mod value;
pub mod wal;
pub mod window;
pub mod writer;

#[cfg(test)]
mod model_test;
#[cfg(test)]
mod recovery_test;

/// Why the WAL cannot continue. Every variant is fatal to the process.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The operating system refused a write, a sync or a rename.
    #[error("the WAL could not {action} {path}: {source}")]
    Io {
        /// The operation: `write`, `sync` …
        action: &'static str,
        /// The file.
        path: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// The store's engine reported an error.
    #[error("the WAL's store {path} failed to {action}: {source}")]
    Store {
        /// The operation.
        action: &'static str,
        /// The store.
        path: String,
        /// The engine's error.
        source: std::io::Error,
    },
    /// sled wrote a blob file, which it never syncs.
    #[error(
        "the WAL's store {path} holds a blob file, which is not durable; this is a defect of tallyd: \
         please report it with the size of your largest records"
    )]
    Blob {
        /// The store.
        path: String,
    },
    /// A value that was read before is missing, or has changed.
    #[error("the value {key} of the WAL could be read before, and cannot be read again")]
    Unreadable {
        /// Its key.
        key: u64,
    },
    /// The folder has another format or is not a WAL.
    #[error("{path} is not a WAL that this version reads: {reason}")]
    Foreign {
        /// The file.
        path: String,
        /// The problem with it.
        reason: String,
    },
}

impl WalError {
    fn io(action: &'static str, path: &std::path::Path, source: std::io::Error) -> Self {
        Self::Io { action, path: path.display().to_string(), source }
    }

    /// True if the operating system refused an operation, as opposed to damaged bytes. A store reports both as I/O
    /// errors; those of damaged bytes have one of these kinds.
    fn is_the_systems(&self) -> bool {
        use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        match self {
            Self::Io { .. } => true,
            Self::Store { source, .. } => !matches!(source.kind(), InvalidData | InvalidInput | UnexpectedEof),
            _ => false,
        }
    }
}
