//! `tallyd prices diff` and `import`.

use std::process::ExitCode;

use anyhow::bail;
use chrono::DateTime;
use clap::Args;
use serde_json::json;

use super::{actor, catalog, instant, rates_line, since};
use crate::cli::{output, with_database};
use crate::outbound::price_list;
use tallyd_base::clock::{Clock, SystemClock};
use tallyd_config::Config;
use tallyd_model::pricing::import::{ImportOptions, Imported, ListChange, diff as compare, read};
use tallyd_model::pricing::{Added, Catalog, normalise_provider};
use tallyd_store::prices::{ChangeNote, add_list};
use tallyd_store::queries::audit::Actor;

#[derive(Args)]
pub(super) struct ListArgs {
    /// A file or an http(s) address: LiteLLM's model_prices_and_context_window.json, or genai-prices' data.json
    list: String,
    /// From when on the list's prices hold: now, always, a date (midnight UTC), or RFC 3339
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    from: i64,
    /// Only the prices of this provider or platform. Repeatable [default: all]
    #[arg(long = "provider", value_name = "NAME")]
    providers: Vec<String>,
    /// Compare with the built-in prices and those of config.toml: the database is not asked
    #[arg(long)]
    builtin: bool,
    /// Also list each model that is not taken
    #[arg(long)]
    verbose: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct ImportArgs {
    #[command(flatten)]
    list: ListArgs,
    /// Add the prices that differ
    #[arg(long)]
    apply: bool,
    /// Name for the audit log [default: the user]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

struct Compared {
    changes: Vec<ListChange>,
    imported: Imported,
    ids: Vec<i32>,
}

/// Reads the list.
async fn listed(args: &ListArgs) -> anyhow::Result<Imported> {
    let today = DateTime::from_timestamp_micros(SystemClock.now_us()).unwrap_or_default().date_naive();
    let options = ImportOptions {
        providers: args.providers.iter().map(|name| normalise_provider(name).into_owned()).collect(),
        from_us: args.from,
        source: args.list.clone(),
        source_date: today.to_string(),
    };
    Ok(read(&price_list(&args.list).await?, &options)?.1)
}

fn work(args: &ListArgs, config: &Config, apply_by: Option<&str>) -> anyhow::Result<Compared> {
    if args.builtin {
        if apply_by.is_some() {
            bail!("--builtin compares without the database, to which --apply would add");
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let imported = runtime.block_on(listed(args))?;
        let changes = compare(&Catalog::layered(&config.pricing, &Added::default())?.0, &imported.specs);
        return Ok(Compared { changes, imported, ids: Vec::new() });
    }
    with_database(config, "tallyd prices", async |db| {
        let imported = listed(args).await?;
        let (catalog, _) = catalog(db, config).await?;
        let changes = compare(&catalog, &imported.specs);
        let mut ids = Vec::new();
        if let Some(actor) = apply_by {
            let transaction = db.transaction().await?;
            let specs: Vec<_> = changes.iter().map(|change| change.spec.clone()).collect();
            let note = ChangeNote { by: Actor::at_the_command_line(actor), origin: "import", note: &args.list };
            ids = add_list(&transaction, &specs, &note).await?;
            transaction.commit().await?;
        }
        Ok(Compared { changes, imported, ids })
    })
}

fn print(args: &ListArgs, compared: &Compared) -> anyhow::Result<()> {
    let Compared { changes, imported, ids } = compared;
    if args.json {
        return output::json(&json!({
            "changes": changes, "unread_fields": imported.unread, "skipped": imported.skipped, "added_ids": ids,
            "priced_models": imported.priced, "taken_models": imported.taken,
        }));
    }
    for change in changes {
        println!(
            "{} {} {}, since {}",
            change.provider,
            change.model,
            change.service_tier,
            since(change.spec.effective_from_us)
        );
        if let Some(old) = &change.old {
            println!("  - {}", rates_line(old));
        }
        println!("  + {}", rates_line(&change.new));
    }
    let equal = imported.specs.len() - changes.len();
    println!(
        "{}, {}, {} taken",
        output::noun(changes.len(), "differs", "differ"),
        output::noun(equal, "is equal", "are equal"),
        output::noun(imported.skipped.len(), "was not", "were not")
    );
    println!(
        "taken were {} of the list's {}",
        imported.taken,
        output::noun(imported.priced, "model with a price", "models with a price")
    );
    if args.verbose {
        imported.skipped.iter().for_each(|(model, reason)| println!("  not taken: {model}: {reason}"));
    }
    for (field, models) in &imported.unread {
        let unit = if field.contains("cost") { "; a call that uses its unit is unpriced" } else { "" };
        println!("  not read: {field}, of {}{unit}", output::noun(*models, "model", "models"));
    }
    Ok(())
}

pub(super) fn diff(args: &ListArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let compared = work(args, config, None)?;
    print(args, &compared)?;
    Ok(if compared.changes.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn import(args: &ImportArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let actor = actor(args.by.as_ref());
    let compared = work(&args.list, config, args.apply.then_some(actor.as_str()))?;
    print(&args.list, &compared)?;
    if args.apply {
        eprintln!("{} added", output::noun(compared.ids.len() as u64, "price was", "prices were"));
        output::hint("calls that are recorded already keep their cost until `tallyd reprice`");
    } else if !compared.changes.is_empty() {
        output::hint("nothing was changed; --apply adds the differences");
    }
    Ok(ExitCode::SUCCESS)
}
