//! `tallyd backup`: copies the private cluster, or dumps tallyd's tables.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::output::{self, bytes, noun};
use tallyd_config::Config;
use tallyd_store::backup::{BackupKind, back_up};

/// Back the database up into a folder, while daemons run. Of a private PostgreSQL the whole cluster is copied, of any other
/// one tallyd's tables are dumped. Calls that are not in the database yet stay in the data folder's WAL.
#[derive(Args)]
#[command(after_help = "Examples:
  tallyd backup /mnt/backups/2026-11-30
  tallyd backup /mnt/backups/2026-11-30 --dump      a dump of a private PostgreSQL, for another PostgreSQL
  tallyd restore /mnt/backups/2026-11-30")]
pub(super) struct BackupArgs {
    /// A folder that is empty or does not exist
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Dump tallyd's tables of a private PostgreSQL too. The dump can be restored into another PostgreSQL
    #[arg(long)]
    dump: bool,
    /// Print JSON: the manifest
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &BackupArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let (manifest, url) = super::block_on(async {
        let database = super::open_database(config).await?;
        let done = back_up(&database, &args.folder, args.dump).await;
        let url = database.redacted_url();
        database.close().await;
        anyhow::Ok((done?, url))
    })?;
    if args.json {
        output::json(&manifest)?;
        return Ok(ExitCode::SUCCESS);
    }
    let kind = match manifest.kind {
        BackupKind::Cluster => "copy",
        BackupKind::Dump => "dump",
    };
    let files = noun(manifest.files.len() as u64, "file", "files");
    let (folder, size, at) = (args.folder.display(), bytes(manifest.bytes()), manifest.taken_at.format("%F %T"));
    println!("{folder}: a {kind} of {url} as of {at} UTC, {files}, {size}");
    println!("schema {}, PostgreSQL {}", manifest.schema, manifest.postgres);
    Ok(ExitCode::SUCCESS)
}
