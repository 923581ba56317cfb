//! Lists, retries and drops dead letters.
//!
//! The table `dead_letters` has the records that the daemon or PostgreSQL refused, each with the reason
//! ([`crate::load::dead_letters`] writes it). A person decides about each letter, once: it is *retried*, possibly
//! corrected, or *dropped*.
//!
//! ## A retry counts once
//! A retried record goes through the same code as any other (decode, validate, price, encode, COPY, rollups), but not
//! through the WAL. The letter is in PostgreSQL, so one transaction locks it, loads its record and marks it settled.
//! Killed before COMMIT, nothing has happened; afterwards the mark is there, and a second retry finds nothing to do.
//! Through the WAL the mark would come later than the record, and could be lost in between. A retry does not need a
//! running daemon, and does not disturb one.
//!
//! ## Bounds
//! A sender may be refused a million times in a minute. Up to the bounds of `[dead_letters]` each refused record
//! becomes a letter. Beyond them a refusal is answered and counted (`tallyd_refusals`), and its payload is not kept.
//!
//! ## Settled letters
//! Settled letters stay as rows, with their result. A dropped letter keeps its reason's code and its place in the WAL,
//! and loses the record.
//!
//! | module | content |
//! |---|---|
//! | [`groups`](mod@groups) | refusals by sender, reason and field |
//! | [`payload`] | the record as it was received: read, corrected, shown as JSON |
//! | [`quota`] | the bounds of a day on kept records |
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
