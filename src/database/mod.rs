//! PostgreSQL: where it is, how it is reached, and what is in it.
//!
//! | module | what it holds |
//! |---|---|
//! | [`source`] | [`Database`]: a PostgreSQL by URL, or the private cluster |
//! | [`embedded`] | the private cluster |
//! | [`url`], [`tls`] | addresses, and encryption |
//! | [`connection`] | [`Connection`]: one session |
//! | [`migrate`](mod@migrate) | the schema, brought up to date; a rebuild of the rollups |
//! | [`reconcile`](mod@reconcile) | proves that the rollups equal the log |
//! | [`prices`] | the catalog as rows, for whoever asks with SQL |
//! | [`queries`] | what the HTTP API asks and changes |
//! | [`upkeep`] | partitions ahead of time, and the users' index |
//! | [`error`] | [`FailureClass`]: what a failure means for whoever has work to do |

pub mod connection;
pub mod embedded;
pub mod error;
pub mod migrate;
mod options;
pub mod prices;
pub mod queries;
pub mod reconcile;
mod rollups;
pub mod source;
pub mod tls;
pub mod upkeep;
pub mod url;

pub use connection::{ConnectError, Connection, describe};
pub use error::{FailureClass, classify};
pub use migrate::{Granularity, MigrateError, MigrateOptions, MigrateReport, migrate, rebuild_rollups};
pub use reconcile::{Difference, MAX_DIFFERENCES, ReconcileError, Reconciliation, reconcile};
pub use source::{Database, DatabaseError, DatabaseOptions};
