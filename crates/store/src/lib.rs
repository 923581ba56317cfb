//! PostgreSQL: its addresses and connections, its schema, and all operations on its data.
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
//! | [`rebuild`] | computes the rollups anew, with days in any zone |
//! | [`adopt`] | takes over the history in older tables |
//! | [`amend`] | amends or voids one call |
//! | [`archive`] | partitions as Parquet files, before they are dropped |
//! | [`backup`] | backups: a copy of the private cluster, or a dump of tallyd's tables |
//! | [`reconcile`](mod@reconcile) | proves that the rollups equal the call log |
//! | [`closings`] | closed vendor-days, and the looks at the vendors' reports |
//! | [`plans`] | the bill of a period under each plan of a provider |
//! | [`prices`] | prices as rows: read, added, watched by every daemon |
//! | [`unpriced`] | unpriced calls, by model |
//! | [`report`] | reports of finished periods: read, queued for their routes |
//! | [`reprice`] | computes stored costs anew after a correction |
//! | [`session_samples`] | the sessions' numbers over time, sampled hourly |
//! | [`sessions`] | sessions and sign-ins, counted in Supabase's auth schema |
//! | [`queries`] | the queries and changes of the HTTP API |
//! | [`daemons`] | the daemons that run on this database |
//! | [`load`] | loads each durable chunk exactly once |
//! | [`dead_letters`] | refused records: listed, corrected, dropped |
//! | [`budgets`] | budgets and alerts: set, evaluated, delivered |
//! | [`alert_rules`] | alert rules: set, evaluated |
//! | [`user_deltas`] | the users' rollups as base and deltas: appended to, merged |
//! | [`user_list`] | the list of users: a row per user, refreshed beside merges |
//! | [`locks`] | locks for operations that run one transaction at a time |
//! | [`upkeep`] | partitions ahead of time, and the users' index |
//! | [`partitions`] | the call log's partitions, as the catalog has them |
//! | [`deploys`] | deploys of applications, which charts mark |
//! | [`dimensions`] | tags with a rollup: added, counted backwards day by day, removed |
//! | [`duplicates`] | calls that are in the call log more than once |
//! | [`forget`] | forgets a user: their calls stay, anonymised |
//! | [`retention`] | old partitions, dropped with their sums kept |
//! | [`retry`] | retries of transactions and of long-lived tasks |
//! | `zone` | the reporting time zone: the database's |
//! | `file_cells` | columns and cells of files for other engines |
//! | [`examine`] | a server's properties and its pooler's mode, read for `tallyd doctor` |
//! | [`access`] | rights on the tables, and whether this role can load |
//! | [`error`] | [`FailureClass`]: the remedy for a failure of PostgreSQL |

#![warn(unreachable_pub)]

pub mod access;
pub mod adopt;
pub mod alert_rules;
pub mod amend;
pub mod archive;
pub mod backup;
pub mod bill;
pub mod budgets;
pub mod citus;
pub mod closings;
pub mod connection;
pub mod daemons;
pub mod dead_letters;
pub mod deploys;
pub mod dimensions;
pub mod duplicates;
pub mod embedded;
pub mod error;
pub mod examine;
pub(crate) mod file_cells;
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
pub mod report;
pub mod reprice;
pub mod retention;
pub mod retry;
pub mod rollup_upserts;
mod rollups;
pub mod session_samples;
pub mod sessions;
pub mod source;
pub mod tls;
pub mod units;
pub mod unpriced;
pub mod upkeep;
pub mod url;
pub mod user_deltas;
pub mod user_list;
pub mod whole;
mod zone;

pub use access::{Access, CopyAccess};
pub use connection::{ConnectError, Connection, describe};
pub use error::{FailureClass, classify};
pub use migrate::{MigrateError, MigrateOptions, MigrateReport, migrate, pending};
pub use rebuild::{Rebuild, RebuildError, preview_rebuild, rebuild_rollups};
pub use reconcile::{
    ChangedDays, Difference, MAX_DIFFERENCES, ReconcileError, Reconciliation, reconcile, reconcile_changed,
};
pub use source::{Database, DatabaseError, DatabaseOptions};
pub use tallyd_config::Granularity;
pub use zone::{ZoneMoved, day_begins, day_bounds, reporting_zone};
