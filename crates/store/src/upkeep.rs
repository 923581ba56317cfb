//! Periodic work on the schema: partitions ahead of time, and the users' index.
//!
//! `user_index = "sealed"` is the default. An index on `(user_id, occurred_at)` costs nearly half of the load speed
//! while rows arrive, and little once they have stopped. So a partition is indexed, concurrently, some time after its
//! period has ended. A half-built index is dropped and built again.
//!
//! *One daemon at a time.* An index that another daemon is building looks half-built, so a lock admits one daemon. A
//! concurrent build runs outside of any transaction, and a pooler in transaction mode hands the session on after each
//! transaction: a session's lock would be left to the next client. So a second session holds the lock in an open
//! transaction, without a snapshot for which the build would wait. It exists only while an index is due.

use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::locks::Lock;
use super::{ConnectError, Connection, Database};
use tallyd_config::{Config, Granularity, UserIndex};

/// The settings of upkeep.
#[derive(Debug, Clone, Copy)]
pub struct UpkeepOptions {
    /// The size of new partitions.
    pub granularity: Granularity,
    /// The number of partitions to make ahead.
    pub partitions_ahead: u32,
    /// When partitions are indexed by user.
    pub user_index: UserIndex,
}

impl From<&Config> for UpkeepOptions {
    fn from(config: &Config) -> Self {
        let table = &config.log_table;
        Self { granularity: table.partition, partitions_ahead: table.partitions_ahead, user_index: table.user_index }
    }
}

/// Time between two runs.
pub const INTERVAL: Duration = Duration::from_secs(60 * 60);
/// Time after a period's end at which its partition counts as sealed.
pub(super) const SETTLED: &str = "interval '6 hours'";

/// Why upkeep stopped. Finished steps stay.
#[derive(Debug, thiserror::Error)]
pub enum UpkeepError {
    /// PostgreSQL failed.
    #[error("{}", super::describe(.0))]
    Database(#[from] tokio_postgres::Error),
    /// The session for the lock could not be opened.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// Makes partitions ahead and builds the indexes that are due. Returns the indexes that were built.
///
/// # Errors
/// [`UpkeepError`]. The session's transaction may still be open then.
pub async fn upkeep(database: &Database, client: &Client, options: UpkeepOptions) -> Result<Vec<String>, UpkeepError> {
    let ahead = "SELECT public.tallyd_ensure_partitions(now(), now() + $1 * ('1 ' || $2)::interval, $2)";
    let (count, size) = (f64::from(options.partitions_ahead), options.granularity.as_str());
    client.query_typed(ahead, &[(&count, Type::FLOAT8), (&size, Type::TEXT)]).await?;
    protect(client).await?;
    build_indexes(database, client, options.user_index).await
}

/// Closes to the public the tables that were made by hand since the last run.
async fn protect(client: &Client) -> Result<(), tokio_postgres::Error> {
    client.batch_execute("BEGIN").await?;
    if Lock::Upkeep.try_take(client).await? {
        let sql =
            "SELECT public.tallyd_protect_all() WHERE has_function_privilege('public.tallyd_protect_all()', 'EXECUTE')";
        let protected = client.query_typed(sql, &[]).await?;
        if !protected.is_empty() {
            let names: Vec<String> = protected.iter().map(|row| row.get(0)).collect();
            tracing::info!(names = names.join(", "), "closed to the public");
        }
    }
    client.batch_execute("COMMIT").await
}

/// A session that holds the lock while its transaction is open; none if another session has it.
async fn guard(database: &Database) -> Result<Option<Connection>, UpkeepError> {
    let session = database.connect("tallyd upkeep lock").await?;
    // It idles for as long as the longest index takes.
    session.batch_execute("BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0").await?;
    if Lock::Upkeep.try_take(&session).await? {
        return Ok(Some(session));
    }
    session.batch_execute("ROLLBACK").await?;
    Ok(None)
}

async fn build_indexes(database: &Database, client: &Client, when: UserIndex) -> Result<Vec<String>, UpkeepError> {
    let Some(due) = due(when) else { return Ok(Vec::new()) };
    if client.query_typed(&due, &[]).await?.is_empty() {
        return Ok(Vec::new());
    }
    let Some(guard) = guard(database).await? else { return Ok(Vec::new()) };
    let mut built = Vec::new();
    // Read again: the lock's last holder may have built them.
    for row in client.query_typed(&due, &[]).await? {
        let (partition, index, broken): (String, String, bool) = (row.get(0), row.get(1), row.get(2));
        if broken {
            client.batch_execute(&format!("DROP INDEX CONCURRENTLY public.{index}")).await?;
        }
        let sql = format!("CREATE INDEX CONCURRENTLY {index} ON public.{partition} (user_id, occurred_at)");
        client.batch_execute(&sql).await?;
        built.push(index);
    }
    guard.batch_execute("COMMIT").await?;
    Ok(built)
}

/// The query for the partitions whose index is due: partition, index, and whether a broken one exists.
fn due(when: UserIndex) -> Option<String> {
    let due = match when {
        UserIndex::Never => return None,
        UserIndex::Always => "true".to_owned(),
        UserIndex::Sealed => format!("upper_at < now() - {SETTLED}"),
    };
    // A partition's upper bound stands in its definition: FOR VALUES FROM ('…') TO ('…').
    Some(format!(
        "SELECT quote_ident(relname), quote_ident(index_name), broken FROM (
            SELECT c.relname::text, c.relname || '_user' AS index_name,
                substring(pg_get_expr(c.relpartbound, c.oid) FROM $$TO \\('([^']+)'\\)$$)::timestamptz AS upper_at,
                EXISTS (SELECT FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
                    WHERE i.indrelid = c.oid AND x.relname = c.relname || '_user' AND i.indisvalid) AS built,
                EXISTS (SELECT FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
                    WHERE i.indrelid = c.oid AND x.relname = c.relname || '_user' AND NOT i.indisvalid) AS broken
            FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid
            WHERE h.inhparent = 'public.api_usage_log'::regclass AND pg_has_role(c.relowner, 'USAGE')) AS p
        WHERE NOT built AND {due} ORDER BY relname"
    ))
}
