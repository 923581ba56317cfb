//! `tallyd dimensions`: the tags that have a rollup.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::confirm::{Confirm, Confirmation};
use super::output::{self, Table, count, noun};
use super::with_database;
use tallyd_config::Config;
use tallyd_store::Connection;
use tallyd_store::dimensions::{self, DimensionState, add, count_day, remove};
use tallyd_store::queries::audit::Actor;

/// List the tags that have a rollup, add one, remove one.
#[derive(Args)]
#[command(after_help = "Examples:
  tallyd dimensions list
  tallyd dimensions add team
  tallyd dimensions remove team --dry-run
  tallyd dimensions remove team --yes")]
pub(super) struct DimensionsArgs {
    #[command(subcommand)]
    command: DimensionsCommand,
}

#[derive(Subcommand)]
enum DimensionsCommand {
    /// Show each dimension, and from which day on it counts calls
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a tag a dimension, and count the call log's calls by it
    #[command(
        after_help = "Calls are counted a day at a time, from the last day backwards. Loading waits while a day is counted; records are \
        accepted meanwhile. Stopped in between, the same command goes on, and so does a running daemon.\n\nExample:\n  tallyd dimensions add team"
    )]
    Add {
        /// The tag's name
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a dimension with its sums. The calls keep their tags
    #[command(
        after_help = "A name in dimensions.names is added again when a daemon starts.\n\nExample:\n  tallyd dimensions remove team --yes"
    )]
    Remove {
        /// The tag's name
        name: String,
        #[command(flatten)]
        confirm: Confirm,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(args: &DimensionsArgs, config: &Config) -> anyhow::Result<ExitCode> {
    match &args.command {
        DimensionsCommand::List { json } => with_database(config, "tallyd dimensions", async |db| {
            let all = dimensions::list(&**db).await?;
            if *json {
                output::json(&all)?;
            } else {
                print(&all);
            }
            Ok(ExitCode::SUCCESS)
        }),
        DimensionsCommand::Add { name, json } => {
            with_database(config, "tallyd dimensions", async |db| add_and_count(db, name, config, *json).await)
        }
        DimensionsCommand::Remove { name, confirm, json } => match confirm.told() {
            Confirmation::Nothing => Ok(confirm.refuse("removes a dimension with its sums")),
            told => with_database(config, "tallyd dimensions", async |db| {
                remove_or_show(db, name, told == Confirmation::Yes, *json).await
            }),
        },
    }
}

fn print(all: &[DimensionState]) {
    let mut table = Table::new(&["dimension", "counts calls", "whole from", "added by"], &["(other) in 30 days"]);
    for dimension in all {
        let counts = match (dimension.is_whole, dimension.counted_from) {
            (true, _) => "all".to_owned(),
            (false, Some(day)) => format!("from {day} on, earlier days follow"),
            (false, None) => "none yet".to_owned(),
        };
        let whole = dimension.whole_from.map_or_else(|| "-".to_owned(), |day| day.to_string());
        table.push(vec![
            dimension.name.clone(),
            counts,
            whole,
            dimension.actor.clone(),
            count(dimension.other_calls.unsigned_abs()),
        ]);
    }
    table.print();
}

async fn add_and_count(db: &Connection, name: &str, config: &Config, as_json: bool) -> anyhow::Result<ExitCode> {
    let is_new = add(db, name, &Actor::at_the_command_line(&super::actor())).await?;
    let (mut days, mut rows, mut other_calls) = (0_u64, 0, 0);
    while let Some(counted) = count_day(db, config.dimensions.max_values_per_day).await? {
        if let Some(day) = counted.day.filter(|_| counted.name == name) {
            days += 1;
            rows += counted.rows;
            other_calls += counted.other_calls;
            if !as_json {
                eprintln!("{day}: {}", noun(counted.rows, "row of sums", "rows of sums"));
            }
        }
    }
    if as_json {
        output::json(
            &json!({ "name": name, "added": is_new, "days": days, "rows": rows, "other_calls": other_calls }),
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    let known = if is_new { "" } else { ", which it was before" };
    println!(
        "{name} is a dimension{known}: {} counted, {}",
        noun(days, "day was", "days were"),
        noun(rows, "row of sums", "rows of sums")
    );
    if other_calls > 0 {
        let calls = noun(other_calls, "call counts", "calls count");
        output::hint(&format!("{calls} as (other): a day had more values than dimensions.max_values_per_day"));
    }
    Ok(ExitCode::SUCCESS)
}

async fn remove_or_show(db: &Connection, name: &str, is_meant: bool, as_json: bool) -> anyhow::Result<ExitCode> {
    if !is_meant {
        let is_there = dimensions::list(&**db).await?.iter().any(|dimension| dimension.name == name);
        if as_json {
            output::json(&json!({ "name": name, "is_there": is_there, "rows": null }))?;
        } else {
            println!("{name} {}", if is_there { "would be removed with its sums" } else { "is not a dimension" });
            output::hint("nothing was changed: --yes removes it");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let rows = remove(db, name, &Actor::at_the_command_line(&super::actor())).await?;
    if as_json {
        output::json(&json!({ "name": name, "is_there": true, "rows": rows }))?;
    } else {
        println!("{name} is not a dimension any more: {} removed", noun(rows, "row of sums was", "rows of sums were"));
    }
    Ok(ExitCode::SUCCESS)
}
