//! `tallyd calls`: amends or voids one call, and shows its changes.

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use uuid::Uuid;

use super::confirm::{Confirm, Confirmation};
use super::output;
use super::prices::{actor, catalog};
use super::with_database;
use tallyd_base::clock::{Clock, SystemClock};
use tallyd_config::Config;
use tallyd_model::json;
use tallyd_model::pricing::Usd;
use tallyd_store::Connection;
use tallyd_store::amend::{AmendCall, Amendment, Change, Corrections, Values, amend, find, of_call, propose};
use tallyd_store::queries::audit::Actor;

/// Changes that `show` reads at once.
const PART: usize = 1_000;

/// Amend or void one call, with a reason; show its changes. The call log and all sums change together.
#[derive(Args)]
#[command(after_help = "Examples:
  tallyd calls amend 01935b3e-7d2a-7c31-9f0e-2b1f6f1f9a10 --cost 0.25 --reason 'the vendor refunded the rest' --dry-run
  tallyd calls void 01935b3e-7d2a-7c31-9f0e-2b1f6f1f9a10 --reason 'a load test' --yes
  tallyd calls show 01935b3e-7d2a-7c31-9f0e-2b1f6f1f9a10")]
pub(super) struct CallsArgs {
    #[command(subcommand)]
    command: CallsCommand,
}

#[derive(Subcommand)]
enum CallsCommand {
    /// Correct the cost or the counts of a call. A voided call is as it was before, with the corrections
    #[command(
        after_help = "Without --cost, a cost that was computed is computed anew from the counts; a stated cost stays.

Example:
  tallyd calls amend 01935b3e-7d2a-7c31-9f0e-2b1f6f1f9a10 --output-tokens 300 --reason 'the stream was counted twice' --yes"
    )]
    Amend {
        #[command(flatten)]
        call: Call,
        #[command(flatten)]
        new: New,
    },
    /// Void a call: it stays in the call log, with no tokens and a cost of 0
    #[command(
        after_help = "Example:\n  tallyd calls void 01935b3e-7d2a-7c31-9f0e-2b1f6f1f9a10 --reason 'a load test' --yes"
    )]
    Void {
        #[command(flatten)]
        call: Call,
    },
    /// Show all changes of a call, oldest first: who, when, why, and the values before and after
    #[command(after_help = "Example:\n  tallyd calls show 01935b3e-7d2a-7c31-9f0e-2b1f6f1f9a10 --json")]
    Show {
        /// The call's id
        #[arg(value_name = "ID")]
        id: Uuid,
        /// Print JSON, with every digit
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct Call {
    /// The call's id
    #[arg(value_name = "ID")]
    id: Uuid,
    /// The call's time, RFC 3339: needed if several calls have the id. An old call is found at once
    #[arg(long, value_name = "INSTANT")]
    at: Option<DateTime<Utc>>,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reason: String,
    #[command(flatten)]
    confirm: Confirm,
    /// Name for the audit log [default: the user]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Print JSON, with every digit
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct New {
    /// The cost in USD
    #[arg(long, value_name = "USD")]
    cost: Option<Usd>,
    /// Input tokens
    #[arg(long, value_name = "N")]
    input_tokens: Option<u64>,
    /// Output tokens
    #[arg(long, value_name = "N")]
    output_tokens: Option<u64>,
    /// Tokens read from a cache
    #[arg(long, value_name = "N")]
    cache_read_tokens: Option<u64>,
    /// Tokens written to a cache for five minutes
    #[arg(long, value_name = "N")]
    cache_write_5m_tokens: Option<u64>,
    /// Tokens written to a cache for an hour
    #[arg(long, value_name = "N")]
    cache_write_1h_tokens: Option<u64>,
    /// Billable requests
    #[arg(long, value_name = "N")]
    requests: Option<u64>,
}

impl New {
    const fn corrections(&self) -> Corrections {
        Corrections {
            cost_usd: self.cost,
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            cache_read_tokens: self.cache_read_tokens,
            cache_write_5m_tokens: self.cache_write_5m_tokens,
            cache_write_1h_tokens: self.cache_write_1h_tokens,
            requests: self.requests,
        }
    }
}

pub(super) fn run(args: &CallsArgs, config: &Config) -> anyhow::Result<ExitCode> {
    match &args.command {
        CallsCommand::Amend { call, new } => change(call, Change::Amend(new.corrections()), config),
        CallsCommand::Void { call } => change(call, Change::Void, config),
        CallsCommand::Show { id, json } => show(*id, *json, config),
    }
}

fn change(call: &Call, change: Change, config: &Config) -> anyhow::Result<ExitCode> {
    let told = call.confirm.told();
    if told == Confirmation::Nothing {
        return Ok(call.confirm.refuse("changes a stored call"));
    }
    let actor = actor(call.by.as_ref());
    let now = DateTime::from_timestamp_micros(SystemClock.now_us()).unwrap_or_default();
    with_database(config, "tallyd calls", async |db| {
        let (catalog, _) = catalog(db, config).await?;
        let occurred_at = find(db, call.id, call.at, now).await?;
        let wanted = AmendCall { id: call.id, occurred_at, change, reason: &call.reason };
        let found = propose(db, &catalog, &wanted).await?;
        if !call.json {
            let model = if found.model.is_empty() { "-" } else { &found.model };
            println!(
                "{} {model}, {}: {}",
                found.provider,
                occurred_at.to_rfc3339(),
                words(&found.before, &found.after)
            );
        }
        if told == Confirmation::DryRun {
            if call.json {
                output::json(&Outcome { found, done: None })?;
            } else {
                output::hint("nothing was changed: --yes changes the call");
            }
            return Ok(ExitCode::SUCCESS);
        }
        let done = amend(db, &catalog, &wanted, &Actor::at_the_command_line(&actor)).await?;
        if call.json {
            output::json(&Outcome { found, done: Some(done) })?;
        } else {
            println!("{}; the values before are kept as amendment {}", done.kind, done.id);
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// The JSON of a change.
#[derive(serde::Serialize)]
struct Outcome {
    found: tallyd_store::amend::Proposal,
    done: Option<Amendment>,
}

/// The values that change.
fn words(before: &Values, after: &Values) -> String {
    let cost = |values: &Values| values.cost_usd.map_or_else(|| "unpriced".to_owned(), |cost| format!("{cost} USD"));
    let mut parts = vec![format!("{} -> {}", cost(before), cost(after))];
    for (name, before, after) in [
        ("input tokens", before.input_tokens, after.input_tokens),
        ("output tokens", before.output_tokens, after.output_tokens),
        ("cache read tokens", before.cache_read_tokens, after.cache_read_tokens),
        ("cache write tokens (5 minutes)", before.cache_write_5m_tokens, after.cache_write_5m_tokens),
        ("cache write tokens (1 hour)", before.cache_write_1h_tokens, after.cache_write_1h_tokens),
        ("requests", before.requests, after.requests),
    ] {
        if before != after {
            parts.push(format!("{name} {before} -> {after}"));
        }
    }
    if before.extra_units != after.extra_units {
        let units = |values: &Values| values.extra_units.as_ref().map_or("none", json::Text::get).to_owned();
        parts.push(format!("other units {} -> {}", units(before), units(after)));
    }
    parts.join(", ")
}

/// All changes of a call, oldest first.
async fn history(db: &Connection, id: Uuid) -> anyhow::Result<Vec<Amendment>> {
    let mut found = Vec::new();
    loop {
        let after = found.last().map_or(0, |last: &Amendment| last.id);
        let part = of_call(db, id, after, PART as i64).await?;
        let is_last = part.len() < PART;
        found.extend(part);
        if is_last {
            return Ok(found);
        }
    }
}

fn show(id: Uuid, as_json: bool, config: &Config) -> anyhow::Result<ExitCode> {
    let found = with_database(config, "tallyd calls", async |db: &mut Connection| history(db, id).await)?;
    if as_json {
        output::json(&found)?;
        return Ok(ExitCode::SUCCESS);
    }
    for Amendment { id, at, kind, actor, reason, before, after, .. } in &found {
        let values = |text: &json::Text| json::from_str::<Values>(text.get());
        println!(
            "{id} at {}: {kind} by {actor}, {}: {reason}",
            at.to_rfc3339(),
            words(&values(before)?, &values(after)?)
        );
    }
    if found.is_empty() {
        output::hint("this call was neither amended nor voided");
    }
    Ok(ExitCode::SUCCESS)
}
