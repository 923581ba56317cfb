//! `tallyd reconcile`: the proof that every rollup equals the sum of the log.

use std::process::ExitCode;

use clap::Args;

use super::output::{self, noun};
use super::with_database;
use crate::config::Config;
use crate::database::reconcile;

/// Compare every rollup with the sum over the log, in one snapshot. Exits 0 only if they are equal.
#[derive(Args)]
#[command(after_help = "Examples:\n  tallyd reconcile\n  tallyd reconcile --json | jq .differences")]
pub struct ReconcileArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &ReconcileArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let found = with_database(config, "tallyd reconcile", async |db| Ok(reconcile(db).await?))?;
    if args.json {
        output::json(&found)?;
    } else {
        let rows = noun(found.log_rows.unsigned_abs(), "call", "calls");
        println!("{rows}, {} USD, {} unpriced", found.log_cost_usd, found.unpriced_rows);
        if found.dropped_rows > 0 {
            let rows = noun(found.dropped_rows.unsigned_abs(), "call was", "calls were");
            println!("{rows} dropped from the log, {} USD; the sums are kept", found.dropped_cost_usd);
        }
        for difference in found.differences.iter().take(50) {
            println!(
                "  {} {}: {} is {}, the log says {}",
                difference.table,
                difference.key,
                difference.column,
                difference.rollup.as_deref().unwrap_or("missing"),
                difference.log.as_deref().unwrap_or("nothing")
            );
        }
        if found.equal {
            println!(
                "equal: every rollup is the sum of the log{}",
                if found.dropped_rows > 0 { " and of what was dropped" } else { "" }
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
