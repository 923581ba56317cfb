//! Citus: where each table lives, and how it gets there.
//!
//! ## Placement
//! * By `id`: the call log and its partitions. Each batch, and the calls of one user or of none, spread evenly over all
//!   nodes. By `user_id`, calls without a user and those of a busy user would be one shard on one node.
//! * By `user_id`, together on the same nodes: the sums by user, namely the base, its deltas, the list of users, and the
//!   dropped sums. So each node merges its own deltas.
//! * On the coordinator alone: all other tables. The watermark and the rollups by model, dimension and hour are written
//!   in each batch's transaction, and are small. As reference tables they would make lanes and daemons wait for one
//!   another, because a write locks a reference table's only shard until COMMIT. Settings, prices, budgets, tokens, dead
//!   letters and audit are small, and have triggers and generated ids.
//!
//! `reconcile`, a rebuild and dropping partitions compare the call log with the users' sums through the coordinator: each
//! node sends its sums by user.
//!
//! ## Shards
//! A batch is loaded over one connection to each worker (`crate::load::slots`). On it Citus copies into one shard after
//! another, each with two round trips, and only the first shard's rows are sent while they are read. So a batch's time
//! grows with the number of shards, and [`plan`] makes few: [`SHARDS_A_WORKER`]. docs/guide/citus.md has the figures.
//!
//! ## Citus' rules
//! Every unique key of a spread table must have the distribution column. [`plan`] checks this before anything changes,
//! because an index made by hand may lack it. Statements that change rows of the call log by their place (`ctid`) also
//! name their `id`, because a place identifies a row only within a shard. The other rules bind the migrations and
//! `crates/store/src/load`: upserts set `excluded.updated_at`, policies do not have subselects, the loader does not rely
//! on row counts.
//!
//! ## Moving
//! Each table is moved in a statement of its own, because Citus cannot move some of them in one transaction. After a
//! failure the remaining tables are where they were, and the next run goes on. Moving also leaves invisible copies of
//! the rows on the coordinator; a second statement removes them once they are on the nodes.

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, GenericClient, Row};

use super::{FailureClass, classify, describe};

/// The spread tables, in the order in which they are moved.
pub const SPREAD: [&str; 9] = [
    LOG,
    SUMS,
    "tallyd_user_totals",
    "tallyd_user_deltas_0",
    "tallyd_user_deltas_1",
    "tallyd_user_list",
    "tallyd_user_list_due",
    "tallyd_dropped_user_costs",
    "tallyd_dropped_totals",
];

const LOG: &str = "api_usage_log";
/// The first table of users' sums: the others are kept with it.
const SUMS: &str = "tallyd_user_days";

/// Shards of the call log, and as many of the users' sums, for each worker.
const SHARDS_A_WORKER: i64 = 2;

/// The column by which a table's rows are spread.
#[must_use]
pub fn column(table: &str) -> &'static str {
    if table == LOG { "id" } else { "user_id" }
}

/// Why tables cannot be moved to Citus' nodes.
#[derive(Debug, thiserror::Error)]
pub enum CitusError {
    /// PostgreSQL failed.
    #[error("the tables cannot be distributed: {}", describe(.0))]
    Database(#[from] Error),
    /// The extension is not in this database.
    #[error(
        "this database has no Citus. hint: on a server whose shared_preload_libraries has citus, run `CREATE EXTENSION citus` in \
         this database; `tallyd migrate --citus --dry-run` shows what would be run then"
    )]
    Missing,
    /// A unique index lacks the distribution column.
    #[error(
        "the unique index {index} of {table} does not have {column}, and Citus takes no such key on a table that is spread by it. hint: \
         drop that index, it is none of tallyd's", column = column(table)
    )]
    UniqueKey {
        /// The table.
        table: String,
        /// Its index.
        index: String,
    },
    /// A table could not be moved.
    #[error(
        "{statement} failed: {}. hint: tables moved before stay moved; run the same command again",
        describe(source)
    )]
    Statement {
        /// The statement that was run.
        statement: String,
        /// PostgreSQL's error.
        source: Error,
    },
}

impl CitusError {
    /// The remedy.
    #[must_use]
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Database(source) | Self::Statement { source, .. } => classify(source),
            Self::Missing | Self::UniqueKey { .. } => FailureClass::Hold,
        }
    }
}

/// The statements that are still to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CitusPlan {
    /// Whether the database has Citus' functions.
    pub is_installed: bool,
    /// The statements, without a semicolon.
    pub statements: Vec<String>,
}

/// True if the call log is spread over Citus' nodes.
///
/// # Errors
/// PostgreSQL's.
pub(crate) async fn is_spread(client: &impl GenericClient) -> Result<bool, Error> {
    // By its full name: a role that may create tables in `public` could create one of that name, and thereby have every
    // check hold back loading.
    let catalog = client.query_typed("SELECT to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL", &[]).await?;
    if !catalog.first().is_some_and(|row| row.get(0)) {
        return Ok(false);
    }
    let sql = "SELECT 1 FROM pg_catalog.pg_dist_partition WHERE logicalrelid = 'public.api_usage_log'::regclass";
    Ok(!client.query_typed(sql, &[]).await?.is_empty())
}

/// The statement that moves a table to the nodes.
fn spread(table: &str, shards: i64) -> String {
    let column = column(table);
    match table {
        LOG | SUMS => format!(
            "SELECT create_distributed_table('public.{table}', '{column}', shard_count => {shards}, colocate_with => 'none')"
        ),
        _ => format!("SELECT create_distributed_table('public.{table}', '{column}', colocate_with => 'public.{SUMS}')"),
    }
}

/// The statement that removes the copies that moving left on the coordinator.
fn clear(table: &str) -> String {
    format!("SELECT truncate_local_data_after_distributing_table('public.{table}')")
}

/// Finds the remaining statements; changes nothing. Without a number of `shards` a table gets [`SHARDS_A_WORKER`].
///
/// # Errors
/// [`CitusError::UniqueKey`] where Citus would refuse a table, and PostgreSQL's own.
pub async fn plan(client: &Client, shards: Option<u16>) -> Result<CitusPlan, CitusError> {
    let installed = "SELECT count(DISTINCT p.proname) = 2 AND to_regclass('pg_dist_partition') IS NOT NULL FROM pg_proc AS p \
        WHERE p.proname IN ('create_distributed_table', 'truncate_local_data_after_distributing_table') AND pg_function_is_visible(p.oid)";
    let is_installed = client.query_typed(installed, &[]).await?.first().is_some_and(|row| row.get(0));
    // The spread tables, and whether the coordinator still has copies of their rows.
    let done: Vec<(String, bool)> = if is_installed {
        let sql = "SELECT c.relname::text, pg_relation_size(c.oid) \
                + coalesce((SELECT sum(pg_relation_size(t.relid)) FROM pg_partition_tree(c.oid) AS t), 0) > 0 \
            FROM pg_dist_partition AS d JOIN pg_class AS c ON c.oid = d.logicalrelid WHERE c.relnamespace = 'public'::regnamespace";
        client.query_typed(sql, &[]).await?.iter().map(|row| (row.get(0), row.get(1))).collect()
    } else {
        Vec::new()
    };
    let is_done = |table: &str| done.iter().find(|(done, _)| done == table);
    let left: Vec<_> = SPREAD.into_iter().filter(|table| is_done(table).is_none()).collect();
    check_keys(client, &left).await?;
    let shards = match shards {
        Some(shards) => i64::from(shards),
        None => SHARDS_A_WORKER * workers(client).await?.max(1),
    };
    let mut statements = Vec::new();
    for table in SPREAD {
        match is_done(table) {
            None => statements.extend([spread(table, shards), clear(table)]),
            Some((_, true)) => statements.push(clear(table)),
            Some((_, false)) => {}
        }
    }
    Ok(CitusPlan { is_installed, statements })
}

/// Number of nodes that take shards; 0 without Citus.
async fn workers(client: &Client) -> Result<i64, Error> {
    let catalog = client.query_typed("SELECT to_regclass('pg_dist_node') IS NOT NULL", &[]).await?;
    if !catalog.first().is_some_and(|row| row.get(0)) {
        return Ok(0);
    }
    let sql = "SELECT count(*) FROM pg_dist_node WHERE isactive AND shouldhaveshards AND noderole::text = 'primary'";
    Ok(client.query_typed(sql, &[]).await?.first().map_or(0, |row| row.get(0)))
}

/// Looks for unique keys that Citus would refuse, in the tables that are still to be spread.
async fn check_keys(client: &Client, tables: &[&str]) -> Result<(), CitusError> {
    let sql = "SELECT c.relname::text, i.indexrelid::regclass::text FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid \
        JOIN unnest($1::text[], $2::text[]) AS s (name, spread_by) ON c.relname = s.name \
        WHERE c.relnamespace = 'public'::regnamespace AND i.indisunique AND NOT EXISTS ( \
            SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey) AND a.attname = s.spread_by) \
        ORDER BY 1, 2 LIMIT 1";
    let columns: Vec<&str> = tables.iter().copied().map(column).collect();
    let rows = client.query_typed(sql, &[(&tables, Type::TEXT_ARRAY), (&columns, Type::TEXT_ARRAY)]).await?;
    let wrong = |row: &Row| CitusError::UniqueKey { table: row.get(0), index: row.get(1) };
    rows.first().map_or(Ok(()), |row| Err(wrong(row)))
}

/// Runs the plan's statements. `told` gets each statement before it runs, because one over many rows takes long.
///
/// # Errors
/// [`CitusError`]; tables moved before stay moved.
pub async fn distribute(client: &Client, plan: &CitusPlan, mut told: impl FnMut(&str)) -> Result<(), CitusError> {
    if !plan.is_installed {
        return Err(CitusError::Missing);
    }
    for statement in &plan.statements {
        told(statement);
        let failed = |source| CitusError::Statement { statement: statement.clone(), source };
        client.batch_execute(statement).await.map_err(failed)?;
    }
    Ok(())
}
