//! Backups: a copy of the private cluster, or a dump of tallyd's tables, each with a manifest.
//!
//! # Layout
//! | in the backup's folder | content |
//! |---|---|
//! | `manifest.json` | [`Manifest`]: origin, schema, and the digest of each file. Written last: a backup without it is incomplete |
//! | `postgres/` | the private cluster as `pg_basebackup` copied it, with the part of PostgreSQL's own WAL that it needs |
//! | `tallyd.dump` | the rows of tallyd's tables in `pg_dump`'s custom format ([`dump`]) |
//!
//! Both are one committed state, taken while daemons load. tallyd's WAL is not in a backup: it has the newest calls, and
//! belongs to the data folder. `tallyd restore` compares it with the restored watermarks.
//!
//! # Digests
//! They find damage of a copy. They do not prove the origin: who can write the backup can write its manifest.

pub mod dump;
mod error;
mod manifest;

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::{Command, Stdio};

use chrono::{DateTime, Utc};
use tokio::task::block_in_place;
use tokio_postgres::GenericClient;
use tokio_postgres::types::Type;
use uuid::Uuid;

pub use self::error::BackupError;
pub use self::manifest::{BackupFile, BackupKind, DumpedPartition, Manifest};
use self::manifest::{CLUSTER, FORMAT};
use super::migrate::{self, MigrateError};
use super::source::Database;
use tallyd_base::clock::{Clock, SystemClock};

/// Backs the database up into a folder, which must be empty or missing. A private cluster is copied, unless
/// `as_dump`; of any other database tallyd's tables are dumped. Daemons go on meanwhile.
///
/// # Errors
/// [`BackupError`]; the folder is as it was.
pub async fn back_up(db: &Database, folder: &Path, as_dump: bool) -> Result<Manifest, BackupError> {
    let is_new = !folder.exists();
    if !is_new && fs::read_dir(folder).map_err(BackupError::io("read", folder))?.next().is_some() {
        let example = folder.join(now().format("%Y-%m-%d").to_string());
        return Err(BackupError::Occupied { path: folder.to_owned(), example });
    }
    // The backup has users' ids and the hashes of tokens.
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(BackupError::io("create", folder))?;
    let done = fill(db, folder, as_dump).await;
    if done.is_err() {
        // The error that is returned matters more than one of this.
        let _ = if is_new { fs::remove_dir_all(folder) } else { clear(folder) };
    }
    done
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_micros(SystemClock.now_us()).unwrap_or_default()
}

fn clear(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

async fn fill(db: &Database, folder: &Path, as_dump: bool) -> Result<Manifest, BackupError> {
    let mut manifest = if as_dump || db.embedded().is_none() {
        dump::dump(db, folder).await?
    } else {
        let mut manifest = describe_source(&*db.connect("tallyd backup").await?, BackupKind::Cluster).await?;
        let mut command = db.program("pg_basebackup");
        command.args(["--format=plain", "--wal-method=stream", "--checkpoint=fast", "--no-password", "--pgdata"]);
        command.arg(folder.join(CLUSTER));
        block_in_place(|| run(command))?;
        manifest.taken_at = now();
        manifest
    };
    block_in_place(|| {
        manifest.take_stock(folder, Path::new(""))?;
        manifest.write(folder)
    })?;
    Ok(manifest)
}

/// The manifest of a database, still without files.
async fn describe_source(client: &impl GenericClient, kind: BackupKind) -> Result<Manifest, BackupError> {
    let schema = migrate::reached(client).await?.ok_or(BackupError::NoTables)?;
    let sql =
        "SELECT now(), current_setting('server_version'), value FROM public.tallyd_settings WHERE key = 'database_id'";
    let rows = client.query_typed(sql, &[]).await?;
    let row = rows.first().ok_or(MigrateError::Setting { key: "database_id" })?;
    let database_id = row.get::<_, &str>(2).parse().map_err(|_| MigrateError::Setting { key: "database_id" })?;
    Ok(Manifest {
        format: FORMAT,
        tallyd: env!("CARGO_PKG_VERSION").to_owned(),
        kind,
        schema,
        database_id,
        postgres: row.get(1),
        taken_at: row.get(0),
        folders: Vec::new(),
        tables: Vec::new(),
        partitions: Vec::new(),
        files: Vec::new(),
    })
}

/// Runs a program to its end. Its messages are part of the error.
fn run(mut command: Command) -> Result<(), BackupError> {
    let program = name_of(&command);
    let output = command.stdin(Stdio::null()).output().map_err(|source| failed_to_run(&program, source))?;
    if output.status.success() {
        return Ok(());
    }
    Err(BackupError::Failed { program, status: output.status, said: last_lines(&output.stderr) })
}

fn name_of(command: &Command) -> String {
    Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn failed_to_run(program: &str, source: io::Error) -> BackupError {
    BackupError::Program { program: program.to_owned(), source }
}

/// The last messages of a program, in one line.
fn last_lines(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(5)..].join("; ")
}

/// A lane's watermark in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneMark {
    /// The lane.
    pub lane: u16,
    /// The highest key of the WAL that is loaded.
    pub key: u64,
    /// Time of the lane's last batch.
    pub at: DateTime<Utc>,
}

/// The watermarks of a WAL's lanes.
///
/// # Errors
/// PostgreSQL's.
pub async fn lane_marks(client: &impl GenericClient, buffer_id: Uuid) -> Result<Vec<LaneMark>, tokio_postgres::Error> {
    let sql = "SELECT lane, last_seq, updated_at FROM public.ingest_watermark WHERE buffer_id = $1 ORDER BY lane";
    let rows = client.query_typed(sql, &[(&buffer_id, Type::UUID)]).await?;
    // Neither is ever negative.
    let mark = |row: &tokio_postgres::Row| LaneMark {
        lane: row.get::<_, i16>(0).unsigned_abs(),
        key: row.get::<_, i64>(1).unsigned_abs(),
        at: row.get(2),
    };
    Ok(rows.iter().map(mark).collect())
}
