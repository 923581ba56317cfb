//! The second step: drops the empty partition.
//!
//! Dropping a partition takes an exclusive lock on the whole call log. While it waits, all newcomers wait behind it. So
//! the first attempts have short time limits; the later ones are longer, for batches that take longer to load.

use std::time::Duration;

use tokio_postgres::Client;

use super::empty::is_empty;
use super::{RetentionError, begin, gives_way, is_gone, is_partition};
use crate::locks::Lock;
use crate::partitions::PartitionInfo;

/// Time limit of each attempt to lock.
const WAITS: [&str; 6] = ["50ms", "100ms", "200ms", "400ms", "800ms", "2s"];
const PAUSE: Duration = Duration::from_millis(200);

/// Result for an empty partition.
pub(super) enum Removed {
    /// It was dropped.
    Gone,
    /// Calls have arrived since it was emptied; it stays.
    Refilled,
    /// Others were using the call log; it stays.
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
    if !is_empty(client, name).await? {
        return Ok(Removed::Refilled);
    }
    client.batch_execute(&format!("DROP TABLE {name}")).await?;
    Ok(Removed::Gone)
}
