//! The dead letters after they were written: looked at, retried, dropped.
//!
//! Records that were refused by the daemon or by PostgreSQL stand in the table `dead_letters` with its reason
//! ([`crate::load::dead_letters`] writes it). Somebody decides about each letter, once: it is *retried*,
//! possibly corrected, or *dropped*.
//!
//! ## A retry counts once
//! A retried record goes through the same code as any other (decode, validate, price, encode, COPY, rollups), but not
//! through the WAL: the letter is in PostgreSQL, and so one transaction locks it, loads its record and marks
//! it settled. That transaction is all there is to it. Killed before COMMIT, nothing has happened; after it, the mark is
//! there, and a second retry finds nothing to do. Through the WAL the mark would come later than the record, and be lost
//! between the two. No daemon needs to run, and a running one is not disturbed.
//!
//! ## Little is kept of much
//! A sender may be refused a million times in a minute. Up to the bounds of `[dead_letters]` each refused record is a letter; beyond
//! them a refusal is answered and counted (`tallyd_refusals`), and its payload is not kept.
//!
//! ## A letter stays
//! Settled letters stay as rows, with their result. A dropped one keeps its reason's code and its place in the WAL, and loses the record.
//!
//! | module | content |
//! |---|---|
//! | [`groups`](mod@groups) | refusals by sender, reason and field |
//! | [`payload`] | the record as it was received: read, corrected, shown as JSON |
//! | [`quota`] | how many refused records of a day are kept |
//! | [`store`] | the rows: found by [`Filter`], counted, dropped, deleted once they are old |

pub mod groups;
pub mod payload;
pub mod quota;
pub mod store;

pub use groups::{Group, Groups, groups};
pub use payload::Members;
pub use payload::{Edit, EditError, Payload};
pub use store::{
    DeadLetter, Expired, Filter, Order, count, drop_letters, expire, get, ids_of, lock_open, mark_retried, names, note,
    page, page_of,
};
