//! `tallyd units`: units and revenue by day, cost per unit and margin.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use chrono::{Days, NaiveDate};
use clap::{Args, Subcommand};

use super::output::{self, Table, count, noun, usd};
use super::{actor, reporting_zone, today_in, with_database};
use tallyd_config::Config;
use tallyd_model::files::Utf8;
use tallyd_model::pricing::{Quantity, Usd};
use tallyd_store::queries::audit::Actor;
use tallyd_store::queries::grouped::{Bucket, CostQuery, Dimension, LOG_DAYS_MAX, SortBy};
use tallyd_store::units::{GROUPS_MAX, Statement, UnitQuery, UnitRow, state};

/// Lines of one file.
const LINES_MAX: usize = 1_000_000;
const COLUMNS: [&str; 6] = ["day", "dimension", "value", "unit", "quantity", "revenue_usd"];

/// State units and revenue, and show them with cost per unit and margin.
#[derive(Args)]
#[command(after_help = "Examples:
  tallyd units import orders.csv
  tallyd units list --by tag:customer --days 30")]
pub(super) struct UnitsArgs {
    #[command(subcommand)]
    command: UnitsCommand,
}

#[derive(Subcommand)]
enum UnitsCommand {
    /// Import a CSV file: all of its lines, or none
    #[command(after_help = "Example:
  tallyd units import orders.csv

The first line names the columns: day, dimension (app, tag:NAME or empty), value, unit, quantity, revenue_usd. dimension, value and
revenue_usd may be missing. A line replaces the earlier statement of its day, dimension, value and unit, so a file may be imported again.")]
    Import {
        /// The file; - is standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show units with cost per unit and margin
    #[command(after_help = "Example:\n  tallyd units list --by tag:customer --days 30 --unit order")]
    List {
        /// The dimension: app or tag:NAME [default: units of all calls]
        #[arg(long, value_name = "DIMENSION", value_parser = by)]
        by: Option<Dimension>,
        /// Number of days up to today
        #[arg(long, default_value_t = 30, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3660))]
        days: u64,
        /// Only this unit
        #[arg(long, value_name = "NAME")]
        unit: Option<String>,
        /// Print every digit instead of cents
        #[arg(long)]
        exact: bool,
        /// Print JSON, with every digit
        #[arg(long)]
        json: bool,
    },
}

fn by(text: &str) -> Result<Dimension, String> {
    match Dimension::parse(text)? {
        dimension @ (Dimension::App | Dimension::Tag(_)) => Ok(dimension),
        _ => Err("units are stated by app or tag:NAME".to_owned()),
    }
}

pub(super) fn run(args: &UnitsArgs, config: &Config) -> anyhow::Result<ExitCode> {
    match &args.command {
        UnitsCommand::Import { file, json } => {
            let statements = read(file)?;
            let stated = with_database(config, "tallyd units", async |db| {
                Ok(state(db, &statements, &Actor::at_the_command_line(&actor())).await?)
            })?;
            if *json {
                output::json(&stated)?;
            } else {
                println!(
                    "{} added, {} replaced, {} unchanged",
                    count(stated.added),
                    count(stated.replaced),
                    count(stated.unchanged)
                );
            }
        }
        UnitsCommand::List { by, days, unit, exact, json } => {
            let rows = list(config, by.clone(), *days, unit.clone())?;
            if *json {
                output::json(&rows)?;
            } else {
                print(&rows, *exact);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads the file's statements.
fn read(path: &Path) -> anyhow::Result<Vec<Statement>> {
    let name = path.display().to_string();
    let input: Box<dyn std::io::Read> = if name == "-" {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).with_context(|| format!("cannot read {name}"))?)
    };
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(Utf8::new(input));
    let mut columns = BTreeMap::new();
    for (at, column) in reader.headers().with_context(|| format!("{name}: line 1"))?.iter().enumerate() {
        let Some(known) = COLUMNS.iter().find(|known| **known == column) else {
            bail!("{name}: line 1: no column {column:?}. hint: the columns are {}", COLUMNS.join(", "));
        };
        columns.insert(*known, at);
    }
    for needed in ["day", "unit", "quantity"] {
        if !columns.contains_key(needed) {
            bail!(
                "{name}: line 1: the column {needed} is missing. hint: the first line names the columns: {}",
                COLUMNS.join(",")
            );
        }
    }
    let mut statements = Vec::new();
    for line in reader.records() {
        let line = line.with_context(|| name.clone())?;
        let number = line.position().map_or(0, csv::Position::line);
        if statements.len() == LINES_MAX {
            bail!("{name}: more than {} lines. hint: import it in parts", count(LINES_MAX as u64));
        }
        let cell = |column| columns.get(column).and_then(|at| line.get(*at)).unwrap_or_default();
        statements.push(statement(cell).map_err(|fault| anyhow::anyhow!("{name}: line {number}: {fault}"))?);
    }
    Ok(statements)
}

fn statement<'l>(cell: impl Fn(&'static str) -> &'l str) -> Result<Statement, String> {
    let day = cell("day");
    let revenue = cell("revenue_usd");
    Ok(Statement {
        day: day.parse().map_err(|_| format!("day: {day:?} is not YYYY-MM-DD"))?,
        dimension: cell("dimension").to_owned(),
        value: cell("value").to_owned(),
        unit: cell("unit").to_owned(),
        quantity: Quantity::parse(cell("quantity")).map_err(|error| format!("quantity: {error}"))?,
        revenue_usd: match revenue {
            "" => None,
            text => Some(Usd::parse(text).map_err(|error| format!("revenue_usd: {error}"))?),
        },
    })
}

fn list(config: &Config, by: Option<Dimension>, days: u64, unit: Option<String>) -> anyhow::Result<Vec<UnitRow>> {
    with_database(config, "tallyd units", async |db| {
        let zone = reporting_zone(db, config).await?;
        let today = today_in(zone);
        let from: NaiveDate = today - Days::new(days - 1);
        let mut costs = CostQuery {
            from,
            to: today,
            zone: zone.name().to_owned(),
            bucket: Bucket::Total,
            group_by: by.into_iter().collect(),
            filters: Vec::new(),
            dimensions: Vec::new(),
            sort: SortBy::Cost,
            descending: true,
            limit: GROUPS_MAX,
            offset: 0,
        };
        costs.learn(db).await?;
        if let Some(why) = costs.why_of_the_log().filter(|_| days > LOG_DAYS_MAX) {
            bail!("{}: {why}", noun(days, "day", "days"));
        }
        let rows = UnitQuery { costs, unit }.ask(db).await?;
        if rows.iter().all(|row| row.unit.is_none()) {
            output::hint("no units are stated for these days: `tallyd units import FILE.csv`, or PUT /api/v1/units");
        }
        Ok(rows)
    })
}

fn print(rows: &[UnitRow], exact: bool) {
    let mut table = Table::new(&["value", "unit"], &["units", "USD", "USD a unit", "revenue", "margin", "margin %"]);
    let optional = |amount: Option<Usd>| amount.map_or_else(|| "-".to_owned(), |amount| usd(amount, exact));
    for row in rows {
        let name = if row.value.is_empty() { "-" } else { &row.value };
        table.push(vec![
            name.to_owned(),
            row.unit.clone().unwrap_or_else(|| "-".to_owned()),
            row.quantity.clone().unwrap_or_else(|| "-".to_owned()),
            usd(row.cost_usd, exact),
            // A unit's cost is often far below a cent.
            row.cost_per_unit_usd.map_or_else(|| "-".to_owned(), |cost| cost.to_string()),
            optional(row.revenue_usd),
            optional(row.margin_usd),
            row.margin_percent.map_or_else(|| "-".to_owned(), |percent| percent.to_string()),
        ]);
    }
    table.print();
    let unpriced: u64 = rows.iter().map(|row| row.unpriced_calls.to_u64()).sum();
    if unpriced > 0 {
        eprintln!("{} without a price: costs are larger than shown", noun(unpriced, "call is", "calls are"));
    }
}
