//! `tallyd budgets`: lists budgets with their standing, sets and removes them.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::confirm::{Confirm, Confirmation};
use super::output::{self, Table, count, usd};
use super::{actor, reporting_zone, today_in, with_database};
use tallyd_config::Config;
use tallyd_model::pricing::Usd;
use tallyd_store::alert_rules;
use tallyd_store::budgets::store::{
    ALERT_PERCENTS, SetBudgetError, SetOutcome, WARNING_PERCENT, board, list as list_budgets, set,
};
use tallyd_store::budgets::{BudgetScope, Limit, NewBudget, Period};
use tallyd_store::queries::audit::Actor;
use tallyd_store::queries::names::unseen_budget;

/// Set budgets, and show where they stand. The daemon evaluates hard ones within a second of a call, all every few seconds.
#[derive(Args)]
#[command(after_help = "Examples:
  tallyd budgets set 25                                   # 25 USD a day for everything
  tallyd budgets set 400 --period month --for model=claude-sonnet-4
  tallyd budgets set 5 --for user=u-42 --alert 80 --alert 100 --limit soft
  tallyd budgets set 900 --period month --for tag:team=search
  tallyd budgets set 90 --period month --for tag:team=search --for model=gpt-5
  tallyd budgets list
  tallyd budgets remove 3 --yes")]
pub(super) struct BudgetsArgs {
    #[command(subcommand)]
    command: BudgetsCommand,
}

#[derive(Subcommand)]
enum BudgetsCommand {
    /// Show every budget, and where it stands
    List {
        /// Print every digit instead of cents
        #[arg(long)]
        exact: bool,
        /// Print JSON, with every digit
        #[arg(long)]
        json: bool,
    },
    /// Set the budget of a scope and period, or change it
    Set(SetArgs),
    /// Remove a budget
    Remove {
        /// Its id, as `tallyd budgets list` prints it
        id: i32,
        #[command(flatten)]
        confirm: Confirm,
    },
}

#[derive(Args)]
struct SetArgs {
    /// USD
    amount: Usd,
    /// For how long the amount is; days and weeks begin at midnight of the reporting time zone, weeks on Monday
    #[arg(long, value_enum, default_value_t = Period::Day)]
    period: Period,
    /// Only calls with this name in this dimension: provider, model, user, app, or tag:NAME. Up to two: calls with both
    #[arg(long = "for", value_name = "DIMENSION=NAME", value_parser = dimension_and_name)]
    scope: Vec<(String, String)>,
    /// From this percentage on the status is a warning
    #[arg(long, default_value_t = WARNING_PERCENT, value_name = "PERCENT", value_parser = clap::value_parser!(i32).range(0..=100))]
    warning: i32,
    /// At this percentage an alert is due, once a period. Repeatable
    #[arg(long = "alert", value_name = "PERCENT", default_values_t = ALERT_PERCENTS, value_parser = clap::value_parser!(i32).range(1..=100_000))]
    alerts: Vec<i32>,
    /// hard: clients refuse calls once it is used up; soft: it only alerts
    #[arg(long, value_enum, default_value_t = Limit::Hard)]
    limit: Limit,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &BudgetsArgs, config: &Config) -> anyhow::Result<ExitCode> {
    match &args.command {
        BudgetsCommand::List { exact, json } => list(*exact, *json, config),
        BudgetsCommand::Set(args) => set_budget(args, config),
        BudgetsCommand::Remove { id, confirm } => remove_budget(*id, *confirm, config),
    }
}

fn remove_budget(id: i32, confirm: Confirm, config: &Config) -> anyhow::Result<ExitCode> {
    let told = confirm.told();
    if told == Confirmation::Nothing {
        return Ok(confirm.refuse("removes a budget"));
    }
    let name = actor();
    let by = Actor::at_the_command_line(&name);
    let found = with_database(config, "tallyd budgets", async |db| {
        let found = list_budgets(db).await?.into_iter().find(|budget| budget.id == id);
        let is_gone = told == Confirmation::Yes && !alert_rules::store::remove_budget(db, id, &by).await?;
        Ok(found.filter(|_| !is_gone))
    })?;
    let Some(budget) = found else {
        output::error(&anyhow::anyhow!("there is no budget {id}"));
        output::hint("`tallyd budgets list` shows the ids");
        return Ok(ExitCode::FAILURE);
    };
    let what =
        format!("budget {id}: {} USD a {} for {}", usd(budget.amount_usd, false), budget.period.name(), budget.scope);
    if told == Confirmation::DryRun {
        println!("would be removed: {what}");
        output::hint("nothing was changed: --yes removes it");
    } else {
        println!("removed: {what}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads `tag:team=search`. A name may have an equals sign, a dimension does not.
fn dimension_and_name(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((dimension, name)) if !dimension.is_empty() && !name.is_empty() => Ok((dimension.into(), name.into())),
        _ => Err("expected DIMENSION=NAME, such as user=u-42 or tag:team=search".to_owned()),
    }
}

/// The scope of the flags.
fn scope(flags: &[(String, String)]) -> Result<BudgetScope, SetBudgetError> {
    let names: BTreeMap<_, _> = flags.iter().cloned().collect();
    if names.len() < flags.len() {
        let message = "--for names a dimension twice".to_owned();
        return Err(SetBudgetError::Invalid { message, hint: "a call has one name in each dimension" });
    }
    BudgetScope::parse(&names)
}

fn list(exact: bool, as_json: bool, config: &Config) -> anyhow::Result<ExitCode> {
    let board = with_database(config, "tallyd budgets", async |db| {
        let today = today_in(reporting_zone(db, config).await?);
        Ok(board(db, today).await?)
    })?;
    if as_json {
        output::json(&board.states())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table =
        Table::new(&["id", "of", "a", "limit", "since", "status"], &["spent USD", "of USD", "unpriced calls"]);
    for state in board.states() {
        let budget = &state.budget;
        table.push(vec![
            budget.id.to_string(),
            budget.scope.to_string(),
            budget.period.name().to_owned(),
            budget.limit.name().to_owned(),
            state.period_start.to_string(),
            state.status.name().to_owned(),
            usd(state.spent_usd, exact),
            usd(budget.amount_usd, exact),
            count(state.unpriced_calls.unsigned_abs()),
        ]);
    }
    table.print();
    if board.states().is_empty() {
        output::hint("there is none; `tallyd budgets set 25` allows 25 USD a day");
    }
    Ok(ExitCode::SUCCESS)
}

fn set_budget(args: &SetArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let hint = |error: &SetBudgetError| {
        if let SetBudgetError::Invalid { hint, .. } = error {
            output::hint(hint);
        }
    };
    let new = NewBudget {
        scope: scope(&args.scope).inspect_err(hint)?,
        period: args.period,
        amount_usd: args.amount,
        warning_percent: args.warning,
        alert_percents: args.alerts.clone(),
        limit: args.limit,
    };
    let name = actor();
    let by = Actor::at_the_command_line(&name);
    let SetOutcome { id, old, new } = with_database(config, "tallyd budgets", async |db| {
        let done = set(db, new, &by).await.inspect_err(hint)?;
        let zone = reporting_zone(db, config).await?;
        if let Some(note) = unseen_budget(db, &done.new.scope, today_in(zone), zone).await? {
            output::hint(&note);
        }
        Ok(done)
    })?;
    if args.json {
        output::json(&json!({ "id": id, "replaced": old }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let before = old.map_or_else(String::new, |old| {
        format!("; it replaces one of {} USD, {}", usd(old.amount_usd, false), old.limit.name())
    });
    let (amount, limit) = (usd(new.amount_usd, false), new.limit.name());
    println!("budget {id}: {amount} USD a {} for {}, {limit}{before}", new.period.name(), new.scope);
    Ok(ExitCode::SUCCESS)
}
