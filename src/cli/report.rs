//! `tallyd report`: the report that the daemon sends of a period.

use std::process::ExitCode;

use chrono::{DateTime, Datelike, NaiveDate};
use clap::Args;

use super::{output, reporting_zone, with_database};
use tallyd_base::clock::{Clock, SystemClock};
use tallyd_config::Config;
use tallyd_model::report;
use tallyd_store::budgets::Period;
use tallyd_store::report::{last_ended, snapshot};

/// Print the report of a day, week or month: spend, changes, top movers, budgets, unpriced calls.
#[derive(Args)]
#[command(after_help = "Examples:
  tallyd report                              # the last whole week
  tallyd report --period month --of 2026-10-01
  tallyd report --period day --json
  tallyd report --html > week.html")]
pub(super) struct ReportArgs {
    /// How long the period is; a week begins on Monday
    #[arg(long, value_enum, default_value_t = Period::Week)]
    period: Period,
    /// A day of the period [default: the last period that has ended]
    #[arg(long, value_name = "DATE", value_parser = day)]
    of: Option<NaiveDate>,
    /// Print JSON, with every digit
    #[arg(long)]
    json: bool,
    /// Print the HTML of the e-mail
    #[arg(long, conflicts_with = "json")]
    html: bool,
}

/// A day of a year that calendars have.
fn day(text: &str) -> Result<NaiveDate, String> {
    let parsed = text.parse::<NaiveDate>().ok().filter(|day| (2000..2200).contains(&day.year()));
    parsed.ok_or_else(|| "it is not a day between 2000 and 2199; write it as 2026-01-31".to_owned())
}

pub(super) fn run(args: &ReportArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let now = DateTime::from_timestamp_micros(SystemClock.now_us()).unwrap_or_default();
    let found = with_database(config, "tallyd report", async |db| {
        let now = now.with_timezone(&reporting_zone(db, config).await?);
        let day = args.of.unwrap_or_else(|| last_ended(args.period, now.date_naive()));
        Ok(snapshot(db, args.period, day, &now).await?)
    })?;
    if args.json {
        output::json(&found)?;
    } else if args.html {
        print!("{}", report::html(&found));
    } else {
        report::lines(&found).iter().for_each(|line| println!("{line}"));
    }
    Ok(ExitCode::SUCCESS)
}
