//! `tallyd prices alias`: names that stand for models.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::actor;
use crate::cli::confirm::{Confirm, Confirmation};
use crate::cli::{output, with_database};
use tallyd_config::Config;
use tallyd_model::pricing::ModelAlias;
use tallyd_store::prices::aliases::{self, AliasError};
use tallyd_store::queries::audit::Actor;

#[derive(Args)]
#[command(after_help = "Examples:
  tallyd prices alias bedrock arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc us.anthropic.claude-sonnet-4-5
  tallyd prices alias azure my-deployment gpt-4o
  tallyd prices alias azure my-deployment --remove --yes
  tallyd prices alias --list
Calls that are recorded already keep their cost until `tallyd reprice`.")]
pub(super) struct AliasArgs {
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
    #[command(flatten)]
    confirm: Confirm,
    /// Name for the audit log [default: the user]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn alias(args: &AliasArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let (Some(provider), Some(name)) = (&args.provider, &args.name) else { return list(args, config) };
    let alias =
        ModelAlias { provider: provider.clone(), name: name.clone(), model: args.model.clone().unwrap_or_default() };
    let (actor, told) = (actor(args.by.as_ref()), args.confirm.told());
    match (args.remove, told) {
        (true, Confirmation::Nothing) => return Ok(args.confirm.refuse("takes a name back")),
        (false, Confirmation::DryRun | Confirmation::Yes) => {
            output::error(&anyhow::anyhow!(
                "--yes and --dry-run go with --remove: to set a name needs no confirmation"
            ));
            return Ok(ExitCode::from(2));
        }
        _ => {}
    }
    let alias = with_database(config, "tallyd prices", async |db| {
        let transaction = db.transaction().await?;
        let by = &Actor::at_the_command_line(&actor);
        let done = if args.remove {
            aliases::remove(&transaction, provider, name, by).await.map_err(explained)?;
            alias
        } else {
            aliases::set(&transaction, &config.pricing, &alias, by).await.map_err(explained)?
        };
        if told == Confirmation::DryRun {
            transaction.rollback().await?;
        } else {
            transaction.commit().await?;
        }
        Ok(done)
    })?;
    if args.json {
        output::json(&alias)?;
    } else if told == Confirmation::DryRun {
        println!("{} {:?} would not stand for a model any more", alias.provider, alias.name);
    } else if args.remove {
        println!("{} {:?} does not stand for a model any more", alias.provider, alias.name);
    } else {
        println!("{} {:?} stands for {}", alias.provider, alias.name, alias.model);
    }
    if told == Confirmation::DryRun {
        output::hint("nothing was changed: --yes takes the name back");
        return Ok(ExitCode::SUCCESS);
    }
    output::hint("calls that are recorded already keep their cost until `tallyd reprice`");
    Ok(ExitCode::SUCCESS)
}

fn explained(error: AliasError) -> anyhow::Error {
    let hint = match error {
        AliasError::Empty(_) => "hint: `tallyd prices alias claude fast claude-haiku-4-5` names all three",
        AliasError::NotSet { .. } => "hint: `tallyd prices alias --list` shows those that are set",
        AliasError::Database(_) | AliasError::Model(_) => return error.into(),
    };
    anyhow::anyhow!("{error}. {hint}")
}

fn list(args: &AliasArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let stored = with_database(config, "tallyd prices", async |db| {
        aliases::read(db).await.map_err(|error| anyhow::anyhow!(tallyd_store::describe(&error)))
    })?;
    let configured = config.pricing.aliases.iter().map(|alias| ("config", alias));
    let all: Vec<_> = configured.chain(stored.iter().map(|alias| ("stored", alias))).collect();
    if args.json {
        let shown = |(origin, alias): &(&str, &ModelAlias)| json!({ "provider": alias.provider, "name": alias.name, "model": alias.model, "origin": origin });
        output::json(&all.iter().map(shown).collect::<Vec<_>>())?;
    } else {
        let mut table = output::Table::new(&["provider", "name", "stands for", "origin"], &[]);
        for (origin, alias) in &all {
            let cells = [&*alias.provider, &*alias.name, &*alias.model, origin];
            table.push(cells.map(str::to_owned).to_vec());
        }
        table.print();
        println!("{}", output::noun(all.len() as u64, "name", "names"));
    }
    Ok(ExitCode::SUCCESS)
}
