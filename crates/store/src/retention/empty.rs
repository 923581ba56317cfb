//! The first step: keeps the partition's sums and deletes its rows, in one transaction.

use std::time::Duration;

use serde_json::json;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::{LOCK_WAIT, RetentionError, begin, gives_way, is_gone, is_partition};
use crate::archive::Ready;
use crate::locks::Lock;
use crate::partitions::PartitionInfo;
use crate::queries::audit::{self, Actor, Change};
use crate::rollups::ROLLUPS;

/// Attempts to lock out readers, once the sums are made.
const TRIES: u32 = 40;
/// Time limit of each attempt: new readers wait behind it.
const TRUNCATE_WAIT: &str = "250ms";
const PAUSE: Duration = Duration::from_millis(250);

/// Result of emptying a partition.
pub(super) enum Emptied {
    /// The partition does not exist any more.
    Gone,
    /// Others were using it; nothing has changed.
    Busy,
    /// It has other rows than its file in the archive; nothing has changed.
    Changed,
    /// It is now empty.
    Was {
        /// The number of calls that it had.
        calls: i64,
        /// The sum of their costs in USD, as exact decimal text.
        cost_usd: String,
    },
}

/// Empties the partition. With an archive, `file` is the partition's file there; none if it had no rows.
pub(super) async fn empty(
    client: &Client,
    partition: &PartitionInfo,
    by: &Actor<'_>,
    file: Option<&Option<Ready>>,
) -> Result<Emptied, RetentionError> {
    begin(client, LOCK_WAIT).await?;
    let done = match within(client, partition, by, file).await {
        Ok(emptied @ Emptied::Was { calls: 1.., .. }) => {
            client.batch_execute("COMMIT").await?;
            return Ok(emptied);
        }
        Err(RetentionError::Database(error)) if gives_way(&error) => Ok(Emptied::Busy),
        Err(RetentionError::Database(error)) if is_gone(&error) => Ok(Emptied::Gone),
        other => other,
    };
    // The session itself may have failed.
    let ended = client.batch_execute("ROLLBACK").await;
    let done = done?;
    ended?;
    Ok(done)
}

async fn within(
    client: &Client,
    partition: &PartitionInfo,
    by: &Actor<'_>,
    file: Option<&Option<Ready>>,
) -> Result<Emptied, RetentionError> {
    if !Lock::Retention.try_take(client).await? {
        return Err(RetentionError::Taken);
    }
    let name = &partition.name;
    // The lock waits for transactions with rows in it whose rollups are still to come; later ones wait for the lock.
    client.batch_execute(&format!("LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE")).await?;
    if !is_partition(client, partition).await? {
        return Ok(Emptied::Gone);
    }
    let same = match file {
        Some(Some(file)) => file.matches(client, name).await?,
        Some(None) => is_empty(client, name).await?,
        None => true,
    };
    if !same {
        return Ok(Emptied::Changed);
    }
    // Read under the lock: a rebuild of the rollups, which changes the zone, locks the partition too.
    let zone = "SELECT value FROM public.tallyd_settings WHERE key = 'reporting_time_zone'";
    let zone = client.query_typed(zone, &[]).await?;
    let zone: &str = zone.first().ok_or(RetentionError::NoTimeZone)?.get(0);
    let Some(held) = keep_sums(client, name, zone).await? else {
        return Ok(Emptied::Was { calls: 0, cost_usd: "0".into() });
    };
    note(client, partition, &held, by).await?;
    if let Some(Some(file)) = file {
        file.emptied(client).await?;
    }
    truncate(client, name).await?;
    Ok(Emptied::Was { calls: held.calls, cost_usd: held.cost_usd })
}

/// Totals of a partition.
struct Held {
    calls: i64,
    cost_usd: String,
    unpriced_calls: i64,
}

/// True if the partition does not have rows.
pub(super) async fn is_empty(client: &Client, name: &str) -> Result<bool, tokio_postgres::Error> {
    let none = client.query_typed(&format!("SELECT NOT EXISTS (SELECT 1 FROM {name} LIMIT 1)"), &[]).await?;
    Ok(none.first().is_some_and(|row| row.get(0)))
}

/// Adds the partition's sums to the dropped ones. None if it does not have rows.
async fn keep_sums(client: &Client, name: &str, zone: &str) -> Result<Option<Held>, tokio_postgres::Error> {
    if is_empty(client, name).await? {
        return Ok(None);
    }
    let mut held = None;
    for rollup in &ROLLUPS {
        let sql = format!(
            "WITH sums AS MATERIALIZED ({sums}), kept AS ({add}) \
             SELECT sum(calls)::int8, sum(cost_usd)::text, sum(unpriced_calls)::int8 FROM sums",
            sums = rollup.select_from(name),
            add = rollup.add_to(rollup.dropped, "TABLE sums"),
        );
        let rows = client.query_typed(&sql, &[(&zone, Type::TEXT)]).await?;
        // An aggregate returns a row, and there are rows to add up.
        held = rows.first().map(|row| Held { calls: row.get(0), cost_usd: row.get(1), unpriced_calls: row.get(2) });
    }
    Ok(held)
}

/// Stores the dropped totals, and writes an audit entry.
async fn note(
    client: &Client,
    partition: &PartitionInfo,
    held: &Held,
    by: &Actor<'_>,
) -> Result<(), tokio_postgres::Error> {
    let sql = "INSERT INTO public.tallyd_dropped_partitions \
        (partition_name, from_at, to_at, calls, cost_usd, unpriced_calls, actor) \
        VALUES ($1, coalesce($2, '-infinity'), coalesce($3, 'infinity'), $4, $5::text::numeric, $6, $7)";
    let values: [(&(dyn ToSql + Sync), Type); 7] = [
        (&partition.name, Type::TEXT),
        (&partition.from, Type::TIMESTAMPTZ),
        (&partition.to, Type::TIMESTAMPTZ),
        (&held.calls, Type::INT8),
        (&held.cost_usd, Type::TEXT),
        (&held.unpriced_calls, Type::INT8),
        (&by.name, Type::TEXT),
    ];
    client.query_typed(sql, &values).await?;
    let old = json!({
        "from": partition.from, "to": partition.to, "calls": held.calls, "cost_usd": held.cost_usd,
        "unpriced_calls": held.unpriced_calls,
    });
    let change = Change { old: Some(old), ..by.change("partition.drop", &partition.name) };
    audit::write(client, &change).await
}

/// Truncates the partition once it has no readers. A slow reader does not cause the sums to be made again.
async fn truncate(client: &Client, name: &str) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(&format!("SET LOCAL lock_timeout = '{TRUNCATE_WAIT}'; SAVEPOINT summed")).await?;
    let mut tries = 0;
    loop {
        match client.batch_execute(&format!("LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE")).await {
            Ok(()) => return client.batch_execute(&format!("TRUNCATE {name}")).await,
            Err(error) if gives_way(&error) && tries < TRIES => {
                tries += 1;
                client.batch_execute("ROLLBACK TO SAVEPOINT summed").await?;
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}
