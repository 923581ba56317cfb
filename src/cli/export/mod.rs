//! `tallyd export`: calls and costs as files that other programs read.
//!
//! The commands use the database, not the daemon, so no daemon need run. Each export is one statement, so it is one
//! snapshot, and rows are written as they arrive.

mod calls;
mod file;
mod focus;

use std::path::PathBuf;
use std::process::ExitCode;

use chrono::{DateTime, Days, NaiveDate, Utc};
use clap::{Args, Subcommand};

use tallyd_config::Config;

/// Write calls and costs into files that other programs read.
#[derive(Args)]
#[command(after_help = "Examples:
  tallyd export focus --from 2026-11-01 --to 2026-11-30 --out november.csv
  tallyd export calls --from 2026-11-01 --to 2026-11-30 --format parquet --out november.parquet")]
pub(super) struct ExportArgs {
    #[command(subcommand)]
    command: ExportCommand,
}

#[derive(Subcommand)]
enum ExportCommand {
    /// Costs by day as FOCUS 1.2, the FinOps Open Cost and Usage Specification
    Focus(focus::FocusArgs),
    /// Single calls of the call log
    Calls(calls::CallsArgs),
}

/// The days and the destination of an export.
#[derive(Args)]
struct Range {
    /// From this day on, in the reporting time zone
    #[arg(long, value_name = "DAY")]
    from: NaiveDate,
    /// Up to this day, included
    #[arg(long, value_name = "DAY")]
    to: NaiveDate,
    /// The file; - for standard output. A file is there once it is whole
    #[arg(long, value_name = "FILE", default_value = "-")]
    out: PathBuf,
}

impl Range {
    /// The first instant, and the first one after the range.
    fn instants(&self, zone: tallyd_model::zone::Tz) -> anyhow::Result<(DateTime<Utc>, DateTime<Utc>)> {
        self.check()?;
        let after = self.to.checked_add_days(Days::new(1)).unwrap_or(self.to);
        Ok((tallyd_store::day_begins(self.from, zone), tallyd_store::day_begins(after, zone)))
    }

    fn check(&self) -> anyhow::Result<()> {
        use chrono::Datelike;
        anyhow::ensure!(self.from <= self.to, "--from is after --to");
        let known = |day: NaiveDate| (2000..2200).contains(&day.year());
        anyhow::ensure!(known(self.from) && known(self.to), "days are between 2000 and 2199");
        Ok(())
    }
}

pub(super) fn run(args: &ExportArgs, config: &Config) -> anyhow::Result<ExitCode> {
    match &args.command {
        ExportCommand::Focus(args) => focus::run(args, config),
        ExportCommand::Calls(args) => calls::run(args, config),
    }
}
