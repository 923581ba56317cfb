//! `tallyd prices alias`: what names of models stand for.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use serde_json::json;

use super::{actor, catalog};
use crate::cli::{output, with_database};
use crate::config::Config;
use crate::database::prices::{aliases, read_added};
use crate::pricing::{Added, Catalog, CatalogError, ModelAlias, normalise_provider};

#[derive(Args)]
#[command(after_help = "Examples:
  tallyd prices alias bedrock arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc us.anthropic.claude-sonnet-4-5
  tallyd prices alias azure my-deployment gpt-4o
  tallyd prices alias azure my-deployment --remove
  tallyd prices alias --list
Calls that are recorded already keep their cost until `tallyd reprice`.")]
pub struct AliasArgs {
    /// The provider or platform that calls of the name are priced by
    #[arg(required_unless_present = "list")]
    provider: Option<String>,
    /// The name that calls have as their model
    #[arg(required_unless_present = "list")]
    name: Option<String>,
    /// The model that it stands for
    #[arg(required_unless_present_any = ["list", "remove"])]
    model: Option<String>,
    /// List the names in force
    #[arg(long, conflicts_with_all = ["provider", "remove"])]
    list: bool,
    /// Take the name back
    #[arg(long, conflicts_with = "model")]
    remove: bool,
    /// Who, for the record [default: the user]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn alias(args: &AliasArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let (Some(provider), Some(name)) = (&args.provider, &args.name) else { return list(args, config) };
    let provider = normalise_provider(provider).into_owned();
    let alias = ModelAlias { provider, name: name.clone(), model: args.model.clone().unwrap_or_default() };
    if !args.remove {
        check(config, &alias)?;
    }
    let actor = actor(args.by.as_ref());
    with_database(config, "tallyd prices", async |db| {
        let (catalog, _) = catalog(db, config).await?;
        let is_set = catalog.price_at(&alias.provider, &alias.name, "standard", i64::MAX).is_some();
        if args.remove && !is_set {
            bail!("{:?} is not a name of a model at {}", alias.name, alias.provider);
        }
        let transaction = db.transaction().await?;
        aliases::set(&transaction, &alias, &actor).await?;
        Ok(transaction.commit().await?)
    })?;
    if args.json {
        output::json(&alias)?;
    } else if args.remove {
        println!("{} {:?} does not stand for a model any more", alias.provider, alias.name);
    } else {
        println!("{} {:?} stands for {}", alias.provider, alias.name, alias.model);
    }
    output::hint("calls that are recorded already keep their cost until `tallyd reprice`");
    Ok(ExitCode::SUCCESS)
}

/// The model must have a price: a name that leads nowhere would be found out by its unpriced calls alone.
fn check(config: &Config, alias: &ModelAlias) -> anyhow::Result<()> {
    let faults = with_database(config, "tallyd prices", async |db| {
        let prices = read_added(db).await.map_err(|error| anyhow::anyhow!(crate::database::describe(&error)))?.prices;
        Ok(Catalog::layered(&config.pricing, &Added { prices, aliases: vec![alias.clone()] })?.1)
    })?;
    match faults.into_iter().find(|fault| matches!(fault, CatalogError::NoModel { name, .. } if *name == alias.name)) {
        Some(fault) => Err(fault.into()),
        None => Ok(()),
    }
}

fn list(args: &AliasArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let stored = with_database(config, "tallyd prices", async |db| {
        aliases::read(db).await.map_err(|error| anyhow::anyhow!(crate::database::describe(&error)))
    })?;
    let configured = config.pricing.aliases.iter().map(|alias| ("config", alias));
    let all: Vec<_> = configured.chain(stored.iter().map(|alias| ("stored", alias))).collect();
    if args.json {
        let shown = |(origin, alias): &(&str, &ModelAlias)| json!({ "provider": alias.provider, "name": alias.name, "model": alias.model, "origin": origin });
        output::json(&all.iter().map(shown).collect::<Vec<_>>())?;
    } else {
        for (origin, alias) in &all {
            println!("{} {:?} stands for {} ({origin})", alias.provider, alias.name, alias.model);
        }
        println!("{} names", all.len());
    }
    Ok(ExitCode::SUCCESS)
}
