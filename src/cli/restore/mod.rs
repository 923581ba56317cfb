//! `tallyd restore`: restores a backup, proves its rollups, and compares it with the data folder's WAL.

mod wal;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use serde::Serialize;

use self::wal::{KeptWal, WalReport};
use super::output::{self, count, noun, usd_text};
use crate::lock::{DataLock, LockError};
use tallyd_config::Config;
use tallyd_store::backup::{BackupKind, Manifest, dump};
use tallyd_store::{Database, Reconciliation, migrate, reconcile};

/// Restore a backup: a copy into a data folder without a PostgreSQL, a dump into a database without tallyd's tables. Then
/// bring its schema up to date, reconcile it, and compare it with the data folder's WAL. Exits 0 only if the rollups are
/// equal to the call log.
#[derive(Args)]
#[command(after_help = "Examples:
  mv tallyd-data/postgres tallyd-data/postgres.before && tallyd restore /mnt/backups/2026-11-30
  tallyd restore /mnt/backups/2026-11-30 --database-url postgresql://tally@db.example.com/new
  tallyd restore /mnt/backups/2026-11-30 --json | jq .wal.gaps")]
pub(super) struct RestoreArgs {
    /// The folder of a backup
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The result as JSON.
#[derive(Serialize)]
struct Restored<'r> {
    /// The kind of backup.
    kind: BackupKind,
    /// The version that made it.
    tallyd: &'r str,
    /// The time of its state.
    taken_at: chrono::DateTime<chrono::Utc>,
    /// Migrations that were applied to it.
    applied: Vec<String>,
    wal: WalReport,
    reconciliation: Reconciliation,
}

pub(super) fn run(args: &RestoreArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let manifest = Manifest::read(&args.folder)?;
    match (manifest.kind, &config.database.url) {
        (BackupKind::Cluster, Some(_)) => bail!(
            "{} is a copy of a private PostgreSQL, and database.url is set. hint: restore it without that URL; `tallyd backup \
             DIR --dump` of it goes into another PostgreSQL",
            args.folder.display()
        ),
        (BackupKind::Dump, None) => bail!(
            "{} is a dump, which goes into an existing PostgreSQL. hint: name an empty database with --database-url",
            args.folder.display()
        ),
        (BackupKind::Cluster, None) | (BackupKind::Dump, Some(_)) => {}
    }
    let wal = config.data_dir.join("wal");
    let restored = match manifest.kind {
        BackupKind::Cluster => {
            // No daemon may start on a folder whose cluster is half there: it would make a new one.
            let _lock = match DataLock::take(&config.data_dir, "tallyd restore") {
                Err(error @ LockError::Held { .. }) => {
                    output::error(&error.into());
                    return Ok(ExitCode::from(3));
                }
                lock => lock?,
            };
            let kept = KeptWal::read(&wal);
            super::block_on(async {
                manifest.place(&args.folder, &config.data_dir).await?;
                finish(&super::open_database(config).await?, config, &manifest, &kept).await
            })?
        }
        BackupKind::Dump => {
            manifest.verify(&args.folder)?;
            let kept = KeptWal::read(&wal);
            super::block_on(async {
                let database = super::open_database(config).await?;
                dump::restore(&database, &args.folder, &manifest).await?;
                finish(&database, config, &manifest, &kept).await
            })?
        }
    };
    if args.json {
        output::json(&restored)?;
    } else {
        tell(&restored, config);
    }
    Ok(if restored.reconciliation.equal { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Brings the restored database up to date, and compares it with itself and with the WAL.
async fn finish<'m>(
    database: &Database,
    config: &Config,
    manifest: &'m Manifest,
    kept: &KeptWal,
) -> anyhow::Result<Restored<'m>> {
    let done = async {
        let mut connection = database.connect("tallyd restore").await?;
        let report = migrate(&mut connection, &super::migrate_options(config)).await?;
        let wal = kept.compare(&connection).await?;
        let reconciliation = reconcile(&mut connection).await?;
        let (kind, tallyd, taken_at) = (manifest.kind, manifest.tallyd.as_str(), manifest.taken_at);
        anyhow::Ok(Restored { kind, tallyd, taken_at, applied: report.applied, wal, reconciliation })
    };
    let done = done.await;
    database.clone().close().await;
    done
}

fn tell(restored: &Restored<'_>, config: &Config) {
    let at = restored.taken_at.format("%F %T");
    let place = match restored.kind {
        BackupKind::Cluster => format!(" in {}", config.data_dir.join("postgres").display()),
        BackupKind::Dump => String::new(),
    };
    println!("restored: the state of {at} UTC, made by tallyd {}{place}", restored.tallyd);
    for name in &restored.applied {
        println!("applied {name}");
    }
    let found = &restored.reconciliation;
    let rows = noun(found.log_rows.unsigned_abs(), "call", "calls");
    let unpriced = count(found.unpriced_rows.unsigned_abs());
    println!("{rows}, {} USD, {unpriced} unpriced", usd_text(&found.log_cost_usd));
    if found.equal {
        println!("equal: every rollup is the sum of the call log");
    } else {
        println!("NOT equal");
        output::hint("`tallyd reconcile --json` lists the differences");
    }
    restored.wal.tell(restored.kind == BackupKind::Dump);
}
