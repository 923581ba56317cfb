//! The call log's partitions, read from the catalog.

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row};

use super::citus::is_spread;
use super::upkeep::SETTLED;
use tallyd_config::Granularity;

/// One partition.
#[derive(Debug, Clone, Serialize)]
pub struct PartitionInfo {
    /// Its name, quoted for SQL.
    pub name: String,
    /// The first instant of its range; none if it has no lower bound.
    pub from: Option<DateTime<Utc>>,
    /// The first instant after its range; none if it has no upper bound.
    pub to: Option<DateTime<Utc>>,
    /// Approximate number of calls, from PostgreSQL's statistics; none before the first ANALYZE.
    pub rows_estimate: Option<i64>,
    /// Bytes on disk, including indexes.
    pub bytes: i64,
    /// Its index on `(user_id, occurred_at)`.
    pub user_index: IndexState,
    /// True some time after its period, when it no longer grows.
    pub sealed: bool,
    /// True if this role may drop it, as a member of its owner.
    pub owned: bool,
}

/// An index's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum IndexState {
    /// There is no index.
    None,
    /// It is being built, or half-built: the hourly upkeep builds it anew.
    Building,
    /// It can be used.
    Valid,
}

impl IndexState {
    /// The state as text.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Building => "building",
            Self::Valid => "valid",
        }
    }
}

/// All partitions in order of time. A default partition, which does not have a range, is left out.
///
/// # Errors
/// PostgreSQL's.
pub async fn list(client: &Client) -> Result<Vec<PartitionInfo>, Error> {
    let index = "SELECT i.indisvalid FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid \
        WHERE i.indrelid = c.oid AND x.relname = c.relname || '_user'";
    let sql = format!(
        "SELECT p.relation::text, CASE WHEN isfinite(p.from_at) THEN p.from_at END, \
             CASE WHEN isfinite(p.to_at) THEN p.to_at END, \
             CASE WHEN c.reltuples > 0 OR c.relpages > 0 THEN greatest(c.reltuples, 0)::int8 END, \
             pg_total_relation_size(c.oid), ({index}), p.to_at < now() - {SETTLED}, pg_has_role(c.relowner, 'USAGE') \
         FROM public.tallyd_partitions() AS p JOIN pg_class AS c ON c.oid = p.relation ORDER BY p.from_at"
    );
    let mut partitions: Vec<_> = client.query_typed(&sql, &[]).await?.iter().map(read).collect();
    if is_spread(client).await? {
        measure_spread(client, &mut partitions).await?;
    }
    Ok(partitions)
}

/// Sizes and calls of partitions on other nodes, from Citus' functions: on the coordinator they are empty.
async fn measure_spread(client: &Client, partitions: &mut [PartitionInfo]) -> Result<(), Error> {
    let sql = "SELECT d.logicalrelid::text, pg_catalog.citus_total_relation_size(d.logicalrelid, false) FROM pg_catalog.pg_dist_partition AS d \
        JOIN public.tallyd_partitions() AS p ON p.relation = d.logicalrelid";
    for row in client.query_typed(sql, &[]).await? {
        let (name, bytes): (String, Option<i64>) = (row.get(0), row.get(1));
        if let Some(partition) = partitions.iter_mut().find(|one| one.name == name) {
            partition.bytes = bytes.unwrap_or(0);
            // The coordinator's own statistics describe an empty table.
            partition.rows_estimate = None;
        }
    }
    Ok(())
}

fn read(row: &Row) -> PartitionInfo {
    let index: Option<bool> = row.get(5);
    PartitionInfo {
        name: row.get(0),
        from: row.get(1),
        to: row.get(2),
        rows_estimate: row.get(3),
        // A partition that is being dropped does not have a size.
        bytes: row.get::<_, Option<i64>>(4).unwrap_or(0),
        user_index: index
            .map_or(IndexState::None, |valid| if valid { IndexState::Valid } else { IndexState::Building }),
        sealed: row.get(6),
        owned: row.get(7),
    }
}

/// Makes the partitions for every instant from `from` to before `to`. Returns all partitions of this period, in order.
///
/// # Errors
/// PostgreSQL's; more than 20 years are refused.
pub async fn ensure(
    client: &Client,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    granularity: Granularity,
) -> Result<Vec<String>, Error> {
    let sql = "SELECT public.tallyd_ensure_partitions($1, $2::timestamptz - interval '1 microsecond', $3)";
    let size = granularity.as_str();
    let rows =
        client.query_typed(sql, &[(&from, Type::TIMESTAMPTZ), (&to, Type::TIMESTAMPTZ), (&size, Type::TEXT)]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
