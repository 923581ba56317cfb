//! The daemons that run on this database: a row each in `tallyd_daemons`, renewed every few seconds.
//!
//! A rebuild of the rollups with days in another zone must not run beside a daemon that counts in the old one. The rows
//! let it refuse and name the daemons. They are best effort: a daemon that was suspended has an old row, but its later
//! batches are refused because of the zone that its transaction reads ([`crate::load::watermark`]).

use serde::Serialize;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, GenericClient};
use uuid::Uuid;

/// Time between two renewals of a row.
pub const RENEWAL: std::time::Duration = std::time::Duration::from_secs(5);
/// Age at which a row counts as that of a killed daemon.
const FRESH: &str = "interval '1 minute'";

/// A daemon's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Daemon {
    /// The machine's name.
    pub host: String,
    /// The process id.
    pub pid: i32,
    /// The program's version.
    pub version: String,
    /// The zone in which it counts days.
    pub time_zone: String,
    /// Seconds since the last renewal.
    pub seen_seconds_ago: i32,
}

impl std::fmt::Display for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, pid, version, time_zone, seen_seconds_ago } = self;
        write!(f, "tallyd {version} on {host}, process {pid}, days in {time_zone}, seen {seen_seconds_ago} s ago")
    }
}

/// Renews the row of the daemon with this WAL.
///
/// # Errors
/// PostgreSQL's.
pub async fn renew(
    client: &Client,
    buffer_id: Uuid,
    zone: tallyd_model::zone::Tz,
) -> Result<(), tokio_postgres::Error> {
    let sql = "INSERT INTO public.tallyd_daemons AS d (buffer_id, host, pid, version, time_zone) VALUES ($1, $2, $3, $4, $5) \
        ON CONFLICT (buffer_id) DO UPDATE SET host = excluded.host, pid = excluded.pid, version = excluded.version, \
            time_zone = excluded.time_zone, seen_at = clock_timestamp(), \
            started_at = CASE WHEN (d.host, d.pid) = (excluded.host, excluded.pid) THEN d.started_at ELSE excluded.started_at END";
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let pid = std::process::id().cast_signed();
    let (version, zone) = (env!("CARGO_PKG_VERSION"), zone.name());
    let values: [(&(dyn ToSql + Sync), Type); 5] = [
        (&buffer_id, Type::UUID),
        (&host, Type::TEXT),
        (&pid, Type::INT4),
        (&version, Type::TEXT),
        (&zone, Type::TEXT),
    ];
    client.execute_typed(sql, &values).await.map(drop)
}

/// Deletes the row of a stopping daemon.
///
/// # Errors
/// PostgreSQL's.
pub async fn leave(client: &Client, buffer_id: Uuid) -> Result<(), tokio_postgres::Error> {
    let sql = "DELETE FROM public.tallyd_daemons WHERE buffer_id = $1";
    client.execute_typed(sql, &[(&buffer_id, Type::UUID)]).await.map(drop)
}

/// The daemons whose rows were renewed within a minute.
///
/// # Errors
/// PostgreSQL's.
pub async fn running(client: &impl GenericClient) -> Result<Vec<Daemon>, tokio_postgres::Error> {
    let sql = format!(
        "SELECT host, pid, version, time_zone, extract(epoch FROM clock_timestamp() - seen_at)::int4 \
         FROM public.tallyd_daemons WHERE seen_at > clock_timestamp() - {FRESH} ORDER BY host, pid"
    );
    let rows = client.query_typed(&sql, &[]).await?;
    let daemon = |row: &tokio_postgres::Row| Daemon {
        host: row.get(0),
        pid: row.get(1),
        version: row.get(2),
        time_zone: row.get(3),
        seen_seconds_ago: row.get(4),
    };
    Ok(rows.iter().map(daemon).collect())
}
