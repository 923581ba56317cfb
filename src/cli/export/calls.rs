//! `tallyd export calls`: the call log's rows of a range.

use std::process::ExitCode;

use clap::Args;

use super::Range;
use super::file::{Export, Form};
use crate::cli::output::{self, noun};
use crate::cli::{reporting_zone, with_database};
use tallyd_config::Config;
use tallyd_store::queries::records;
use tallyd_store::retention::dropped_calls;

/// Single calls of the call log.
#[derive(Args)]
#[command(after_help = "Examples:
  tallyd export calls --from 2026-11-01 --to 2026-11-01 --format ndjson | jq .model
  tallyd export calls --from 2026-11-01 --to 2026-11-30 --format parquet --out november.parquet")]
pub(super) struct CallsArgs {
    #[command(flatten)]
    range: Range,
    /// The form of the file
    #[arg(long, value_enum, value_name = "FORM")]
    format: Form,
}

pub(super) fn run(args: &CallsArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let (rows, dropped) = with_database(config, "tallyd export calls", async |db| {
        let range = args.range.instants(reporting_zone(db, config).await?)?;
        let mut export = Export::begin(&args.range.out, args.format, records::COLUMNS, records::FILE_COLUMNS)?;
        records::each(db, range, |row| export.row(row, &row.cells())).await.or_else(super::file::unless_unread)?;
        Ok((export.finish()?, dropped_calls(db, (args.range.from, args.range.to)).await?))
    })?;
    eprintln!("{}", noun(rows, "call", "calls"));
    if dropped > 0 {
        let dropped = noun(dropped, "call", "calls");
        output::hint(&format!("{dropped} of these days left the call log; `tallyd archive list` shows archived ones"));
    } else if rows == 0 {
        output::hint("the call log has no calls in these days; `tallyd partitions list` shows its partitions");
    }
    Ok(ExitCode::SUCCESS)
}
