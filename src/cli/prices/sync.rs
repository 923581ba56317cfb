//! `tallyd prices sync`: changes that a public price list proposes, and their effect.

use std::process::ExitCode;

use anyhow::bail;
use chrono::{DateTime, Utc};
use clap::Args;

use super::{actor, instant, rates_line, since};
use crate::cli::{output, with_database};
use crate::outbound::price_list;
use tallyd_base::clock::{Clock, SystemClock};
use tallyd_config::{Config, PriceSync};
use tallyd_model::pricing::normalise_provider;
use tallyd_store::prices::sync::{self, Proposal};
use tallyd_store::queries::audit::Actor;

/// The most prices of a list without --verbose.
const SHOWN: usize = 20;

#[derive(Args)]
#[command(after_help = "Examples:
  tallyd prices sync                                  # the result of the daemon's last look at price_sync.list
  tallyd prices sync prices.json --provider claude    # look now, at a file or an http(s) address
  tallyd prices sync --apply                          # add the prices that are proposed
Prices that people have set are not proposed against. Calls that are recorded already keep their cost until `tallyd reprice`.")]
pub(super) struct SyncArgs {
    /// A file or an http(s) address to read now [default: show the result of the last look]
    list: Option<String>,
    /// Only the prices of this provider or platform. Repeatable [default: price_sync.providers]
    #[arg(long = "provider", value_name = "NAME", requires = "list")]
    providers: Vec<String>,
    /// Add the prices that are proposed
    #[arg(long, conflicts_with = "dismiss")]
    apply: bool,
    /// From when on they hold: now, a date (midnight UTC), or RFC 3339 [default: when they were first seen]
    #[arg(long, value_name = "INSTANT", value_parser = instant, requires = "apply")]
    from: Option<i64>,
    /// Close the proposal without adding anything
    #[arg(long, conflicts_with = "list")]
    dismiss: bool,
    /// List each price
    #[arg(long)]
    verbose: bool,
    /// Name for the audit log [default: the user]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn time(us: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(us).unwrap_or_default()
}

pub(super) fn run(args: &SyncArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let by = actor(args.by.as_ref());
    let settings = args.list.as_ref().map(|list| PriceSync {
        list: list.clone(),
        providers: match args.providers.is_empty() {
            true => config.price_sync.providers.clone(),
            false => args.providers.iter().map(|name| normalise_provider(name).into_owned()).collect(),
        },
        ..config.price_sync.clone()
    });
    let (state, decided) = with_database(config, "tallyd prices", async |db| {
        if let Some(settings) = &settings {
            let text = price_list(&settings.list).await?;
            let transaction = db.transaction().await?;
            sync::look(&transaction, &config.pricing, settings, &text, time(SystemClock.now_us())).await?;
            transaction.commit().await?;
        }
        let state = sync::state(db).await?;
        if !args.apply && !args.dismiss {
            return Ok((state, None));
        }
        if state.proposal.is_none() {
            bail!("no proposal is open. hint: `tallyd prices sync LIST` looks at a list now");
        }
        let transaction = db.transaction().await?;
        let decided = match args.apply {
            true => {
                sync::apply(&transaction, &config.pricing, args.from.map(time), &Actor::at_the_command_line(&by))
                    .await?
            }
            false => sync::dismiss(&transaction, &Actor::at_the_command_line(&by)).await?,
        };
        transaction.commit().await?;
        Ok((state, Some(decided)))
    })?;
    if args.json {
        output::json(&serde_json::json!({ "state": state, "decided": decided.map(|proposal| proposal.id) }))?;
        return Ok(ExitCode::SUCCESS);
    }
    if !state.error.is_empty() {
        println!("the last look failed: {}", state.error);
    }
    match &state.proposal {
        Some(proposal) => print(args, proposal),
        None => println!(
            "nothing is proposed; the list was read last: {}",
            state.read_at.map_or("never".into(), |at| at.to_rfc3339())
        ),
    }
    match (args.apply, decided) {
        (true, Some(proposal)) => {
            println!("{} added", output::noun(proposal.changes.len() as u64, "price was", "prices were"));
            output::hint("calls that are recorded already keep their cost until `tallyd reprice`");
        }
        (false, Some(proposal)) => println!("proposal {} is closed", proposal.id),
        _ if state.proposal.is_some() => output::hint("--apply adds these prices, --dismiss closes the proposal"),
        _ => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn print(args: &SyncArgs, proposal: &Proposal) {
    let Proposal { id, list, changes, held, preview, .. } = proposal;
    println!("proposal {id} of {list}, first seen {}", since(proposal.seen_at.timestamp_micros()));
    let shown = if args.verbose { changes.len() } else { SHOWN };
    for change in changes.iter().take(shown) {
        println!("{} {} {}", change.provider, change.model, change.service_tier);
        if let Some(old) = &change.old {
            println!("  - {}", rates_line(old));
        }
        println!("  + {}", rates_line(&change.new));
    }
    if changes.len() > shown {
        let more = output::noun((changes.len() - shown) as u64, "price", "prices");
        println!("and {more} more; --verbose lists them");
    }
    if *held > 0 {
        let prices = output::noun(*held, "price differs and stays", "prices differ and stay");
        println!("{prices}: a person or the configuration has set them");
    }
    println!(
        "of {} of the week before, {} would have cost {} USD instead of {} USD",
        output::noun(preview.calls, "call", "calls"),
        output::count(preview.changed),
        output::usd(preview.new_usd, false),
        output::usd(preview.old_usd, false)
    );
    for model in &preview.models {
        println!(
            "  {} {}: {}, {}, was {}; {} newly priced, {} newly unpriced",
            model.provider,
            model.model,
            output::noun(model.calls, "call", "calls"),
            output::cost_in_usd(model.new_usd, model.calls, model.newly_unpriced),
            output::cost_in_usd(model.old_usd, model.calls, model.newly_priced),
            output::count(model.newly_priced),
            output::count(model.newly_unpriced)
        );
    }
    if preview.models_left_off > 0 {
        let more = output::noun(preview.models_left_off, "model", "models");
        println!("  and {more} more");
    }
}
