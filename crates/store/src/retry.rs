//! Work that is tried again: a transaction that met another, and a task that lives as long as the daemon.

use std::time::Duration;

use tokio_postgres::{Client, Error};
use tokio_util::sync::CancellationToken;

use crate::{FailureClass, classify};

/// A transaction is tried so often while others are in its way.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(50);

/// Whether the session is whole and the next try of the transaction may succeed: a deadlock, a lock that was not had in time, or
/// a partition that retention has just dropped and the next try makes again.
pub(crate) fn may_pass(error: &Error) -> bool {
    error.as_db_error().is_some()
        && matches!(classify(error), FailureClass::Serialization | FailureClass::MissingPartition)
}

/// Does `work` within a transaction, which ends whatever the work does. Its statements see what is committed before each of them, whatever the
/// server's default is: what waited for a lock sees what its holder did.
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
        // The session may be what failed.
        let _ = client.batch_execute("ROLLBACK").await;
    }
    done
}

/// The same, again while it fails by what `passes`. None if others were in its way each time.
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

/// Does `work`, which ends only where it fails and says why, again and again until told to stop. A failure is said once, with
/// `meanwhile`: what holds until the work goes on.
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
