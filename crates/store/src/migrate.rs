//! Brings a database to this version's schema, and checks the settings that all its daemons share.
//!
//! Everything happens in one transaction that locks the history. So any number of daemons may start at once, a failure
//! leaves nothing half done, and a pooler in transaction mode does no harm. A migration must therefore not contain
//! statements that cannot run in a transaction (`CREATE INDEX CONCURRENTLY`). The history table has the layout and the
//! checksums of `refinery`, by which earlier builds migrated.

use std::fmt::Write as _;
use std::str::FromStr;

use serde::Serialize;
use tallyd_model::zone::Tz;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, GenericClient, Transaction};
use uuid::Uuid;

use self::files::{ALL, Migration};
use self::former::Noted;
use super::access::{Access, HINT, protect_all};
use super::zone::reporting_zone;
use super::{FailureClass, classify, describe};
use tallyd_config::{Config, Granularity};

mod files;
mod former;

/// The settings that a migration needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrateOptions {
    /// The zone whose midnights divide the rollups' days, as in the IANA database: `UTC`, `Europe/Berlin`. None keeps
    /// the database's own.
    pub reporting_time_zone: Option<String>,
    /// The size of new partitions of the call log.
    pub granularity: Granularity,
    /// How many partitions to make ahead of the one for now.
    pub partitions_ahead: u32,
}

impl From<&Config> for MigrateOptions {
    fn from(config: &Config) -> Self {
        Self {
            reporting_time_zone: Some(config.rollup.time_zone.name().to_owned()),
            granularity: config.log_table.partition,
            partitions_ahead: config.log_table.partitions_ahead,
        }
    }
}

/// Result of a migration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MigrateReport {
    /// The migrations applied by this run: `V1__call_log`.
    pub applied: Vec<String>,
    /// True if the history had the former file names, from before the initial schema was split by subject, and this run
    /// replaced them. The tables are the same.
    pub history_rewritten: bool,
    /// The identity of the database, made once. A restored copy has the same.
    pub database_id: Uuid,
    /// The partitions for the current period and those ahead, in order.
    pub partitions: Vec<String>,
    /// The tables and functions that this run closed to the public.
    pub protected: Vec<String>,
    /// This role's rights on them.
    pub access: Access,
}

/// Why a database cannot be used by this version, or with this configuration.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// PostgreSQL failed.
    #[error("the database cannot be prepared: {}", describe(.0))]
    Database(#[from] tokio_postgres::Error),
    /// The SQL of a migration failed.
    #[error("migration {name} failed: {}", describe(source))]
    Migration {
        /// The file.
        name: String,
        /// PostgreSQL's error.
        source: tokio_postgres::Error,
    },
    /// The role cannot read the history.
    #[error(
        "the role {role} cannot see the migrated tables: row level security applies to it, or it has no rights. {HINT}"
    )]
    Role {
        /// The session's role.
        role: String,
    },
    /// A file has changed since it was applied.
    #[error(
        "migration {name} differs from the one that was applied to this database. \
         hint: run the version of tallyd that it belongs to; released migrations are never edited"
    )]
    Diverged {
        /// The file.
        name: String,
    },
    /// The database is newer than this program.
    #[error("the database has migration {name}, which this tallyd does not know. hint: run a newer tallyd")]
    Newer {
        /// The unknown migration.
        name: String,
    },
    /// An earlier build made the database, and did not apply all of its own files.
    #[error(
        "the schema of this database was made by an earlier build of tallyd and stops at migration {last}: this build goes on from {wanted}. \
         hint: run `tallyd migrate` of the last build that has {wanted} once, and then start this one"
    )]
    Unfinished {
        /// The last migration that was applied.
        last: String,
        /// The migration from which this version can go on.
        wanted: String,
    },
    /// The rollups' days are in another zone than the configured one.
    #[error(
        "the rollups of this database have days in the time zone {stored}, and {configured} is configured. hint: configure \
         {stored}, or stop every tallyd on this database and run `tallyd rollups rebuild --time-zone {configured}`"
    )]
    TimeZone {
        /// The zone in the database.
        stored: String,
        /// The zone in the configuration.
        configured: String,
    },
    /// Foreign tables have the names of tallyd's own.
    #[error(
        "{} stand where tallyd's own tables have to be made. hint: `tallyd adopt --dry-run` shows what is in them, and takes them over",
        tables.join(", ")
    )]
    Occupied {
        /// `schema.table`.
        tables: Vec<String>,
    },
    /// The configured zone does not exist.
    #[error("there is not a time zone {zone:?}. hint: names are like UTC or Europe/Berlin")]
    UnknownTimeZone {
        /// The configured name.
        zone: String,
    },
    /// Somebody removed a row of `tallyd_settings`.
    #[error("tallyd_settings has no valid {key}. hint: restore that row from a backup")]
    Setting {
        /// The row.
        key: &'static str,
    },
}

impl MigrateError {
    /// True if the configuration alone is wrong, so that no change of the database can mend it. Everything else may
    /// pass, or be mended while the daemon accepts records. That includes a database that a newer version has migrated:
    /// a rolled-back deployment must not lose the records of the meantime.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::UnknownTimeZone { .. })
    }

    /// The remedy.
    #[must_use]
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Database(source) | Self::Migration { source, .. } => classify(source),
            _ => FailureClass::Hold,
        }
    }
}

const CREATE_HISTORY: &str = "CREATE TABLE public.tallyd_schema_history \
    (version int4 PRIMARY KEY, name text NOT NULL, applied_on text NOT NULL, checksum text NOT NULL)";
/// The time of a migration, as text.
const NOW: &str = "to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')";

/// Tries of a process that finds another one creating the history.
const TRIES: u32 = 3;

/// Applies the missing migrations, settles the time zone, and makes the partitions for now and ahead.
///
/// On a database without calls the time zone is set to the configured one.
///
/// # Errors
/// [`MigrateError`]; nothing has changed then.
pub async fn migrate(client: &mut Client, options: &MigrateOptions) -> Result<MigrateReport, MigrateError> {
    let mut tries = 0;
    loop {
        tries += 1;
        match migrate_once(client, options).await {
            Err(MigrateError::Database(error)) if tries < TRIES && is_made_already(&error) => {}
            outcome => return outcome,
        }
    }
}

/// True if another process created the history first.
fn is_made_already(error: &tokio_postgres::Error) -> bool {
    matches!(error.code(), Some(&SqlState::UNIQUE_VIOLATION | &SqlState::DUPLICATE_TABLE))
}

async fn migrate_once(client: &mut Client, options: &MigrateOptions) -> Result<MigrateReport, MigrateError> {
    let zone = options.reporting_time_zone.as_deref().map(check_zone).transpose()?;
    let transaction = client.transaction().await?;
    let (applied, history_rewritten) = apply(&transaction, ALL).await?;
    settle_zone(&transaction, zone).await?;
    let ahead = "SELECT public.tallyd_ensure_partitions(now(), now() + $1 * ('1 ' || $2)::interval, $2)";
    let count = f64::from(options.partitions_ahead);
    let granularity = options.granularity.as_str();
    let partitions = transaction.query_typed(ahead, &[(&count, Type::FLOAT8), (&granularity, Type::TEXT)]).await?;
    let partitions = partitions.iter().map(|row| row.get(0)).collect();
    let protected = protect_all(&transaction).await?;
    let access = Access::read(&transaction).await?;
    let database_id = setting(&transaction, "database_id").await?;
    let database_id = database_id.parse().map_err(|_| MigrateError::Setting { key: "database_id" })?;
    transaction.commit().await?;
    Ok(MigrateReport { applied, history_rewritten, database_id, partitions, protected, access })
}

/// Applies the migrations that the history lacks. Returns their names, and whether a history of former file names was
/// rewritten.
async fn apply(transaction: &Transaction<'_>, known: &[Migration]) -> Result<(Vec<String>, bool), MigrateError> {
    transaction.batch_execute("SET LOCAL client_min_messages = warning").await?;
    enter(transaction).await?;
    readable_history(transaction).await?;
    let mut history = read_history(transaction).await?;
    let rewritten = former::is_complete(&history)?;
    if rewritten {
        former::rewrite(transaction, known).await?;
        history = read_history(transaction).await?;
    }
    let missing = missing(known, &history)?;
    let mut applied = Vec::new();
    for migration in missing {
        let name = migration.file();
        let failed = |source| MigrateError::Migration { name: name.clone(), source };
        transaction.batch_execute(migration.sql).await.map_err(failed)?;
        note(transaction, migration).await.map_err(failed)?;
        applied.push(name);
    }
    Ok((applied, rewritten))
}

/// The migrations after the last one of a history, whose entries must match ours in order.
fn missing<'k>(known: &'k [Migration], history: &[Noted]) -> Result<&'k [Migration], MigrateError> {
    let mut done = 0;
    for noted in history {
        match known.get(done) {
            Some(migration)
                if migration.version == noted.version && migration.checksum.to_string() == noted.checksum =>
            {
                done += 1;
            }
            Some(migration) if migration.version == noted.version => {
                return Err(MigrateError::Diverged { name: noted.file() });
            }
            _ => return Err(MigrateError::Newer { name: noted.file() }),
        }
    }
    Ok(&known[done..])
}

/// The migrations that [`migrate`] would apply. Changes nothing.
///
/// # Errors
/// [`MigrateError`], as [`migrate`] would end with it.
pub async fn pending(client: &impl GenericClient) -> Result<Vec<String>, MigrateError> {
    if !has_history(client).await? {
        let tables = super::adopt::standing(client).await?;
        if !tables.is_empty() {
            return Err(MigrateError::Occupied { tables });
        }
        return Ok(ALL.iter().map(Migration::file).collect());
    }
    readable_history(client).await?;
    let history = read_history(client).await?;
    if former::is_complete(&history)? {
        // Only the history's own rows change.
        return Ok(vec!["the history's present file names".to_owned()]);
    }
    Ok(missing(ALL, &history)?.iter().map(Migration::file).collect())
}

/// The last migration that a database has; none if it does not have tallyd's tables. Changes nothing.
///
/// # Errors
/// [`MigrateError`], if the history is not one that this version goes on from.
pub async fn reached(client: &impl GenericClient) -> Result<Option<String>, MigrateError> {
    if !has_history(client).await? {
        return Ok(None);
    }
    readable_history(client).await?;
    let history = read_history(client).await?;
    missing(ALL, &history)?;
    Ok(history.last().map(Noted::file))
}

/// SQL that makes the schema of an earlier time, up to the migration `last`, and notes it in the history. It has no
/// transaction of its own.
///
/// # Errors
/// [`MigrateError::Newer`] if this version does not know `last`.
pub fn script(last: &str) -> Result<String, MigrateError> {
    let end = ALL.iter().position(|migration| migration.file() == last);
    let end = end.ok_or_else(|| MigrateError::Newer { name: last.to_owned() })?;
    let mut sql = format!("{CREATE_HISTORY};\n");
    for migration in &ALL[..=end] {
        sql.push_str(migration.sql);
        let Migration { version, name, checksum, .. } = migration;
        // The names are words and underscores: the build accepts no others.
        let values = format!("({version}, '{name}', {NOW}, '{checksum}')");
        let columns = "version, name, applied_on, checksum";
        // Writing to a string does not fail.
        let _ = writeln!(sql, "\nINSERT INTO public.tallyd_schema_history ({columns}) VALUES {values};");
    }
    Ok(sql)
}

/// The history, oldest first.
async fn read_history(transaction: &impl GenericClient) -> Result<Vec<Noted>, tokio_postgres::Error> {
    let history = "SELECT version, name, checksum FROM public.tallyd_schema_history ORDER BY version";
    let rows = transaction.query_typed(history, &[]).await?;
    Ok(rows.iter().map(|row| Noted { version: row.get(0), name: row.get(1), checksum: row.get(2) }).collect())
}

/// Adds a migration to the history.
async fn note(transaction: &Transaction<'_>, migration: &Migration) -> Result<(), tokio_postgres::Error> {
    let (version, title, checksum) = (migration.version, migration.name, migration.checksum.to_string());
    let note = format!(
        "INSERT INTO public.tallyd_schema_history (version, name, applied_on, checksum) VALUES ($1, $2, {NOW}, $3)"
    );
    let values: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] =
        [(&version, Type::INT4), (&title, Type::TEXT), (&checksum, Type::TEXT)];
    transaction.query_typed(&note, &values).await.map(drop)
}

/// Refuses a role that sees an empty history because of row level security: it would begin anew.
async fn readable_history(client: &impl GenericClient) -> Result<(), MigrateError> {
    let hidden = "SELECT current_user::text FROM pg_class AS c WHERE c.oid = 'public.tallyd_schema_history'::regclass \
        AND (row_security_active(c.oid) OR NOT has_table_privilege(c.oid, 'SELECT'))";
    match client.query_typed(hidden, &[]).await?.first() {
        Some(row) => Err(MigrateError::Role { role: row.get(0) }),
        None => Ok(()),
    }
}

async fn has_history(client: &impl GenericClient) -> Result<bool, tokio_postgres::Error> {
    let there = "SELECT to_regclass('public.tallyd_schema_history') IS NOT NULL";
    Ok(client.query_typed(there, &[]).await?.first().is_some_and(|row| row.get(0)))
}

/// Admits one migrating process until its transaction ends, by a lock on the history. Only roles that may change the
/// history can take that lock. A missing history is created: of two processes that do so at once, the second waits for
/// the first and then fails ([`is_made_already`]).
async fn enter(transaction: &Transaction<'_>) -> Result<(), MigrateError> {
    if !has_history(transaction).await? {
        transaction.batch_execute(CREATE_HISTORY).await?;
        let tables = super::adopt::standing(transaction).await?;
        return if tables.is_empty() { Ok(()) } else { Err(MigrateError::Occupied { tables }) };
    }
    // A role that may only read the history either finds nothing to do, or fails at the first missing migration.
    let may_change = "SELECT has_table_privilege('public.tallyd_schema_history', 'UPDATE')";
    if transaction.query_typed(may_change, &[]).await?.first().is_some_and(|row| row.get(0)) {
        let lock = "LOCK TABLE public.tallyd_schema_history IN SHARE ROW EXCLUSIVE MODE";
        transaction.batch_execute(lock).await?;
    }
    Ok(())
}

/// Stores the configured zone if nothing has been recorded yet, and otherwise checks that the two agree.
async fn settle_zone(transaction: &Transaction<'_>, configured: Option<Tz>) -> Result<(), MigrateError> {
    let zone = reporting_zone(transaction, configured).await?;
    if setting(transaction, "reporting_time_zone").await? != zone.name() {
        set_zone(transaction, zone.name()).await?;
    }
    Ok(())
}

pub(super) async fn setting(transaction: &Transaction<'_>, key: &'static str) -> Result<String, MigrateError> {
    let value = "SELECT value FROM public.tallyd_settings WHERE key = $1";
    let rows = transaction.query_typed(value, &[(&key, Type::TEXT)]).await?;
    rows.first().map(|row| row.get(0)).ok_or(MigrateError::Setting { key })
}

pub(super) async fn set_zone(transaction: &Transaction<'_>, zone: &str) -> Result<(), tokio_postgres::Error> {
    let sql = "INSERT INTO public.tallyd_settings (key, value) VALUES ('reporting_time_zone', $1) \
        ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    transaction.query_typed(sql, &[(&zone, Type::TEXT)]).await.map(drop)
}

/// Accepts only names of the IANA database, by which the daemon computes days. PostgreSQL also takes abbreviations and
/// offsets (`EST`, `+02`, whose sign means the opposite of ISO 8601's).
pub(super) fn check_zone(zone: &str) -> Result<Tz, MigrateError> {
    Tz::from_str(zone).map_err(|_| MigrateError::UnknownTimeZone { zone: zone.to_owned() })
}
