//! Citus: which of the tables live where, and how they get there.
//!
//! Nobody has run this on Citus where it was written. It follows what Citus documents, and is tested against stand-ins of its two
//! functions; docs/citus.md says what is known and what is not.
//!
//! ## What goes where, and why
//! * By `user_id`, together on the same nodes: the call log and what is summed by user. The call log's partitions follow it. A batch's rows
//!   spread over all nodes, and one user's questions go to one.
//! * On every node, as reference tables: `daily_api_costs` and the sums dropped from it, whose keys name no user, so that they
//!   cannot be spread that way. A batch changes a few hundred of their rows, dashboards read them all the time. So also the watermark, one
//!   row a lane, which is written in each batch's transaction.
//! * On the coordinator alone, untouched: everything else. Settings, prices, budgets, tokens, dead letters and audit are small, have
//!   triggers and generated ids, and are never written together with a batch.
//!
//! ## What Citus demands, and what holds here
//! Every unique key of a spread table has its distribution column: looked at before anything is changed, because an index that was made by
//! hand may not. Upserts set `excluded.updated_at`, policies have no subselect, the loader relies on no row counts: the migrations and
//! `crates/store/src/load` are written so.
//!
//! Each table is moved in a statement of its own, because Citus cannot do some of them in one transaction. A failure in between leaves the
//! rest where it was, and the next run goes on.

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row};

use super::{FailureClass, classify, describe};

/// The column by which rows are spread.
const COLUMN: &str = "user_id";

/// Where a table lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// Whole on every node.
    Reference,
    /// Spread over the nodes by `user_id`.
    ByUser,
}

/// The tables that leave the coordinator, in the order in which they do. The call log is the first that is spread: the others are kept
/// with it.
pub const PLACEMENTS: [(&str, Placement); 8] = [
    ("ingest_watermark", Placement::Reference),
    ("daily_api_costs", Placement::Reference),
    ("tallyd_dropped_costs", Placement::Reference),
    (LOG, Placement::ByUser),
    ("daily_user_api_costs", Placement::ByUser),
    ("user_api_totals", Placement::ByUser),
    ("tallyd_dropped_user_costs", Placement::ByUser),
    ("tallyd_dropped_totals", Placement::ByUser),
];

const LOG: &str = "api_usage_log";

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
        "the unique index {index} of {table} has no user_id, and Citus takes no such key on a table that is spread by it. hint: drop \
         that index, it is none of tallyd's"
    )]
    UniqueKey {
        /// The table.
        table: String,
        /// Its index.
        index: String,
    },
    /// A table could not be moved.
    #[error("{statement} failed: {}. hint: what was moved before stays; run the same command again", describe(source))]
    Statement {
        /// What was run.
        statement: String,
        /// Why it failed.
        source: Error,
    },
}

impl CitusError {
    /// What to do about it.
    #[must_use]
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Database(source) | Self::Statement { source, .. } => classify(source),
            Self::Missing | Self::UniqueKey { .. } => FailureClass::Hold,
        }
    }
}

/// What is to be run, one statement after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CitusPlan {
    /// Whether the database has Citus' functions.
    pub is_installed: bool,
    /// The statements, without a semicolon.
    pub statements: Vec<String>,
}

/// The statement that moves a table.
fn statement(table: &str, placement: Placement) -> String {
    match placement {
        Placement::Reference => format!("SELECT create_reference_table('public.{table}')"),
        Placement::ByUser if table == LOG => format!("SELECT create_distributed_table('public.{table}', '{COLUMN}')"),
        Placement::ByUser => {
            format!("SELECT create_distributed_table('public.{table}', '{COLUMN}', colocate_with => 'public.{LOG}')")
        }
    }
}

/// Finds out what is left to do: nothing has been changed then.
///
/// # Errors
/// [`CitusError::UniqueKey`] where Citus would refuse a table, and PostgreSQL's own.
pub async fn plan(client: &Client) -> Result<CitusPlan, CitusError> {
    let installed = "SELECT count(DISTINCT p.proname) = 2 AND to_regclass('pg_dist_partition') IS NOT NULL FROM pg_proc AS p \
        WHERE p.proname IN ('create_distributed_table', 'create_reference_table') AND pg_function_is_visible(p.oid)";
    let is_installed = client.query_typed(installed, &[]).await?.first().is_some_and(|row| row.get(0));
    let done: Vec<String> = if is_installed {
        let sql = "SELECT c.relname::text FROM pg_dist_partition AS d JOIN pg_class AS c ON c.oid = d.logicalrelid \
            WHERE c.relnamespace = 'public'::regnamespace";
        client.query_typed(sql, &[]).await?.iter().map(|row| row.get(0)).collect()
    } else {
        Vec::new()
    };
    let left = PLACEMENTS.into_iter().filter(|(table, _)| !done.iter().any(|done| done == table));
    let left: Vec<_> = left.collect();
    check_keys(client, &left).await?;
    let statements = left.into_iter().map(|(table, placement)| statement(table, placement)).collect();
    Ok(CitusPlan { is_installed, statements })
}

/// Looks for unique keys that Citus would refuse, in the tables that are still to be spread.
async fn check_keys(client: &Client, left: &[(&'static str, Placement)]) -> Result<(), CitusError> {
    let tables: Vec<&str> =
        left.iter().filter(|(_, placement)| *placement == Placement::ByUser).map(|(table, _)| *table).collect();
    let sql = "SELECT c.relname::text, i.indexrelid::regclass::text FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid \
        WHERE c.relnamespace = 'public'::regnamespace AND c.relname = ANY ($1) AND i.indisunique AND NOT EXISTS ( \
            SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey) AND a.attname = $2) \
        ORDER BY 1, 2 LIMIT 1";
    let rows = client.query_typed(sql, &[(&tables, Type::TEXT_ARRAY), (&COLUMN, Type::TEXT)]).await?;
    let wrong = |row: &Row| CitusError::UniqueKey { table: row.get(0), index: row.get(1) };
    rows.first().map_or(Ok(()), |row| Err(wrong(row)))
}

/// Runs what the plan says. `told` gets each statement before it is run: one with many rows takes its time.
///
/// # Errors
/// [`CitusError`]; what was moved before stays moved.
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
