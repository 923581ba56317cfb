//! `tallyd reconcile`: proves that every rollup equals the sum of the call log.

use std::process::ExitCode;

use clap::Args;

use super::output::{self, amounts_apart, count, noun, usd_text};
use super::with_database;
use tallyd_config::Config;
use tallyd_store::reconcile;
use tallyd_store::reconcile::Difference;

/// Compare every rollup with the sum over the call log, in one snapshot. Exits 0 only if they are equal.
#[derive(Args)]
#[command(after_help = "Examples:\n  tallyd reconcile\n  tallyd reconcile --json | jq .differences")]
pub(super) struct ReconcileArgs {
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
        for difference in found.differences.iter().take(50) {
            let (rollup, log) = sides(difference);
            let Difference { table, key, column, .. } = difference;
            println!("  {table} {key}: {column} is {rollup}, the call log says {log}");
        }
        if found.equal {
            println!(
                "equal: every rollup is the sum of the call log{}",
                if found.dropped_rows > 0 { " and of dropped calls" } else { "" }
            );
        } else {
            println!("NOT equal");
            output::hint(
                "`tallyd reconcile --json` lists the differences; has something other than tallyd written to the tables?",
            );
        }
    }
    Ok(if found.equal { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
