//! Reads the properties of a server and of the connection to it, for `tallyd doctor`. Nothing here writes.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::GenericClient;

use super::{ConnectError, Database};

/// The oldest server with which the schema works, as `server_version_num`.
pub const OLDEST_SERVER: i32 = 13_00_00;

/// Time limit for a session from a pooler.
const PATIENCE: Duration = Duration::from_secs(2);

/// A server, as seen by one session.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// `15.14`.
    pub version: String,
    /// `150014`.
    pub version_number: i32,
    /// True for a standby, which refuses writes.
    pub is_standby: bool,
    /// True if new transactions are read-only by default.
    pub is_read_only: bool,
    /// The server's clock, microseconds since 1970.
    pub now_us: i64,
    /// The TLS version of the server's own session; none without encryption. Behind a pooler it is the pooler's
    /// session.
    pub tls: Option<String>,
}

/// Reads a server's properties.
///
/// # Errors
/// PostgreSQL's.
pub async fn server(client: &impl GenericClient) -> Result<Server, tokio_postgres::Error> {
    let sql = "SELECT current_setting('server_version'), current_setting('server_version_num')::int4, pg_is_in_recovery(), \
        current_setting('default_transaction_read_only')::bool, (extract(epoch FROM clock_timestamp()) * 1000000)::int8, \
        (SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl)";
    let rows = client.query_typed(sql, &[]).await?;
    // A SELECT without FROM returns one row.
    let row = rows.first().expect("a SELECT without FROM returns a row");
    Ok(Server {
        version: row.get(0),
        version_number: row.get(1),
        is_standby: row.get(2),
        is_read_only: row.get(3),
        now_us: row.get(4),
        tls: row.get(5),
    })
}

/// How connections relate to the server's sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sessions {
    /// Each connection has its own: there is no pooler, or one in session mode.
    Own,
    /// Connections share them: a pooler in transaction mode.
    Shared,
    /// All connections share one session.
    Single,
}

/// Detects a pooler in transaction mode: while a second connection is in a transaction, a pooler has to give the first
/// one another session than before.
///
/// # Errors
/// [`ConnectError`].
pub async fn sessions(database: &Database, application_name: &str) -> Result<Sessions, ConnectError> {
    let refused = |source| ConnectError::Refused { address: database.redacted_url(), source };
    let first = database.connect(application_name).await?;
    let before = session_id(&*first).await.map_err(refused)?;
    let mut second = database.connect(application_name).await?;
    let looked = timeout(PATIENCE, async {
        let transaction = second.transaction().await?;
        let held = session_id(&transaction).await?;
        let after = session_id(&*first).await?;
        transaction.rollback().await?;
        Ok((held, after))
    });
    match looked.await {
        Err(_elapsed) => Ok(Sessions::Single),
        Ok(Err(source)) => Err(refused(source)),
        Ok(Ok((held, after))) if held == before || after != before => Ok(Sessions::Shared),
        Ok(Ok(_)) => Ok(Sessions::Own),
    }
}

async fn session_id(client: &impl GenericClient) -> Result<i32, tokio_postgres::Error> {
    // A SELECT without FROM returns one row.
    Ok(client.query_typed("SELECT pg_backend_pid()", &[]).await?[0].get(0))
}
