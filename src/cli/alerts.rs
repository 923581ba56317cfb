//! `tallyd alerts`: alerts and reports, and tests of their routes.

use std::process::ExitCode;

use anyhow::anyhow;
use chrono::DateTime;
use clap::{Args, Subcommand};
use serde_json::json;

use super::output::{self, Table, noun};
use super::{actor, block_on, reporting_zone, today_in, with_database};
use crate::alerts::receiver;
use tallyd_base::clock::{Clock, SystemClock};
use tallyd_config::{Config, Route};
use tallyd_store::budgets::inbox::{self, Alert, AlertFilter, Delivery, WhichAlerts};
use tallyd_store::queries::audit::Actor;

/// Show alerts and sent reports, acknowledge them, and test a route.
#[derive(Args)]
#[command(after_help = "Examples:
  tallyd alerts list
  tallyd alerts list --all --json
  tallyd alerts acknowledge 12 13
  tallyd alerts acknowledge --all
  tallyd alerts test oncall")]
pub(super) struct AlertsArgs {
    #[command(subcommand)]
    command: AlertsCommand,
}

#[derive(Subcommand)]
enum AlertsCommand {
    /// Show the alerts that nobody has acknowledged, newest first
    List {
        /// Acknowledged ones, too
        #[arg(long)]
        all: bool,
        /// Most lines to show
        #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
        limit: u32,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Send a test message over a route of the configuration
    Test {
        /// The route's name; `default` is that of `alerts.webhook_url`
        #[arg(value_name = "ROUTE")]
        route: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Say that you have seen alerts. They stay, with your name
    Acknowledge {
        /// Their numbers, as `tallyd alerts list` prints them
        #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
        ids: Vec<i64>,
        /// All alerts
        #[arg(long)]
        all: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(args: &AlertsArgs, config: &Config) -> anyhow::Result<ExitCode> {
    match &args.command {
        AlertsCommand::List { all, limit, json } => list(*all, *limit, *json, config),
        AlertsCommand::Acknowledge { ids, all, json } => acknowledge(ids, *all, *json, config),
        AlertsCommand::Test { route, json } => test(route, *json, config),
    }
}

/// Sends from here, not from the daemon: the files and variables of secrets are those of this shell.
fn test(name: &str, as_json: bool, config: &Config) -> anyhow::Result<ExitCode> {
    let route = known_route(name, config)?;
    let now = DateTime::from_timestamp_micros(SystemClock.now_us()).unwrap_or_default();
    block_on(async {
        receiver::test(&route, now).await.map_err(|error| anyhow!("the message was not sent: {error}"))
    })?;
    if as_json {
        output::json(&json!({ "route": name, "sent": true }))?;
    } else {
        println!("a test message was sent over the route {name}");
    }
    Ok(ExitCode::SUCCESS)
}

/// A route of the configuration.
///
/// # Errors
/// With the names of the routes, if there is none of this name.
pub(super) fn known_route(name: &str, config: &Config) -> anyhow::Result<Route> {
    let routes = config.alerts.all_routes();
    let found = routes.iter().find(|route| route.name == name).cloned();
    found.ok_or_else(|| {
        let names: Vec<&str> = routes.iter().map(|route| route.name.as_str()).collect();
        output::hint("set alerts.webhook_url, or add it to alerts.routes in the configuration file");
        match names.as_slice() {
            [] => anyhow!("there is no route {name:?}; none is configured"),
            names => anyhow!("there is no route {name:?}; there are {}", names.join(", ")),
        }
    })
}

fn list(all: bool, limit: u32, as_json: bool, config: &Config) -> anyhow::Result<ExitCode> {
    let (alerts, new) = with_database(config, "tallyd alerts", async |db| {
        let today = today_in(reporting_zone(db, config).await?);
        let wanted = AlertFilter { only_new: !all, before: None, limit: limit.into() };
        Ok((inbox::list(db, &wanted, today).await?, inbox::count_new(&**db).await?))
    })?;
    if as_json {
        output::json(&alerts)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["id", "at"], &[]).with_text("alert");
    alerts.iter().for_each(|alert| table.push(cells(alert)));
    table.print();
    let new = new.unsigned_abs();
    eprintln!("{} {} new", noun(new, "alert", "alerts"), if new == 1 { "is" } else { "are" });
    Ok(ExitCode::SUCCESS)
}

fn cells(alert: &Alert) -> Vec<String> {
    let seen = match &alert.acknowledged_by {
        Some(by) => format!("  (seen by {by})"),
        None => String::new(),
    };
    let told = match alert.delivery {
        Delivery::Due if !alert.delivery_error.is_empty() => {
            format!("  (not delivered: {})", alert.delivery_error)
        }
        _ => String::new(),
    };
    let message = alert.message.strip_prefix("tallyd: ").unwrap_or(&alert.message);
    let at = alert.at.format("%Y-%m-%d %H:%M").to_string();
    vec![alert.id.to_string(), at, format!("{message}{told}{seen}")]
}

fn acknowledge(ids: &[i64], all: bool, as_json: bool, config: &Config) -> anyhow::Result<ExitCode> {
    let which = if all { WhichAlerts::UpTo(i64::MAX) } else { WhichAlerts::These(ids.to_owned()) };
    let seen = with_database(config, "tallyd alerts", async |db| {
        Ok(inbox::acknowledge(db, &which, &Actor::at_the_command_line(&actor())).await?)
    })?;
    if as_json {
        output::json(&json!({ "acknowledged": seen }))?;
    } else {
        println!("{} acknowledged", noun(seen, "alert was", "alerts were"));
    }
    if seen == 0 && !all {
        output::hint("`tallyd alerts list` shows those that are new");
    }
    Ok(ExitCode::SUCCESS)
}
