//! Finds old tables with the names of tallyd's, and moves them to another schema.

use tokio_postgres::types::Type;
use tokio_postgres::{Client, GenericClient};

use super::AdoptError;

/// The schema for old tables.
pub const SCHEMA: &str = "tallyd_adopted";

/// The tables of the migrations, except those whose names begin with `tallyd_`.
const NEEDED: [&str; 12] = [
    "api_usage_log",
    "daily_api_costs",
    "daily_user_api_costs",
    "user_api_totals",
    "ingest_watermark",
    "dead_letters",
    "api_prices",
    "api_price_changes",
    "api_budgets",
    "api_budget_states",
    "api_alerts",
    "reprice_jobs",
];

/// Old tables with names that a first migration needs. Empty if tallyd has migrated before.
///
/// # Errors
/// PostgreSQL's.
pub async fn occupied(client: &impl GenericClient) -> Result<Vec<String>, tokio_postgres::Error> {
    // The first migration makes this table in its transaction, so it exists exactly if tallyd's tables do. This role
    // may be unable to read it.
    let history = "SELECT to_regclass('public.tallyd_schema_history') IS NOT NULL";
    if client.query_typed(history, &[]).await?.first().is_some_and(|row| row.get(0)) {
        return Ok(Vec::new());
    }
    standing(client).await
}

/// Existing tables with the names of tallyd's.
///
/// # Errors
/// PostgreSQL's.
pub async fn standing(client: &impl GenericClient) -> Result<Vec<String>, tokio_postgres::Error> {
    let sql = "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
        WHERE n.nspname = 'public' AND c.relname = ANY ($1) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY 1";
    let names: &[&str] = &NEEDED;
    let rows = client.query_typed(sql, &[(&names, Type::TEXT_ARRAY)]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Moves the old log, the old daily sums and the old `increment_daily_cost` to the schema `tallyd_adopted`, in one
/// transaction. Returns the moved tables; empty if the names are free, or tallyd's already.
///
/// # Errors
/// [`AdoptError`]; nothing was moved then.
pub async fn move_aside(client: &mut Client) -> Result<Vec<String>, AdoptError> {
    let transaction = client.transaction().await?;
    // A daemon cannot migrate before the commit, because the names are taken until then.
    let taken = occupied(&transaction).await?;
    let mut commands: Vec<(String, &str)> = taken
        .into_iter()
        .filter(|name| ["public.api_usage_log", "public.daily_api_costs"].contains(&&**name))
        .map(|name| (name, "TABLE"))
        .collect();
    if commands.is_empty() {
        return Ok(Vec::new());
    }
    // The old function writes to the tables by name: left behind, it would write to tallyd's, or be called in place of
    // tallyd's own.
    let functions = "SELECT format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) \
        FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace \
        WHERE n.nspname = 'public' AND p.proname = 'increment_daily_cost' ORDER BY 1";
    let functions = transaction.query_typed(functions, &[]).await?;
    commands.extend(functions.iter().map(|row| (row.get(0), "FUNCTION")));
    transaction
        .batch_execute(&format!(
            "CREATE SCHEMA IF NOT EXISTS {SCHEMA}; REVOKE ALL ON SCHEMA {SCHEMA} FROM PUBLIC; \
             COMMENT ON SCHEMA {SCHEMA} IS 'Tables of an older shape, as they were. tallyd adopt has taken over what they hold.'"
        ))
        .await?;
    for (name, kind) in &commands {
        transaction.batch_execute(&format!("ALTER {kind} {name} SET SCHEMA {SCHEMA}")).await?;
    }
    transaction.commit().await?;
    Ok(commands.into_iter().map(|(name, _)| name).collect())
}
