//! `tallyd rules`: sets, lists and removes alert rules.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::alerts::known_route;
use super::confirm::{Confirm, Confirmation};
use super::output::{self, Table};
use super::{actor, with_database};
use tallyd_config::{Config, DEFAULT_ROUTE};
use tallyd_model::pricing::Usd;
use tallyd_model::quiet::QuietHours;
use tallyd_store::alert_rules::{AlertRule, Metric, NewRule, RuleError, Window, store};
use tallyd_store::queries::audit::Actor;

/// Set alert rules, and show where they stand. The daemon evaluates them once a minute.
#[derive(Args)]
#[command(after_help = "Examples:
  tallyd rules set spend --metric cost --window 24h --warning 80 --alert 100 --route oncall
  tallyd rules set search-team --metric cost --window 7d --alert 500 --where tag:team=search --owner search
  tallyd rules set silent --metric calls --window 2h --no-data
  tallyd rules set errors --metric error_percent --window 1h --alert 5 --where provider=openai
  tallyd rules set burn --metric burn_rate --budget 3 --window 6h --short-window 1h --alert 6
  tallyd rules set month --metric forecast_percent --budget 3 --alert 100
  tallyd rules list
  tallyd rules remove 4 --yes")]
pub(super) struct RulesArgs {
    #[command(subcommand)]
    command: RulesCommand,
}

#[derive(Subcommand)]
enum RulesCommand {
    /// Show every rule, and where it stands
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Set the rule of a name, or change it
    Set(Box<SetArgs>),
    /// Remove a rule
    Remove {
        /// Its id, as `tallyd rules list` prints it
        id: i32,
        #[command(flatten)]
        confirm: Confirm,
    },
}

#[derive(Args)]
struct SetArgs {
    /// The rule's name
    name: String,
    /// The sum or quotient that is compared
    #[arg(long, value_enum)]
    metric: Metric,
    /// The running hour or day and those before it: 1h to 2160h, 1d to 90d
    #[arg(long, value_name = "WINDOW", required_if_eq_any([("metric", "cost"), ("metric", "calls"), ("metric", "tokens"), ("metric", "error_percent"), ("metric", "unpriced_calls"), ("metric", "cost_per_call"), ("metric", "burn_rate")]))]
    window: Option<Window>,
    /// The second window of a burn rate, in the unit of the first
    #[arg(long, value_name = "WINDOW")]
    short_window: Option<Window>,
    /// A warning from this value on
    #[arg(long, value_name = "NUMBER")]
    warning: Option<Usd>,
    /// An alert from this value on
    #[arg(long, value_name = "NUMBER")]
    alert: Option<Usd>,
    /// A window without calls is an alert
    #[arg(long)]
    no_data: bool,
    /// Only these calls: a provider, model, user, app or tag that is a dimension, as in `tag:team=search`. Repeatable
    #[arg(long = "where", value_name = "NAME=VALUE", value_parser = pair)]
    filters: Vec<(String, String)>,
    /// The budget of a burn rate or forecast, by its id
    #[arg(long, value_name = "ID")]
    budget: Option<i32>,
    /// The person or team that looks after it
    #[arg(long, default_value = "", value_name = "NAME")]
    owner: String,
    /// The route of its messages
    #[arg(long, default_value = DEFAULT_ROUTE, value_name = "NAME")]
    route: String,
    /// When all of its messages wait, by the clocks of the reporting time zone: 22:00-07:00
    #[arg(long, value_name = "FROM-TO", value_parser = quiet)]
    quiet: Option<QuietHours>,
    /// Neither evaluate it nor send messages, until it is set without this
    #[arg(long)]
    paused: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, value)| !name.is_empty() && !value.is_empty());
    let (name, value) = pair.ok_or("write NAME=VALUE, such as tag:team=search")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn quiet(text: &str) -> Result<QuietHours, String> {
    QuietHours::parse(text).ok_or_else(|| "write two times of the day, such as 22:00-07:00".to_owned())
}

pub(super) fn run(args: &RulesArgs, config: &Config) -> anyhow::Result<ExitCode> {
    match &args.command {
        RulesCommand::List { json } => list(*json, config),
        RulesCommand::Set(args) => set(args, config),
        RulesCommand::Remove { id, confirm } => remove(*id, *confirm, config),
    }
}

fn list(as_json: bool, config: &Config) -> anyhow::Result<ExitCode> {
    let rules = with_database(config, "tallyd rules", async |db| Ok(store::list(db).await?))?;
    if as_json {
        output::json(&rules)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table =
        Table::new(&["id", "name", "metric", "of", "window", "route", "level"], &["value", "warning", "alert"]);
    rules.iter().for_each(|rule| table.push(cells(rule)));
    table.print();
    if rules.is_empty() {
        output::hint("there is none; `tallyd rules set spend --metric cost --window 24h --alert 100` makes one");
    }
    Ok(ExitCode::SUCCESS)
}

fn cells(found: &AlertRule) -> Vec<String> {
    let rule = &found.rule;
    let number = |value: Option<Usd>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    // Of a quotient four decimals are enough.
    let value = found.value.map(|value| Usd::from_attos(value.attos() / 10_i128.pow(14) * 10_i128.pow(14)));
    let mut of: Vec<String> = rule.filter.iter().map(|(key, value)| format!("{key}={value}")).collect();
    of.extend(rule.budget_id.map(|id| format!("budget {id}")));
    let of = if of.is_empty() { "all calls".to_owned() } else { of.join(", ") };
    let windows: Vec<String> = rule.window.iter().chain(&rule.short_window).map(ToString::to_string).collect();
    vec![
        found.id.to_string(),
        rule.name.clone(),
        rule.metric.name().to_owned(),
        of,
        windows.join(" and "),
        rule.route.clone(),
        if rule.paused { "paused" } else { found.level.name() }.to_owned(),
        number(value),
        number(rule.warning),
        number(rule.alert),
    ]
}

fn set(args: &SetArgs, config: &Config) -> anyhow::Result<ExitCode> {
    if args.route != DEFAULT_ROUTE {
        known_route(&args.route, config)?;
    }
    let filter: BTreeMap<String, String> = args.filters.iter().cloned().collect();
    anyhow::ensure!(filter.len() == args.filters.len(), "--where names one thing twice");
    let new = NewRule {
        name: args.name.clone(),
        metric: args.metric,
        filter,
        window: args.window,
        short_window: args.short_window,
        warning: args.warning,
        alert: args.alert,
        no_data: args.no_data,
        budget_id: args.budget,
        owner: args.owner.clone(),
        route: args.route.clone(),
        quiet: args.quiet,
        paused: args.paused,
    };
    let name = actor();
    let by = Actor::at_the_command_line(&name);
    let (id, replaced) = with_database(config, "tallyd rules", async |db| {
        let done = store::set(db, new, &by).await.inspect_err(|error| {
            if let RuleError::Invalid { hint, .. } = error {
                output::hint(hint);
            }
        })?;
        Ok(done)
    })?;
    if args.json {
        output::json(&json!({ "id": id, "replaced": replaced }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let before = if replaced.is_some() { "; it replaces the one of this name" } else { "" };
    println!("rule {id}: {}{before}", args.name);
    let has_default = config.alerts.all_routes().iter().any(|route| route.name == DEFAULT_ROUTE);
    if args.route == DEFAULT_ROUTE && !has_default {
        output::hint("no route is configured here: its alerts are listed by `tallyd alerts list`, and sent nowhere");
    }
    Ok(ExitCode::SUCCESS)
}

fn remove(id: i32, confirm: Confirm, config: &Config) -> anyhow::Result<ExitCode> {
    let told = confirm.told();
    if told == Confirmation::Nothing {
        return Ok(confirm.refuse("removes an alert rule"));
    }
    let name = actor();
    let by = Actor::at_the_command_line(&name);
    let found = with_database(config, "tallyd rules", async |db| {
        let found = store::list(db).await?.into_iter().find(|rule| rule.id == id);
        let is_gone = told == Confirmation::Yes && !store::remove(db, id, &by).await?;
        Ok(found.filter(|_| !is_gone))
    })?;
    let Some(found) = found else {
        output::error(&anyhow::anyhow!("there is no alert rule {id}"));
        output::hint("`tallyd rules list` shows the ids");
        return Ok(ExitCode::FAILURE);
    };
    if told == Confirmation::DryRun {
        println!("would be removed: rule {id}, {}", found.rule.name);
        output::hint("nothing was changed: --yes removes it");
    } else {
        println!("removed: rule {id}, {}", found.rule.name);
    }
    Ok(ExitCode::SUCCESS)
}
