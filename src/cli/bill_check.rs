//! `tallyd bill-check`: compares a vendor's bill with the recorded calls.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use super::output::{self, Table, count, noun, usd};
use super::{reporting_zone, with_database};
use tallyd_config::Config;
use tallyd_model::bill::compare::{BillDay, BillLine, Comparison, Tolerance, compare};
use tallyd_model::bill::{Bill, BillForm};
use tallyd_model::files::{DateOrder, Numbers, Utf8};
use tallyd_model::pricing::Usd;
use tallyd_store::bill::recorded;

/// Compare a vendor's cost or usage export with the recorded calls, by UTC day and model. Exits 1 if a day differs
#[derive(Args)]
#[command(after_help = "Examples:
  tallyd bill-check anthropic-costs.csv
  curl -sH \"x-api-key: $ANTHROPIC_ADMIN_KEY\" -H 'anthropic-version: 2023-06-01' \\
    'https://api.anthropic.com/v1/organizations/cost_report?starting_at=2026-11-01T00:00:00Z&group_by[]=description' \\
    | tallyd bill-check -
  tallyd bill-check costs.json usage.json --tolerance-percent 2 --json
  tallyd bill-check openrouter_activity.csv
  tallyd bill-check costs-from-excel.csv --dates mdy --thousands ,
  tallyd bill-check kosten.csv --decimal-comma --thousands .
Read are Anthropic's cost_report and usage_report/messages and OpenAI's organization/costs and
organization/usage/completions as JSON, pages one after the other, the CSV that the vendors' consoles export, and that of
OpenRouter's activity page. Costs and usage of the same days may be given together. Days that no export speaks of are left out.
Amounts in another currency than USD are refused.")]
pub(super) struct BillCheckArgs {
    /// Exports; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How far a day's cost may be off, USD
    #[arg(long, value_name = "USD", default_value = "0.01", value_parser = not_negative)]
    tolerance_usd: Usd,
    /// How far a day's cost or tokens may be off, percent of the bill
    #[arg(long, value_name = "PERCENT", default_value = "0.5", value_parser = permille)]
    tolerance_percent: u32,
    /// Thousands separator in a table's numbers, such as , or . or a space
    #[arg(long, value_name = "CHARACTER")]
    thousands: Option<char>,
    /// A table's numbers have a comma before their decimals
    #[arg(long)]
    decimal_comma: bool,
    /// Which number of 8/5/2026 is the month: dates as a spreadsheet has made them
    #[arg(long, value_name = "ORDER")]
    dates: Option<DateOrder>,
    /// Print every digit instead of cents
    #[arg(long)]
    exact: bool,
    /// Print JSON, with every digit
    #[arg(long)]
    json: bool,
}

fn not_negative(text: &str) -> Result<Usd, String> {
    let amount = text.parse::<Usd>().map_err(|error| error.to_string())?;
    if amount < Usd::ZERO { Err("it is how far a cost may be off, so not negative".to_owned()) } else { Ok(amount) }
}

/// A percentage as tenths of a percent.
fn permille(text: &str) -> Result<u32, String> {
    let wrong = || format!("{text:?} is not a percentage between 0 and 100 with at most one decimal");
    let (whole, tenths) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| if text.is_empty() || text.starts_with('+') { None } else { text.parse::<u32>().ok() };
    match (digits(whole), digits(tenths)) {
        (Some(whole), Some(tenths)) if whole <= 100 && tenths <= 9 => Ok(whole * 10 + tenths),
        _ => Err(wrong()),
    }
}

pub(super) fn run(args: &BillCheckArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let numbers = Numbers { thousands: args.thousands, decimal_comma: args.decimal_comma };
    if let Some(fault) = numbers.fault() {
        anyhow::bail!(fault);
    }
    let mut bill = Bill::in_form(BillForm { numbers, dates: args.dates });
    for path in &args.files {
        let name = path.display().to_string();
        let text = if name == "-" {
            std::io::read_to_string(Utf8::new(std::io::stdin())).context("standard input")?
        } else {
            let file = std::fs::File::open(path).with_context(|| format!("cannot read {name}"))?;
            std::io::read_to_string(Utf8::new(file)).with_context(|| format!("cannot read {name}"))?
        };
        bill.read(&name, &text)?;
    }
    let days = bill.days();
    let (Some((first, _)), Some((last, _))) = (days.first(), days.last()) else {
        anyhow::bail!("the exports speak of no day: there is nothing to compare");
    };
    let (from, to) = (*first, *last);
    let providers: Vec<&str> = days.iter().map(|(_, provider)| *provider).collect();
    let found = with_database(config, "tallyd bill-check", async |db| {
        let utc_rollups = reporting_zone(db, config).await? == tallyd_model::zone::Tz::UTC;
        Ok(recorded(db, utc_rollups, (from, to), &providers).await?)
    })?;
    let tolerance = Tolerance { usd: args.tolerance_usd, permille: args.tolerance_percent };
    let comparison = compare(&bill, &found, tolerance);
    if args.json {
        output::json(&comparison)?;
    } else {
        print(&comparison, args.exact);
    }
    Ok(if comparison.agrees { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(comparison: &Comparison, exact: bool) {
    let mut table =
        Table::new(&["day (UTC)", "provider", "model"], &["billed", "recorded", "difference"]).with_text("");
    for day in &comparison.days {
        day.lines.iter().for_each(|line| push_line(&mut table, line, exact));
        push_day(&mut table, day, exact);
    }
    table.print();
    let differing = comparison.days.iter().filter(|day| !day.agrees).count();
    match differing {
        0 => println!("{}", noun(comparison.days.len() as u64, "day agrees", "days agree")),
        _ => println!("{differing} of {} DIFFER", noun(comparison.days.len() as u64, "day", "days")),
    }
}

fn push_line(table: &mut Table, line: &BillLine, exact: bool) {
    let key = &line.key;
    let model = if key.model.is_empty() { "(no model named)" } else { &key.model };
    let difference =
        line.billed_usd.map(|billed| Usd::from_attos(line.recorded_usd.attos().saturating_sub(billed.attos())));
    let amounts = [line.billed_usd, Some(line.recorded_usd), difference];
    table.push(cells([&key.day.to_string(), key.provider, model], amounts, exact));
    if let Some(billed) = line.billed_tokens.filter(|billed| *billed != line.recorded_tokens) {
        let ours = line.recorded_tokens;
        let names = ["input", "output", "cache read", "cache write"];
        let pairs = [
            (billed.input, ours.input),
            (billed.output, ours.output),
            (billed.cache_read, ours.cache_read),
            (billed.cache_write, ours.cache_write),
        ];
        for (name, (billed, ours)) in names.iter().zip(pairs).filter(|(_, (billed, ours))| billed != ours) {
            table.note(&format!("{name} tokens: billed {}, recorded {}", count(billed), count(ours)));
        }
    }
}

fn push_day(table: &mut Table, day: &BillDay, exact: bool) {
    let amounts = [day.billed_usd, Some(day.recorded_usd), day.difference_usd];
    let mut line = cells([&day.day.to_string(), day.provider, "= all models"], amounts, exact);
    line.push(if day.agrees { "ok" } else { "DIFFERS" }.to_owned());
    table.push(line);
    day.causes.iter().for_each(|cause| table.note(&cause.to_string()));
}

fn cells(names: [&str; 3], amounts: [Option<Usd>; 3], exact: bool) -> Vec<String> {
    let amounts = amounts.map(|amount| amount.map(|amount| usd(amount, exact)).unwrap_or_default());
    names.map(str::to_owned).into_iter().chain(amounts).collect()
}
