//! PostgreSQL: where it is, how it is reached, and what is in it.
//!
//! | module | content |
//! |---|---|
//! | [`source`] | [`Database`]: a PostgreSQL by URL, or the private cluster |
//! | [`embedded`] | the private cluster |
//! | [`url`], `parameters`, [`tls`] | addresses, and encryption |
//! | `hosts` | an attempt to connect: each host, with the password and the certificates as they are now |
//! | [`connection`] | [`Connection`]: one session |
//! | [`citus`] | which tables live where on Citus' nodes |
//! | [`migrate`](mod@migrate) | the schema, brought up to date |
//! | [`rebuild`] | the rollups, computed anew with days in any zone |
//! | [`adopt`] | the history of older tables, taken over |
//! | [`reconcile`](mod@reconcile) | proves that the rollups equal the call log |
//! | [`plans`] | what each plan of a provider would have cost |
//! | [`prices`] | prices as rows: read, added, watched by every daemon |
//! | [`unpriced`] | calls without a price, by model |
//! | [`reprice`] | stored costs, computed anew after a correction |
//! | [`sessions`], [`users`] | who is there, and what each user's calls cost |
//! | [`queries`] | what the HTTP API asks and changes |
//! | [`daemons`] | which daemons run on this database |
//! | [`load`] | durable chunks, loaded each exactly once |
//! | [`dead_letters`] | what was refused: looked at, corrected, dropped |
//! | [`budgets`] | budgets and alerts: set, evaluated, delivered |
//! | [`user_deltas`] | the users' rollups as base and deltas: appended to, merged |
//! | [`locks`] | what one transaction at a time does |
//! | [`upkeep`] | partitions ahead of time, and the users' index |
//! | [`partitions`] | the call log's partitions, as the catalog has them |
//! | [`dimensions`] | what costs are allocated by: added, counted backwards day by day, removed |
//! | [`duplicates`] | calls that are in the call log more than once |
//! | [`forget`] | a user, forgotten: calls stay, and are nobody's |
//! | [`retention`] | old partitions, dropped with their sums kept |
//! | [`retry`] | work that is tried again |
//! | `zone` | the reporting time zone: the database's |
//! | [`examine`] | a server's properties and its pooler's mode, read for `tallyd doctor` |
//! | [`access`] | who may read and write, and whether this role can load |
//! | [`error`] | [`FailureClass`]: what a failure means for whoever has work to do |

#![warn(unreachable_pub)]

pub mod access;
pub mod adopt;
pub mod bill;
pub mod budgets;
pub mod citus;
pub mod connection;
pub mod daemons;
pub mod dead_letters;
pub mod dimensions;
pub mod duplicates;
pub mod embedded;
pub mod error;
pub mod examine;
pub mod forget;
mod hosts;
pub mod load;
pub mod locks;
pub mod migrate;
mod parameters;
pub mod partitions;
pub mod plans;
pub mod prices;
pub mod queries;
pub mod rebuild;
pub mod reconcile;
pub mod reprice;
pub mod retention;
pub mod retry;
pub mod rollup_upserts;
mod rollups;
pub mod sessions;
pub mod source;
pub mod tls;
pub mod unpriced;
pub mod upkeep;
pub mod url;
pub mod user_deltas;
pub mod whole;
mod zone;

pub use access::{Access, CopyAccess};
pub use connection::{ConnectError, Connection, describe};
pub use error::{FailureClass, classify};
pub use migrate::{MigrateError, MigrateOptions, MigrateReport, migrate, pending};
pub use rebuild::{Rebuild, RebuildError, preview_rebuild, rebuild_rollups};
pub use reconcile::{Difference, MAX_DIFFERENCES, ReconcileError, Reconciliation, reconcile};
pub use source::{Database, DatabaseError, DatabaseOptions};
pub use tallyd_config::Granularity;
pub use zone::{ZoneMoved, reporting_zone};
