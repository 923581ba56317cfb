//! `tallyd prices list`, `show` and `check`.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::{catalog, instant, rates_line, since};
use crate::cli::{output, with_database};
use tallyd_config::Config;
use tallyd_model::pricing::{Price, normalise_provider};
use tallyd_store::prices::changes;
use tallyd_store::queries::names::near;
use tallyd_store::unpriced::unpriced;

#[derive(Args)]
pub(super) struct ListArgs {
    /// Only this provider's
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// The prices at this instant: now, a date, or RFC 3339
    #[arg(long, value_name = "INSTANT", default_value = "now", value_parser = instant)]
    at: i64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct ShowArgs {
    /// The provider
    provider: String,
    /// The model; leave it out for a provider that prices all of its calls alike
    #[arg(default_value = "")]
    model: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct CheckArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn shown(price: &Price) -> Value {
    json!({
        "id": price.id, "provider": price.provider, "model": price.model, "service_tier": price.service_tier,
        "effective_from": since(price.effective_from_us), "rates": price.rates_json(), "origin": price.origin.name(),
        "source": price.source, "source_date": price.source_date,
    })
}

fn print(prices: &[Value]) {
    let mut table = output::Table::new(&["id", "provider", "model", "tier", "since", "origin"], &[]).with_text("rates");
    for price in prices {
        let text = |key: &str| match price[key].as_str().unwrap_or_default() {
            "" => "-".to_owned(),
            text => text.to_owned(),
        };
        let names = ["provider", "model", "service_tier", "effective_from", "origin"].map(text);
        table.push([vec![price["id"].to_string()], names.to_vec(), vec![rates_line(&price["rates"])]].concat());
    }
    table.print();
}

pub(super) fn list(args: &ListArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let (catalog, _) = with_database(config, "tallyd prices", async |db| catalog(db, config).await)?;
    let provider = args.provider.as_deref().map(normalise_provider);
    let prices = catalog.in_force().filter(|price| provider.as_deref().is_none_or(|name| name == price.provider));
    let current = prices.filter(|price| {
        let applied = catalog.price_at(&price.provider, &price.model, &price.service_tier, args.at);
        applied.is_some_and(|applied| applied.id == price.id)
    });
    let current: Vec<Value> = current.map(shown).collect();
    if let (Some(name), true) = (&provider, current.is_empty()) {
        let known: std::collections::BTreeSet<&str> = catalog.in_force().map(|price| &*price.provider).collect();
        let known: Vec<String> = known.into_iter().map(str::to_owned).collect();
        output::hint(&format!("no price of that time is of the provider {name:?}; {}", near(name, &known)));
    }
    if args.json {
        output::json(&current)?;
    } else {
        print(&current);
        println!("{}", output::noun(current.len() as u64, "price", "prices"));
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn show(args: &ShowArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let provider = normalise_provider(&args.provider).into_owned();
    let (prices, changes) = with_database(config, "tallyd prices", async |db| {
        let (catalog, _) = catalog(db, config).await?;
        // Any tier leads to the model's name in the catalog.
        let model = catalog.in_force().find_map(|price| {
            let found = catalog.price_at(&provider, &args.model, &price.service_tier, i64::MAX)?;
            Some(found.model.clone())
        });
        let model = model.unwrap_or_else(|| args.model.clone());
        let prices = catalog.in_force().filter(|price| price.provider == provider && price.model == model);
        let prices: Vec<Value> = prices.map(shown).collect();
        let changes = changes(db, Some((&provider, &model)), 100).await;
        Ok((prices, changes.map_err(|error| anyhow::anyhow!(tallyd_store::describe(&error)))?))
    })?;
    let known = !prices.is_empty();
    if args.json {
        output::json(&json!({ "prices": prices, "changes": changes }))?;
    } else {
        print(&prices);
        for change in &changes {
            println!("{} {} {} price {}", change.at, change.actor, change.action, change.price_id);
        }
    }
    if !known {
        eprintln!("error: no price is known for {provider} {:?}", args.model);
        output::hint("`tallyd prices set` adds one; `tallyd prices list` shows the names there are");
    }
    Ok(if known { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn check(args: &CheckArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let (faults, unpriced) = with_database(config, "tallyd prices", async |db| {
        let (catalog, faults) = catalog(db, config).await?;
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        let unpriced = unpriced(db, &catalog).await;
        Ok((faults, unpriced.map_err(|error| anyhow::anyhow!(tallyd_store::describe(&error)))?))
    })?;
    let clean = faults.is_empty() && unpriced.is_empty();
    if args.json {
        output::json(&json!({ "invalid_prices": faults, "unpriced": unpriced }))?;
    } else {
        faults.iter().for_each(|fault| println!("not applied: {fault}"));
        for model in &unpriced {
            let now =
                if model.priceable { "has a price now: tallyd reprice" } else { "no price of that time is known" };
            println!(
                "unpriced: {} {:?}: {} from {} to {}; {now}",
                model.provider,
                model.model,
                output::noun(model.calls, "call", "calls"),
                model.first_day,
                model.last_day
            );
        }
        if clean {
            println!("every stored price is applied, every call has a price");
        }
        if unpriced.iter().any(|model| !model.priceable) {
            output::hint(
                "`tallyd prices set` adds a price; `tallyd prices alias PROVIDER NAME MODEL` lets an ARN or a deployment's \
                 own name stand for a model that has one",
            );
        }
    }
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
