//! `tallyd prices set` and `withdraw`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use super::{actor, catalog, instant, rates_line, since};
use crate::cli::confirm::{Confirm, Confirmation};
use crate::cli::{output, with_database};
use tallyd_base::clock::{Clock, SystemClock};
use tallyd_config::Config;
use tallyd_model::pricing::catalog::{AboveEntry, TokenRates};
use tallyd_model::pricing::{PriceEntry, PriceOrigin, Usd};
use tallyd_store::prices::set::{self as operation, PriceEffect, RECENT_DAYS};
use tallyd_store::prices::{ChangeNote, withdraw as withdraw_price};
use tallyd_store::queries::audit::Actor;

#[derive(Args)]
pub(super) struct SetArgs {
    /// The provider
    provider: String,
    /// The model; leave it out for a provider that prices all of its calls alike
    #[arg(default_value = "")]
    model: String,
    /// The service tier
    #[arg(long, default_value = "standard", value_name = "NAME")]
    tier: String,
    /// From when on: now, always, a date (midnight UTC), or RFC 3339. Calls before it keep the price of their time, or stay
    /// unpriced
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    from: i64,
    /// USD a million tokens of a bucket: input, output, cache_read, cache_write_5m, cache_write_1h. Repeatable
    #[arg(long = "rate", value_name = "BUCKET=USD")]
    rates: Vec<String>,
    /// USD for one of another unit: request, web_search … Repeatable
    #[arg(long = "unit", value_name = "UNIT=USD")]
    units: Vec<String>,
    /// A rate for prompts larger than a number of tokens: 200000:input=6. Repeatable
    #[arg(long = "above", value_name = "TOKENS:BUCKET=USD")]
    above: Vec<String>,
    /// The price has the named rates alone. Without it, rates that are not named stay as they are
    #[arg(long)]
    replace: bool,
    /// Where the figures come from
    #[arg(long, default_value = "", value_name = "TEXT")]
    source: String,
    /// Why, for the record
    #[arg(long, default_value = "", value_name = "TEXT")]
    note: String,
    /// Name for the audit log [default: the user]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Only show the changes
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct WithdrawArgs {
    /// The price's id, as `tallyd prices show` prints it
    id: i32,
    #[command(flatten)]
    confirm: Confirm,
    /// Name for the audit log [default: the user]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

fn pair(text: &str) -> anyhow::Result<(&str, Usd)> {
    let (name, usd) = text.split_once('=').with_context(|| format!("{text:?} is not a rate; write input=3"))?;
    Ok((name, Usd::parse(usd).with_context(|| format!("{text:?}"))?))
}

fn put(rates: &mut TokenRates, text: &str) -> anyhow::Result<()> {
    let (bucket, usd) = pair(text)?;
    let Some(slot) = rates.bucket_mut(bucket) else {
        bail!("there is no bucket {bucket:?}; there are input, output, cache_read, cache_write_5m and cache_write_1h");
    };
    *slot = Some(usd);
    Ok(())
}

fn entry(args: &SetArgs) -> anyhow::Result<PriceEntry> {
    let mut per_million = TokenRates::default();
    args.rates.iter().try_for_each(|text| put(&mut per_million, text))?;
    let mut per_unit = BTreeMap::new();
    for text in &args.units {
        let (unit, usd) = pair(text)?;
        per_unit.insert(unit.to_owned(), usd);
    }
    let mut above: BTreeMap<u64, TokenRates> = BTreeMap::new();
    for text in &args.above {
        let wrong = || format!("{text:?} is not a rate for larger prompts; write 200000:input=6");
        let (size, rate) = text.split_once(':').with_context(wrong)?;
        put(above.entry(size.parse().with_context(wrong)?).or_default(), rate)?;
    }
    let above = above.into_iter().map(|(prompt_tokens, per_million)| AboveEntry {
        prompt_tokens,
        per_million,
        per_unit: BTreeMap::new(),
    });
    Ok(PriceEntry {
        provider: args.provider.clone(),
        model: args.model.clone(),
        service_tier: args.tier.clone(),
        effective_from: None,
        source: args.source.clone(),
        per_million,
        per_unit,
        above: above.collect(),
    })
}

pub(super) fn set(args: &SetArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let mut stated = entry(args)?.stated()?;
    stated.effective_from_us = args.from;
    let actor = actor(args.by.as_ref());
    let (effect, id) = with_database(config, "tallyd prices", async |db| {
        let effect = operation::effect(db, &config.pricing, &stated, args.replace, SystemClock.now_us()).await?;
        if args.dry_run {
            return Ok((effect, None));
        }
        let transaction = db.transaction().await?;
        let note = ChangeNote { by: Actor::at_the_command_line(&actor), origin: "manual", note: &args.note };
        let id = operation::set(&transaction, &effect, &note).await?;
        transaction.commit().await?;
        Ok((effect, Some(id)))
    })?;
    if args.json {
        let mut shown = serde_json::to_value(&effect)?;
        shown["id"] = id.into();
        shown["effective_from"] = since(args.from).into();
        output::json(&shown)?;
    } else {
        print(args, &effect, id);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(args: &SetArgs, effect: &PriceEffect, id: Option<i32>) {
    println!("old: {}", effect.old.as_ref().map_or_else(|| "no price".to_owned(), rates_line));
    println!("new: {}, since {}", rates_line(&effect.new), since(args.from));
    if !effect.kept.is_empty() {
        println!("kept, because they were not named: {}", effect.kept.join(", "));
    }
    for lost in &effect.lost {
        let calls = output::noun(lost.calls, "call", "calls");
        println!(
            "lost: {}, which {calls} of the last {RECENT_DAYS} days {}",
            lost.rate,
            if lost.calls == 1 { "uses" } else { "use" }
        );
    }
    let recent = output::noun(effect.recent_calls, "call", "calls");
    println!("{recent} of this model and tier in the last {RECENT_DAYS} days");
    for unit in &effect.without_rate {
        let calls = output::noun(unit.calls, "of them uses", "of them use");
        println!("{calls} {}, which has no rate: such a call is unpriced", unit.rate);
    }
    if !effect.priced_before {
        println!("calls before {} stay unpriced; --from always prices them as well", since(args.from));
    }
    if effect.replaces_later {
        println!("built-in or configured prices that would take effect later are replaced, too");
    }
    match id {
        Some(id) => println!("added as price {id}"),
        None => println!("nothing was changed: this was a dry run"),
    }
    if !effect.lost.is_empty() {
        output::hint("without --replace, rates that are not named stay as they are");
    }
    if id.is_some() {
        output::hint("calls that are recorded already keep their cost until `tallyd reprice`");
    }
}

pub(super) fn withdraw(args: &WithdrawArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let (actor, told) = (actor(args.by.as_ref()), args.confirm.told());
    if told == Confirmation::Nothing {
        return Ok(args.confirm.refuse("takes a price out of force"));
    }
    let withdrawn = with_database(config, "tallyd prices", async |db| {
        if told == Confirmation::DryRun {
            let (catalog, _) = catalog(db, config).await?;
            let price = catalog.prices().find(|price| price.origin == PriceOrigin::Stored && price.id == args.id);
            if let Some(price) = price {
                let (provider, model) = (&price.provider, if price.model.is_empty() { "-" } else { &price.model });
                println!(
                    "would be withdrawn: price {} of {provider} {model}, since {}",
                    args.id,
                    since(price.effective_from_us)
                );
                println!("  {}", rates_line(&price.rates_json()));
            }
            return Ok(price.is_some());
        }
        let transaction = db.transaction().await?;
        let withdrawn = withdraw_price(&transaction, args.id, &Actor::at_the_command_line(&actor)).await?;
        transaction.commit().await?;
        Ok(withdrawn)
    })?;
    if withdrawn && told == Confirmation::DryRun {
        output::hint("nothing was changed: --yes withdraws it");
        return Ok(ExitCode::SUCCESS);
    }
    if withdrawn {
        println!("price {} is not applied any more", args.id);
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("error: there is no added price {} in force", args.id);
    output::hint("built-in prices are not withdrawn but replaced: `tallyd prices set`");
    Ok(ExitCode::FAILURE)
}
