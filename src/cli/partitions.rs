//! `tallyd partitions`: lists, makes and drops partitions of the call log.

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde_json::json;

use super::confirm::{Confirm, Confirmation};
use super::output::{self, Table, bytes, count, noun, usd_text};
use super::prices::instant;
use super::with_database;
use tallyd_config::Config;
use tallyd_store::archive::{self, Archive};
use tallyd_store::partitions::{self, PartitionInfo};
use tallyd_store::queries::audit::Actor;
use tallyd_store::retention::{DropState, drop_before, due};

/// List the call log's partitions, make them ahead, drop old ones.
#[derive(Args)]
#[command(after_help = "Examples:
  tallyd partitions list
  tallyd partitions ensure --from 2024-01-01 --to 2025-01-01
  tallyd partitions drop --before 2025-01-01 --dry-run
  tallyd partitions drop --before 2025-01-01 --yes")]
pub(super) struct PartitionsArgs {
    #[command(subcommand)]
    command: PartitionsCommand,
}

#[derive(Subcommand)]
enum PartitionsCommand {
    /// Show each partition: its period, size and index
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make the partitions of a period, before a large import for example
    Ensure {
        /// From here on: a date (midnight UTC) or RFC 3339
        #[arg(long, value_name = "INSTANT", value_parser = instant)]
        from: i64,
        /// Before this: now, a date (midnight UTC) or RFC 3339
        #[arg(long, value_name = "INSTANT", value_parser = instant)]
        to: i64,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Drop the partitions that lie wholly before an instant. Rollups and lifetime totals stay
    #[command(after_help = "Without retention.archive the calls are gone for good. Their sums stay in the rollups, \
        and `tallyd reconcile` knows them. The role must own the tables.\n\nExample:\n  tallyd partitions drop --before 2025-01-01 --yes")]
    Drop {
        /// A date (midnight UTC) or RFC 3339
        #[arg(long, value_name = "INSTANT", value_parser = instant)]
        before: i64,
        #[command(flatten)]
        confirm: Confirm,
        /// Drop the calls for good, although earlier partitions were archived
        #[arg(long)]
        without_archive: bool,
        /// Name for the audit log [default: the user]
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(args: &PartitionsArgs, config: &Config) -> anyhow::Result<ExitCode> {
    match &args.command {
        PartitionsCommand::List { json } => list(*json, config),
        PartitionsCommand::Ensure { from, to, json } => ensure(at(*from), at(*to), *json, config),
        PartitionsCommand::Drop { before, confirm, without_archive, by, json } => match confirm.told() {
            Confirmation::Yes => {
                let actor = by.clone().unwrap_or_else(super::actor);
                drop(at(*before), &actor, *without_archive, *json, config)
            }
            Confirmation::DryRun => show_due(at(*before), *json, config),
            Confirmation::Nothing => Ok(confirm.refuse("drops partitions with their calls")),
        },
    }
}

fn at(us: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(us).unwrap_or_default()
}

/// A line a partition.
fn print(partitions: &[PartitionInfo]) {
    let bound = |at: Option<DateTime<Utc>>| at.map_or("-".into(), |at| at.format("%Y-%m-%d %H:%M").to_string());
    let mut table = Table::new(&["partition", "from", "to", "index by user", "state"], &["about calls", "size"]);
    for partition in partitions {
        table.push(vec![
            partition.name.clone(),
            bound(partition.from),
            bound(partition.to),
            partition.user_index.name().to_owned(),
            if partition.sealed { "sealed" } else { "open" }.to_owned(),
            partition.rows_estimate.map_or("unknown".into(), |rows| count(rows.unsigned_abs())),
            bytes(partition.bytes.unsigned_abs()),
        ]);
    }
    table.print();
}

fn list(as_json: bool, config: &Config) -> anyhow::Result<ExitCode> {
    with_database(config, "tallyd partitions", async |db| {
        let all = partitions::list(db).await.map_err(explained)?;
        if as_json {
            output::json(&all)?;
        } else {
            print(&all);
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn ensure(from: DateTime<Utc>, to: DateTime<Utc>, as_json: bool, config: &Config) -> anyhow::Result<ExitCode> {
    if from >= to {
        anyhow::bail!("--from must be before --to. hint: --to is the first instant that is left out");
    }
    with_database(config, "tallyd partitions", async |db| {
        let granularity = config.log_table.partition;
        let names = partitions::ensure(db, from, to, granularity).await.map_err(explained)?;
        if as_json {
            output::json(&names)?;
        } else {
            names.iter().for_each(|name| println!("{name}"));
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn show_due(before: DateTime<Utc>, as_json: bool, config: &Config) -> anyhow::Result<ExitCode> {
    with_database(config, "tallyd partitions", async |db| {
        let found = due(db, before).await.map_err(explained)?;
        if as_json {
            output::json(&json!({ "due": found, "dropped": null }))?;
        } else {
            print(&found);
            println!("{} would be dropped", noun(found.len() as u64, "partition", "partitions"));
            if !found.is_empty() && Archive::of(config).is_none() {
                output::hint("retention.archive is not set here: the calls would not be archived");
            }
            output::hint("nothing was changed: --yes drops them");
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn drop(
    before: DateTime<Utc>,
    actor: &str,
    without_archive: bool,
    as_json: bool,
    config: &Config,
) -> anyhow::Result<ExitCode> {
    let archive = Archive::of(config).filter(|_| !without_archive);
    with_database(config, "tallyd partitions", async |db| {
        // A shell often lacks the daemon's configuration.
        if archive.is_none() && !without_archive && !archive::list(db).await?.is_empty() {
            anyhow::bail!(
                "earlier partitions were archived, and retention.archive is not set here. hint: give the daemon's \
                 configuration by --config, or drop the calls for good by --without-archive"
            );
        }
        let dropped = drop_before(db, before, &Actor::at_the_command_line(actor), archive.as_ref(), |one| {
            if !as_json {
                let calls = noun(one.calls.unsigned_abs(), "call", "calls");
                println!("{}: {calls}, {} USD: {}", one.partition, usd_text(&one.cost_usd), one.state.name());
            }
        })
        .await?;
        if as_json {
            output::json(&json!({ "due": null, "dropped": dropped }))?;
        }
        let left = dropped.iter().filter(|one| one.state != DropState::Gone).count();
        if left > 0 {
            output::hint("others use the rest (pg_stat_activity shows them); run the same command again");
        }
        Ok(if left > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    })
}

fn explained(error: tokio_postgres::Error) -> anyhow::Error {
    anyhow::anyhow!("{}", tallyd_store::describe(&error))
}
