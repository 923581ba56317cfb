//! `tallyd export focus`: costs by day in the columns of FOCUS 1.2.

use std::process::ExitCode;

use clap::Args;

use super::Range;
use super::file::{Export, Form, unless_unread};
use crate::cli::output::{self, noun};
use crate::cli::{reporting_zone, with_database};
use tallyd_config::Config;
use tallyd_store::queries::focus::{COLUMNS, FILE_COLUMNS, Focus, FocusRow};
use tallyd_store::queries::grouped::Dimension;

/// Costs by day as FOCUS 1.2, the FinOps Open Cost and Usage Specification.
#[derive(Args)]
#[command(after_help = "Examples:
  tallyd export focus --from 2026-11-01 --to 2026-11-30 --out november.csv
  tallyd export focus --from 2026-11-01 --to 2026-11-30 --by tag:team --format parquet --out november.parquet")]
pub(super) struct FocusArgs {
    #[command(flatten)]
    range: Range,
    /// A row for each of these too, as its Tags: user, app or tag:NAME. Rows by user have no models
    #[arg(long, value_name = "GROUP", value_parser = group)]
    by: Option<Dimension>,
    /// The BillingAccountId of each row [default: the database's id]
    #[arg(long, value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    billing_account: Option<String>,
    /// The form of the file: csv or parquet
    #[arg(long, value_enum, value_name = "FORM", default_value = "csv")]
    format: Form,
}

fn group(text: &str) -> Result<Dimension, String> {
    match Dimension::parse(text)? {
        by @ (Dimension::User | Dimension::App | Dimension::Tag(_)) => Ok(by),
        _ => Err("rows have provider and model anyway; there are user, app and tag:NAME".to_owned()),
    }
}

pub(super) fn run(args: &FocusArgs, config: &Config) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(args.format != Form::Ndjson, "FOCUS is written as csv or parquet");
    args.range.check()?;
    let (rows, unpriced) = with_database(config, "tallyd export focus", async |db| {
        let focus = Focus {
            from: args.range.from,
            to: args.range.to,
            zone: reporting_zone(db, config).await?,
            by: args.by.clone(),
            account: args.billing_account.clone(),
        };
        let mut export = Export::begin(&args.range.out, args.format, COLUMNS, FILE_COLUMNS)?;
        let mut unpriced = 0_u64;
        let each = |row: &FocusRow| {
            unpriced = unpriced.saturating_add(row.x_unpriced_calls.to_u64());
            export.row(row, &row.cells())
        };
        focus.each(db, each).await.or_else(unless_unread)?;
        Ok((export.finish()?, unpriced))
    })?;
    eprintln!("{}", noun(rows, "row", "rows"));
    if unpriced > 0 {
        let calls = noun(unpriced, "call is", "calls are");
        output::hint(&format!(
            "{calls} unpriced: PricingCategory Other, cost 0 but unknown; `tallyd prices check` names the models"
        ));
    }
    Ok(ExitCode::SUCCESS)
}
