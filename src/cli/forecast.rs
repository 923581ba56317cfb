//! `tallyd forecast`: forecast of costs.

use std::process::ExitCode;

use chrono::DateTime;
use clap::Args;

use super::point_out;
use super::{output, reporting_zone, with_database};
use tallyd_base::clock::{Clock, SystemClock};
use tallyd_config::Config;
use tallyd_model::forecast::{Estimate, Method, day_left, forecast};
use tallyd_model::pricing::{Usd, normalise_provider};
use tallyd_store::queries::grouped::Dimension;
use tallyd_store::queries::history::spending_history;
use tallyd_store::queries::names::all_days;

/// Estimate spend by the end of the day, of the month, and in the next 30 days.
#[derive(Args)]
#[command(after_help = "Examples:\n  tallyd forecast\n  tallyd forecast --provider claude --json")]
pub(super) struct ForecastArgs {
    /// Only this provider's spending
    #[arg(long, default_value = "", value_name = "NAME")]
    provider: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ForecastArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let now = DateTime::from_timestamp_micros(SystemClock.now_us()).unwrap_or_default();
    let provider = normalise_provider(&args.provider);
    let (now, history) = with_database(config, "tallyd forecast", async |db| {
        let zone = reporting_zone(db, config).await?;
        let now = now.with_timezone(&zone);
        if !provider.is_empty() {
            let filter = [(Dimension::Provider, provider.to_string())];
            point_out(db, &filter, all_days(now.date_naive()), zone).await?;
        }
        Ok((now, spending_history(db, now.date_naive(), &provider).await?))
    })?;
    let found = forecast(&history, day_left(&now));
    if args.json {
        output::json(&found)?;
        return Ok(ExitCode::SUCCESS);
    }
    print("today", &found.day);
    print("this month", &found.month);
    print("the next 7 days", &found.next_7_days);
    print("the next 30 days", &found.next_30_days);
    if found.parts.len() > 1 {
        for part in &found.parts {
            println!("  {}: {} USD of the next 30 days", part.name, cents(part.next_30_days_usd));
        }
    }
    for day in &found.unusual_days {
        let (cost, counted) = (cents(day.cost_usd), cents(day.counted_usd));
        eprintln!("unusual: {} {}, {cost} USD, counts as {counted} USD", day.day, day.provider);
    }
    let days = found.history_days;
    match found.method {
        Method::None => output::hint(&format!(
            "{} too few for an estimate; it takes 3",
            output::noun(days as u64, "whole day is", "whole days are")
        )),
        Method::Mean => output::hint(&format!(
            "the mean of {}; from 14 on there is an interval",
            output::noun(days as u64, "day", "days")
        )),
        Method::Weighed => {
            eprintln!(
                "from {}; the interval is to hold {} times of 100",
                output::noun(days as u64, "day", "days"),
                found.interval_percent
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print(what: &str, estimate: &Estimate) {
    let interval = match (estimate.low_usd, estimate.high_usd) {
        (Some(low), Some(high)) => format!(" ({} to {})", cents(low), cents(high)),
        _ => String::new(),
    };
    println!(
        "{what:<17} until {}: {} USD{interval}, {} spent",
        estimate.until,
        estimate.expected_usd.map_or_else(|| "?".to_owned(), cents),
        cents(estimate.spent_usd)
    );
}

fn cents(amount: Usd) -> String {
    output::usd(amount, false)
}
