//! `tallyd archive`: the files of partitions that were archived before they were dropped.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::output::{self, Table, bytes, count, noun, usd_text};
use super::with_database;
use tallyd_config::Config;
use tallyd_store::archive::{self, Archive, Archived};

/// List the files of archived partitions, verify them, restore one.
#[derive(Args)]
#[command(after_help = "Examples:
  tallyd archive list
  tallyd archive verify
  tallyd archive restore 3")]
pub(super) struct ArchiveArgs {
    #[command(subcommand)]
    command: ArchiveCommand,
}

#[derive(Subcommand)]
enum ArchiveCommand {
    /// List the files
    #[command(after_help = "Example:\n  tallyd archive list --json | jq '.[].file'")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Read files and compare their digests, calls and sums with those that were written. Exits 1 if one differs
    #[command(after_help = "Example:\n  tallyd archive verify 3")]
    Verify {
        /// Their numbers [default: all]
        #[arg(value_name = "ID")]
        ids: Vec<i64>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Put a file's calls into a table of their own, tallyd_restored_ID. The call log and the sums stay as they are
    #[command(
        after_help = "Example:\n  tallyd archive restore 3 && tallyd psql -c 'SELECT count(*) FROM tallyd_restored_3'"
    )]
    Restore {
        /// Its number
        #[arg(value_name = "ID")]
        id: i64,
    },
}

pub(super) fn run(args: &ArchiveArgs, config: &Config) -> anyhow::Result<ExitCode> {
    match &args.command {
        ArchiveCommand::List { json } => list(*json, config),
        ArchiveCommand::Verify { ids, json } => verify(ids, *json, config),
        ArchiveCommand::Restore { id } => restore(*id, config),
    }
}

/// The configured archive.
fn configured(config: &Config) -> anyhow::Result<Archive> {
    Archive::of(config).ok_or_else(|| {
        anyhow::anyhow!("retention.archive is empty. hint: set it to the folder of the files, or to s3://bucket/prefix")
    })
}

fn list(as_json: bool, config: &Config) -> anyhow::Result<ExitCode> {
    with_database(config, "tallyd archive", async |db| {
        let all = archive::list(db).await?;
        if as_json {
            output::json(&all)?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut table =
            Table::new(&["id", "file", "from", "state"], &["calls", "unpriced", "USD", "size", "bytes a call"]);
        for one in &all {
            table.push(vec![
                one.id.to_string(),
                one.file.clone(),
                one.from.map_or("-".into(), |from| from.format("%Y-%m-%d").to_string()),
                if one.emptied_at.is_some() { "dropped" } else { "in the call log" }.to_owned(),
                count(one.calls.unsigned_abs()),
                count(one.unpriced_calls.unsigned_abs()),
                usd_text(&one.cost_usd),
                bytes(one.bytes.unsigned_abs()),
                format!("{:.1}", one.bytes as f64 / one.calls.max(1) as f64),
            ]);
        }
        table.print();
        if all.is_empty() {
            output::hint("partitions are archived before they are dropped, if retention.archive is set");
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn verify(ids: &[i64], as_json: bool, config: &Config) -> anyhow::Result<ExitCode> {
    let archive = configured(config)?;
    let all = with_database(config, "tallyd archive", async |db| {
        if ids.is_empty() {
            return Ok(archive::list(db).await?);
        }
        let mut some = Vec::new();
        for id in ids {
            some.push(archive::find(db, *id).await?);
        }
        Ok(some)
    })?;
    // Without a session of the database: files are read for as long as it takes.
    let (found, faults) = super::block_on(async { Ok(examine(&archive, &all, as_json).await) })?;
    if as_json {
        output::json(&found)?;
    }
    if faults > 0 {
        output::hint("take the file from a backup; the sums of its calls are still in the rollups");
    }
    Ok(if faults > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Verifies files, and prints each as it is done, unless JSON is wanted. Returns that JSON, and the number of faults.
async fn examine(archive: &Archive, files: &[Archived], as_json: bool) -> (Vec<Value>, u64) {
    let (mut found, mut faults) = (Vec::new(), 0);
    for one in files {
        let fault = archive.verify(one).await.err().map(|error| error.to_string());
        faults += u64::from(fault.is_some());
        if as_json {
            found.push(json!({ "id": one.id, "file": one.file, "calls": one.calls, "fault": fault }));
            continue;
        }
        match fault {
            None => println!("{}: {}, whole", one.file, noun(one.calls.unsigned_abs(), "call", "calls")),
            Some(fault) => println!("{}: {fault}", one.file),
        }
    }
    (found, faults)
}

fn restore(id: i64, config: &Config) -> anyhow::Result<ExitCode> {
    let archive = configured(config)?;
    with_database(config, "tallyd archive", async |db| {
        let one = archive::find(db, id).await?;
        let table = archive::restore(db, &archive, &one).await?;
        println!("{table}");
        eprintln!("{}; drop the table when it is no longer needed", noun(one.calls.unsigned_abs(), "call", "calls"));
        Ok(ExitCode::SUCCESS)
    })
}
