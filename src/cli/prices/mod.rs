//! `tallyd prices`: prices with their times and sources, changes and imports.

mod alias;
mod change;
mod cost;
mod import;
mod show;
mod sync;

use std::process::ExitCode;

use chrono::{DateTime, SecondsFormat};
use clap::{Args, Subcommand};

use tallyd_base::clock::{Clock, SystemClock};
use tallyd_config::Config;
use tallyd_model::pricing::{Catalog, CatalogError};
use tallyd_store::Connection;
use tallyd_store::prices::read_added;

/// Look at prices, change them, import price lists.
#[derive(Args)]
#[command(after_help = "Examples:
  tallyd prices list --provider claude
  tallyd prices set claude claude-sonnet-5 --from 2026-12-01 --rate input=1.80 --rate output=9
  tallyd prices import model_prices_and_context_window.json --from 2026-12-01          # shows the difference
  tallyd prices import model_prices_and_context_window.json --from 2026-12-01 --apply
  tallyd prices check")]
pub(super) struct PricesArgs {
    #[command(subcommand)]
    command: PricesCommand,
}

#[derive(Subcommand)]
enum PricesCommand {
    /// List the prices in force
    List(show::ListArgs),
    /// Show one model's prices over time, and who changed them
    Show(show::ShowArgs),
    /// Price calls from standard input, without recording them
    Cost(cost::CostArgs),
    /// Check the stored prices, and name the calls that could not be priced. Exits 1 if there is anything
    Check(show::CheckArgs),
    /// Add a price from an instant on; every daemon applies it within seconds
    Set(Box<change::SetArgs>),
    /// Take an added price out of force
    Withdraw(change::WithdrawArgs),
    /// Let a name stand for a model: an ARN, a deployment's own name; list and remove such names
    Alias(alias::AliasArgs),
    /// Compare a public price list with the prices in force. Exits 1 if they differ
    Diff(import::ListArgs),
    /// Import a public price list: shows the difference, and adds it with --apply
    Import(import::ImportArgs),
    /// Compare a public price list: shows the changes and their effect on last week's calls; --apply adds them
    Sync(sync::SyncArgs),
}

pub(super) fn run(args: &PricesArgs, config: &Config) -> anyhow::Result<ExitCode> {
    match &args.command {
        PricesCommand::List(args) => show::list(args, config),
        PricesCommand::Show(args) => show::show(args, config),
        PricesCommand::Cost(args) => cost::cost(args, config),
        PricesCommand::Check(args) => show::check(args, config),
        PricesCommand::Set(args) => change::set(args, config),
        PricesCommand::Withdraw(args) => change::withdraw(args, config),
        PricesCommand::Alias(args) => alias::alias(args, config),
        PricesCommand::Diff(args) => import::diff(args, config),
        PricesCommand::Import(args) => import::import(args, config),
        PricesCommand::Sync(args) => sync::run(args, config),
    }
}

/// The prices of a daemon with this configuration and database, and the rows that are not valid prices.
pub(super) async fn catalog(connection: &Connection, config: &Config) -> anyhow::Result<(Catalog, Vec<CatalogError>)> {
    let added = read_added(connection).await.map_err(|error| anyhow::anyhow!(tallyd_store::describe(&error)))?;
    Ok(Catalog::layered(&config.pricing, &added)?)
}

/// The given name, or the person at the command line, for the record of changes.
pub(super) fn actor(given: Option<&String>) -> String {
    given.map_or_else(super::actor, |name| format!("{name} (command line)"))
}

/// An instant of the command line: `now`, `always`, a date, or RFC 3339.
pub(super) fn instant(text: &str) -> Result<i64, String> {
    match text {
        "now" => Ok(SystemClock.now_us()),
        "always" => Ok(0),
        _ => tallyd_model::pricing::catalog::entry::effective_from(Some(text), "--from").map_err(|_| {
            format!("{text:?} is not an instant; write now, always, 2026-12-01 (midnight UTC) or 2026-12-01T12:00:00Z")
        }),
    }
}

/// An instant as text for people.
fn since(us: i64) -> String {
    let time = DateTime::from_timestamp_micros(us).unwrap_or_default();
    if us == 0 { "always".into() } else { time.to_rfc3339_opts(SecondsFormat::AutoSi, true) }
}

/// Rates as text for people: `input 3, output 15 a million; web_search 0.01 each; above 200000: input 6 …`.
fn rates_line(rates: &serde_json::Value) -> String {
    let pairs = |value: &serde_json::Value| {
        let pairs = value.as_object().into_iter().flatten();
        pairs.map(|(name, rate)| format!("{name} {}", rate.as_str().unwrap_or_default())).collect::<Vec<_>>().join(", ")
    };
    let mut parts = Vec::new();
    let tokens = pairs(&rates["per_million_tokens"]);
    if !tokens.is_empty() {
        parts.push(tokens);
    }
    let units = pairs(&rates["per_unit"]);
    if !units.is_empty() {
        parts.push(format!("each {units}"));
    }
    for above in rates["above"].as_array().into_iter().flatten() {
        parts.push(format!("above {}: {}", above["prompt_tokens"], pairs(&above["per_million_tokens"])));
    }
    parts.join("; ")
}
