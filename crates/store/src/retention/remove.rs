//! The second step: the empty partition goes.
//!
//! Dropping a partition takes a lock that nobody else may share, on the call log as a whole. While it is waited for, everybody
//! who comes waits behind: so it is waited for shortly at first, and longer only where batches take longer to load.

use std::time::Duration;

use tokio_postgres::Client;

use super::{RetentionError, begin, gives_way, is_gone, is_partition};
use crate::locks::Lock;
use crate::partitions::PartitionInfo;

/// How long the lock is waited for, try by try.
const WAITS: [&str; 6] = ["50ms", "100ms", "200ms", "400ms", "800ms", "2s"];
const PAUSE: Duration = Duration::from_millis(200);

/// The result for an empty partition.
pub(super) enum Removed {
    /// It is gone.
    Gone,
    /// Calls have arrived since it was emptied; it stays.
    Refilled,
    /// Others were using the call log all the time; it stays.
    Busy,
}

/// Drops the partition if it is empty.
pub(super) async fn remove(client: &Client, partition: &PartitionInfo) -> Result<Removed, RetentionError> {
    for wait in WAITS {
        begin(client, wait).await?;
        let done = match within(client, partition).await {
            Ok(Removed::Gone) => {
                client.batch_execute("COMMIT").await?;
                return Ok(Removed::Gone);
            }
            Err(RetentionError::Database(error)) if gives_way(&error) => Ok(Removed::Busy),
            Err(RetentionError::Database(error)) if is_gone(&error) => Ok(Removed::Gone),
            other => other,
        };
        // The session itself may have failed.
        let ended = client.batch_execute("ROLLBACK").await;
        match done? {
            Removed::Busy => {}
            other => return Ok(other),
        }
        ended?;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(Removed::Busy)
}

async fn within(client: &Client, partition: &PartitionInfo) -> Result<Removed, RetentionError> {
    if !Lock::Retention.try_take(client).await? {
        return Err(RetentionError::Taken);
    }
    let name = &partition.name;
    client.batch_execute("LOCK TABLE ONLY public.api_usage_log IN ACCESS EXCLUSIVE MODE").await?;
    client.batch_execute(&format!("LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE")).await?;
    if !is_partition(client, partition).await? {
        return Ok(Removed::Gone);
    }
    let any = client.query_typed(&format!("SELECT EXISTS (SELECT 1 FROM {name} LIMIT 1)"), &[]).await?;
    if any.first().is_some_and(|row| row.get(0)) {
        return Ok(Removed::Refilled);
    }
    client.batch_execute(&format!("DROP TABLE {name}")).await?;
    Ok(Removed::Gone)
}
