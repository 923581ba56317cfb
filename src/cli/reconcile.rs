//! `tallyd reconcile`: proves that every rollup equals the sum of the call log.

use std::process::ExitCode;

use clap::Args;

use super::output::{self, amounts_apart, count, noun, usd_text};
use super::with_database;
use tallyd_config::Config;
use tallyd_store::{Difference, reconcile, reconcile_changed};

/// Compare every rollup with the sum over the call log, in one snapshot. Exits 0 only if they are equal.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  tallyd reconcile\n  tallyd reconcile --json | jq .differences\n  tallyd reconcile --changed     every night: reads today's calls and late ones"
)]
pub(super) struct ReconcileArgs {
    /// Read only days whose rollups have changed since this option last found them equal, and note those that are equal now
    #[arg(long)]
    changed: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The two sums as text: amounts in cents, unless they differ by less.
fn sides(difference: &Difference) -> (String, String) {
    match (&difference.rollup, &difference.log) {
        (Some(rollup), Some(log)) if difference.column == "cost_usd" => amounts_apart(rollup, log),
        (rollup, log) => (
            rollup.clone().unwrap_or_else(|| "missing".to_owned()),
            log.clone().unwrap_or_else(|| "nothing".to_owned()),
        ),
    }
}

pub(super) fn run(args: &ReconcileArgs, config: &Config) -> anyhow::Result<ExitCode> {
    if args.changed {
        return changed(args, config);
    }
    let found = with_database(config, "tallyd reconcile", async |db| Ok(reconcile(db).await?))?;
    if args.json {
        output::json(&found)?;
    } else {
        let rows = noun(found.log_rows.unsigned_abs(), "call", "calls");
        let unpriced = count(found.unpriced_rows.unsigned_abs());
        println!("{rows}, {} USD, {unpriced} unpriced", usd_text(&found.log_cost_usd));
        if found.dropped_rows > 0 {
            let rows = noun(found.dropped_rows.unsigned_abs(), "call was", "calls were");
            println!("{rows} dropped from the call log, {} USD; the sums are kept", usd_text(&found.dropped_cost_usd));
        }
        let of_dropped = if found.dropped_rows > 0 { " and of dropped calls" } else { "" };
        tell(found.equal, &found.differences, &format!("equal: every rollup is the sum of the call log{of_dropped}"));
    }
    Ok(if found.equal { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn changed(args: &ReconcileArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let found = with_database(config, "tallyd reconcile", async |db| Ok(reconcile_changed(db).await?))?;
    if args.json {
        output::json(&found)?;
    } else {
        let read = noun(found.days_read as u64, "day was", "days were");
        println!("{read} read, {} unchanged since the last proof", count(found.days_unchanged as u64));
        tell(found.equal, &found.differences, "equal: the rollups of these days are the sums of the call log");
    }
    Ok(if found.equal { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The differences, and the result.
fn tell(equal: bool, differences: &[Difference], is_equal: &str) {
    for difference in differences.iter().take(50) {
        let (rollup, log) = sides(difference);
        let Difference { table, key, column, .. } = difference;
        println!("  {table} {key}: {column} is {rollup}, the call log says {log}");
    }
    if equal {
        println!("{is_equal}");
    } else {
        println!("NOT equal");
        output::hint(
            "`tallyd reconcile --json` lists the differences; has something other than tallyd written to the tables?",
        );
    }
}
