//! The data plane, in the order in which a record travels.
//!
//! listener → connection → `tallyd_intake` (decode, validate, price) → `tallyd_wal` (chunk, channel, WAL) → flusher → PostgreSQL.
//!
//! | module | content |
//! |---|---|
//! | [`listener`] | the Unix socket, and TCP |
//! | [`seats`] | places on listeners that strangers can reach |
//! | [`tls`] | TLS of the listeners |
//! | [`connection`] | frames or lines in, replies out |
//! | [`batch`] | the records of one HTTP request |
//! | [`standing`] | the board of budgets, and the state that clients receive |
//! | [`flusher`] | the lanes, and the task that merges the users' deltas |
//! | [`metrics`] | the metrics' handles that connections and lanes keep |
//!
//! The program is compiled for size, this crate for speed. So the tasks that a record passes through
//! ([`Listener::run`](listener::Listener::run), [`Lane::run`](flusher::lane::Lane::run)) are boxed here: the body of an
//! `async fn` is compiled with the crate that polls it.

#![warn(unreachable_pub)]

pub mod batch;
pub mod connection;
pub mod flusher;
pub mod listener;
pub mod metrics;
pub mod seats;
pub mod standing;
pub mod tls;
