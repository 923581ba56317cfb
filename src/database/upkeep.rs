//! What the schema needs every so often: partitions ahead of time, and the users' index.
//!
//! `user_index = "sealed"` is the default because an index on `(user_id, occurred_at)` costs more than half of the load
//! speed while rows arrive, and little once they have stopped: a partition is indexed, concurrently, when its period has
//! been over for a while. An index that was left half-built is dropped and built again.

use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::Granularity;
use crate::config::UserIndex;

/// What upkeep is told.
#[derive(Debug, Clone, Copy)]
pub struct UpkeepOptions {
    /// The size of new partitions.
    pub granularity: Granularity,
    /// How many to make ahead.
    pub partitions_ahead: u32,
    /// When partitions are indexed by user.
    pub user_index: UserIndex,
}

/// How often upkeep is due.
pub const INTERVAL: Duration = Duration::from_secs(60 * 60);
/// How long a period must have been over before its partition counts as sealed.
pub(super) const SETTLED: &str = "interval '6 hours'";
/// The lock that one daemon holds meanwhile: `tallyupk` in ASCII.
const LOCK: i64 = 0x7461_6c6c_7975_706b;

/// Makes partitions ahead and builds the indexes that are due. Returns the indexes that were built.
///
/// # Errors
/// PostgreSQL's; what was done before stays done.
pub async fn upkeep(client: &Client, options: UpkeepOptions) -> Result<Vec<String>, tokio_postgres::Error> {
    let ahead = "SELECT public.tallyd_ensure_partitions(now(), now() + $1 * ('1 ' || $2)::interval, $2)";
    let (count, size) = (f64::from(options.partitions_ahead), options.granularity.as_str());
    client.query_typed(ahead, &[(&count, Type::FLOAT8), (&size, Type::TEXT)]).await?;
    let lock = client.query_typed("SELECT pg_try_advisory_lock($1)", &[(&LOCK, Type::INT8)]).await?;
    if !lock.first().is_some_and(|row| row.get(0)) {
        return Ok(Vec::new());
    }
    let built = keep(client, options).await;
    client.query_typed("SELECT pg_advisory_unlock($1)", &[(&LOCK, Type::INT8)]).await?;
    built
}

async fn keep(client: &Client, options: UpkeepOptions) -> Result<Vec<String>, tokio_postgres::Error> {
    // Partitions that were made by hand since the last time.
    let sql =
        "SELECT public.tallyd_protect_all() WHERE has_function_privilege('public.tallyd_protect_all()', 'EXECUTE')";
    let protected = client.query_typed(sql, &[]).await?;
    if !protected.is_empty() {
        let names: Vec<String> = protected.iter().map(|row| row.get(0)).collect();
        tracing::info!(names = names.join(", "), "closed to the public");
    }
    build_indexes(client, options.user_index).await
}

async fn build_indexes(client: &Client, when: UserIndex) -> Result<Vec<String>, tokio_postgres::Error> {
    let due = match when {
        UserIndex::Never => return Ok(Vec::new()),
        UserIndex::Always => "true".to_owned(),
        UserIndex::Sealed => format!("upper_at < now() - {SETTLED}"),
    };
    // A partition's upper bound stands in its definition: FOR VALUES FROM ('…') TO ('…').
    let partitions = format!(
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
    );
    let mut built = Vec::new();
    for row in client.query_typed(&partitions, &[]).await? {
        let (partition, index, broken): (String, String, bool) = (row.get(0), row.get(1), row.get(2));
        if broken {
            client.batch_execute(&format!("DROP INDEX CONCURRENTLY public.{index}")).await?;
        }
        let sql = format!("CREATE INDEX CONCURRENTLY {index} ON public.{partition} (user_id, occurred_at)");
        client.batch_execute(&sql).await?;
        built.push(index);
    }
    Ok(built)
}
