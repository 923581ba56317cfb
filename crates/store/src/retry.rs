//! Retries: of a transaction that another one blocked, and of a task that lives as long as the daemon.

use std::time::Duration;

use tokio_postgres::{Client, Error};
use tokio_util::sync::CancellationToken;

use crate::{FailureClass, classify};

/// Tries of a transaction that others block.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(50);

/// True if the session is intact and another try may succeed: a deadlock, a lock timeout, or a partition that retention
/// has just dropped and the next try makes again.
pub(crate) fn may_pass(error: &Error) -> bool {
    error.as_db_error().is_some()
        && matches!(classify(error), FailureClass::Serialization | FailureClass::MissingPartition)
}

/// Does `work` in a transaction, which always ends. It is READ COMMITTED regardless of the server's default: a statement
/// that waited for a lock sees the changes of the lock's holder.
pub(crate) async fn in_transaction<T, E: From<Error>>(
    client: &Client,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
    let done = match work.await {
        Ok(done) => client.batch_execute("COMMIT").await.map(|()| done).map_err(E::from),
        Err(error) => Err(error),
    };
    if done.is_err() {
        // The session itself may have failed.
        let _ = client.batch_execute("ROLLBACK").await;
    }
    done
}

/// The same, with retries after errors that `passes` accepts. None if all tries failed so.
pub(crate) async fn persistently<T, E, W>(
    client: &Client,
    passes: impl Fn(&E) -> bool,
    work: impl Fn() -> W,
) -> Result<Option<T>, E>
where
    E: From<Error>,
    W: Future<Output = Result<T, E>>,
{
    for _ in 0..TRIES {
        match in_transaction(client, work()).await {
            Err(error) if passes(&error) => tokio::time::sleep(PAUSE).await,
            other => return other.map(Some),
        }
    }
    Ok(None)
}

/// Repeats `work` until told to stop. `work` ends only if it fails, and returns the reason. A failure is logged once,
/// with the message `meanwhile`: the state until the work goes on.
pub async fn until_stopped<W: Future<Output = String>>(
    stop: CancellationToken,
    pause: Duration,
    meanwhile: &str,
    work: impl Fn() -> W,
) {
    let again = async {
        let mut last_error = String::new();
        loop {
            let error = work().await;
            if error != last_error {
                tracing::warn!(error, "{meanwhile}");
                last_error = error;
            }
            tokio::time::sleep(pause).await;
        }
    };
    tokio::select! {
        () = again => {}
        () = stop.cancelled() => {}
    }
}
