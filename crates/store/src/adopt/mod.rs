//! Takes over the history that an application kept in tables of its own: an old log of calls, and old sums by day.
//!
//! Nothing is written into the old tables. If they have names that tallyd's migrations need, they are moved to the
//! schema `tallyd_adopted` (`aside`), on request only.
//!
//! ## Results
//! | old | new |
//! |---|---|
//! | a row of the old log | a row of `api_usage_log` and its share of the rollups |
//! | its `id` | a UUID is kept; of anything else the id is made by a digest, the same each time |
//! | its cost | kept as recorded (`cost_source = 'client'`), never computed anew; NULL is unpriced |
//! | `anthropic` | `claude`, as everywhere |
//! | the endpoint | without its query string, unless `limits.strip_query` is off |
//! | its `date` | nothing: the day follows from the time. The inspection reports differences |
//! | no time, but a `date` | noon of that date in the reporting zone |
//! | a row that cannot be a record (no id, no time, no provider, a negative count …) | stays where it is, and is reported |
//! | daily sums of a day and provider with calls in the old log | the part beyond the old log, if the day is over: calls of users whose rows were deleted with them. Nothing if the sums have less, or differ by rounding alone; the inspection reports it |
//! | daily sums of a day and provider without calls in the old log | see below |
//!
//! ## Days without calls in the old log
//! Such a day is like a dropped partition: only its sums are left, and the rollups are the sums of the call log and of
//! `tallyd_dropped_*`. So the old sums are added to both in one transaction, and `reconcile` proves them like any
//! other. The result is exact in calls, tokens and cost by day, provider, model and endpoint, as far as the old sums
//! have these ([`parts`]: JSON by model and endpoint). Old sums do not have users: the calls count for the user `''`,
//! and their first and last times are the day's beginning.
//! beginning.
//! ## Once
//! A batch is a span of time, and one transaction. It adds the calls that the call log does not have yet (by id and
//! time), with their sums. So there is no position to lose: after a kill the same command goes on, and a second run
//! adds only calls that came into the old log since. The call log cannot show calls that its retention has dropped
//! since they were taken; `tallyd_adoptions` does. Such a day is taken once, by its key in
//! `tallyd_adopted_days`.
//! `tallyd_adoptions` does. Such a day is taken once by its key in `tallyd_adopted_days`.

mod aside;
mod daily;
mod inspect;
mod parts;
mod rows;
mod run;
mod source;

use std::collections::BTreeMap;

use chrono::NaiveDate;
use tokio_postgres::Client;

use super::MigrateError;
pub use aside::{SCHEMA, move_aside, occupied, standing};
pub use inspect::{DailyDay, DailyInspection, Inspection, LogInspection, MissingDays, ModelSums, Problem, inspect};
pub use run::{Adopted, adopt};
pub use source::Sources;

/// Where the old tables are, and how to read them.
#[derive(Debug, Clone, Default)]
pub struct AdoptOptions {
    /// The old log, as SQL names it. None: it is looked for.
    pub log: Option<String>,
    /// The old daily sums. None: they are looked for.
    pub daily: Option<String>,
    /// Columns by field, where the usual names do not fit: `cost_usd` → `price`.
    pub columns: BTreeMap<String, String>,
    /// The zone of times that do not state one. An IANA name.
    pub source_time_zone: String,
    /// The zone of the rollups' days, as configured. An IANA name.
    pub reporting_time_zone: String,
    /// Whether endpoints lose their query strings.
    pub strip_query: bool,
    /// Approximate number of calls per transaction.
    pub batch_calls: u32,
    /// The size of new partitions of the call log.
    pub granularity: &'static str,
}

/// Why a takeover is impossible, or why it stopped. Committed steps stay, and are complete.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// PostgreSQL failed.
    #[error("adopting stopped: {}; run the same command again to go on", super::access::explain(.0))]
    Database(#[from] tokio_postgres::Error),
    /// The schema cannot be made.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// No table was found.
    #[error(
        "there is no table to adopt: neither public nor tallyd_adopted has an api_usage_log or daily_api_costs of an older \
         shape. hint: name them with --from-log SCHEMA.TABLE and --from-daily SCHEMA.TABLE"
    )]
    NothingFound,
    /// A table that was named does not exist.
    #[error("there is no table {0}, or this role may not see it. hint: name it as SCHEMA.TABLE")]
    NoTable(String),
    /// It is tallyd's own.
    #[error("{0} is tallyd's own table: there is nothing to adopt in it. hint: name the old one")]
    Own(String),
    /// Row level security would hide rows.
    #[error(
        "row level security hides rows of {0} from this role, so it may not see all of them. hint: connect as the table's \
         owner, or as a role with BYPASSRLS"
    )]
    Hidden(String),
    /// A field has no column.
    #[error("{table} has no column for {field}; it has {known}. hint: name it with --map {field}=COLUMN")]
    NoColumn {
        /// The table.
        table: String,
        /// The field.
        field: &'static str,
        /// The table's columns.
        known: String,
    },
    /// A column that was named for a field does not exist, or the field does not.
    #[error("--map {field}={column} does not fit: {reason}")]
    Map {
        /// The field.
        field: String,
        /// The column.
        column: String,
        /// Why.
        reason: String,
    },
    /// A column has a type that the field cannot be read from.
    #[error("the column {column} of {table} has the type {type_name}, which {field} cannot be read from ({wanted})")]
    Type {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// The field.
        field: &'static str,
        /// Its type.
        type_name: String,
        /// The accepted forms.
        wanted: &'static str,
    },
    /// Days that were taken from the sums have calls now.
    #[error(
        "{} adopted from daily sums because the old log had no calls then ({first} is the first), and it has \
         some now: they would count twice. hint: take these calls out of the old log",
        tallyd_model::wording::noun(*.days, "day was", "days were")
    )]
    Regained {
        /// How many.
        days: i64,
        /// The first.
        first: NaiveDate,
    },
    /// Only sums were named, though a log has been adopted.
    #[error(
        "the old log {0} has been adopted: days with calls in it would count twice. hint: name it beside the sums, with --from-log"
    )]
    LogNeeded(String),
    /// Others kept being in the way.
    #[error("other transactions kept being in the way; run the same command again to go on")]
    Busy,
    /// Somebody has removed a setting.
    #[error("tallyd_settings has no {0}. hint: run `tallyd migrate`")]
    Setting(&'static str),
}

/// A name as SQL text: `it's` becomes `'it''s'`.
fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if text.contains('\\') { format!(" E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// A name as an SQL identifier.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Whether tallyd's schema, with all tables of this module, is in the database.
async fn is_migrated(client: &Client) -> Result<bool, tokio_postgres::Error> {
    let rows = client.query_typed("SELECT to_regclass('public.tallyd_adoptions') IS NOT NULL", &[]).await?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_whatever_is_in_them() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\b"), " E'a\\\\b'");
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
    }
}
