//! `tallyd dead-letters`: lists, retries and drops refused records.
//!
//! The commands use the database, not the daemon, so no daemon need run.

mod filter;
mod retry;
mod show;

use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::confirm::{Confirm, Confirmation};
use super::{actor, output};
use filter::FilterArgs;
use tallyd_base::clock::{Clock, SystemClock};
use tallyd_config::Config;
use tallyd_model::pricing::normalise_provider;
use tallyd_store::dead_letters::{self, DeadLetter, Filter, Order};
use tallyd_store::queries::audit::Actor;
use tallyd_store::queries::names::near;
use tallyd_store::{Connection, Database, describe};

/// Look at records that the daemon or PostgreSQL refused, and retry or drop them.
#[derive(Args)]
#[command(after_help = "Examples:
  tallyd dead-letters list --code unknown_field --since 24h
  tallyd dead-letters groups
  tallyd dead-letters show 42
  tallyd dead-letters retry 42 --set occurred_at=2026-11-23T10:00:00Z
  tallyd dead-letters retry --code too_long --since 7d --unset metadata
  tallyd dead-letters drop --producer test-1 --yes")]
pub(super) struct DeadLettersArgs {
    #[command(subcommand)]
    command: DeadLettersCommand,
}

#[derive(Subcommand)]
enum DeadLettersCommand {
    /// List letters, the newest first
    List(ListArgs),
    /// Count refusals by sender, reason and field, those that are only counted included
    #[command(after_help = "Example:\n  tallyd dead-letters groups --days 30")]
    Groups(GroupsArgs),
    /// Show letters whole, with the record as it was received
    #[command(after_help = "Example:\n  tallyd dead-letters show 42 --json | jq '.[0].record'")]
    Show(ShowArgs),
    /// Load letters' records, each exactly once; letters that are refused again stay. Exits 0 if none was
    #[command(after_help = retry::EXAMPLES)]
    Retry(retry::RetryArgs),
    /// Delete letters' records for good; the reasons' codes stay
    #[command(after_help = "Example:\n  tallyd dead-letters drop --code nul --until 2026-11-01 --yes")]
    Drop(DropArgs),
    /// Print letters as NDJSON, the oldest first
    #[command(after_help = "Example:\n  tallyd dead-letters export --all --since 7d > letters.ndjson")]
    Export(ExportArgs),
}

#[derive(Args)]
#[command(after_help = "Example:\n  tallyd dead-letters list --kind poison --provider claude --limit 10")]
struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Settled letters, too: retried and dropped ones
    #[arg(long)]
    all: bool,
    /// Most letters to list
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: usize,
    /// Print JSON, with each record
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct GroupsArgs {
    /// Days of arrival (UTC), today included
    #[arg(long, default_value_t = 7, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=366))]
    days: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ShowArgs {
    /// Their numbers
    #[arg(required = true, value_name = "ID")]
    ids: Vec<i64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct DropArgs {
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    confirm: Confirm,
    /// Print the numbers as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ExportArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Settled letters, too
    #[arg(long)]
    all: bool,
}

pub(super) fn run(args: &DeadLettersArgs, config: &Config) -> anyhow::Result<ExitCode> {
    super::block_on(async {
        let database = super::open_database(config).await?;
        super::reporting_zone(&connect(&database).await?, config).await?;
        let done = match &args.command {
            DeadLettersCommand::List(args) => list(args, &database).await,
            DeadLettersCommand::Groups(args) => groups(args, &database).await,
            DeadLettersCommand::Show(args) => show(args, &database).await,
            DeadLettersCommand::Retry(args) => retry::run(args, config, &database).await,
            DeadLettersCommand::Drop(args) => drop_letters(args, &database).await,
            DeadLettersCommand::Export(args) => export(args, &database).await,
        };
        database.close().await;
        done
    })
}

async fn connect(database: &Database) -> anyhow::Result<Connection> {
    Ok(database.connect("tallyd dead-letters").await?)
}

/// PostgreSQL's error, with a hint if the schema is not this version's.
fn told(error: &tokio_postgres::Error) -> anyhow::Error {
    use tokio_postgres::error::SqlState;
    let text = describe(error);
    match error.code() {
        Some(&SqlState::UNDEFINED_TABLE | &SqlState::UNDEFINED_COLUMN) => {
            anyhow::anyhow!("{text}: the schema is not this version's; run `tallyd migrate`")
        }
        _ => anyhow::anyhow!(text),
    }
}

/// Hands pages of letters to `take`, until it returns false or there are no more.
async fn each_page(
    connection: &Connection,
    filter: &Filter,
    order: Order,
    mut take: impl FnMut(Vec<DeadLetter>) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let mut after = None;
    loop {
        let (letters, last) =
            dead_letters::page(connection, filter, order, after).await.map_err(|error| told(&error))?;
        if last.is_none() || !take(letters)? {
            return Ok(());
        }
        after = last;
    }
}

/// For an empty result: prints a hint for each name of the filter that no letter has, with the names that letters have.
async fn point_out(connection: &Connection, filter: &Filter) -> anyhow::Result<()> {
    let codes = filter.codes.iter().map(|code| ("reason", "code", code));
    let others = [("field", "field", &filter.field), ("sender", "producer", &filter.producer)];
    let others = others.into_iter().filter_map(|(what, column, name)| Some((what, column, name.as_ref()?)));
    for (what, column, name) in codes.chain(others) {
        let known = dead_letters::names(connection, column).await.map_err(|error| told(&error))?;
        if !known.contains(name) {
            output::hint(&format!("no dead letter has the {what} {name:?}; {}", near(name, &known)));
        }
    }
    if let Some(name) = filter.provider.as_deref().map(normalise_provider) {
        let known = providers(connection, filter.settled).await?;
        if !known.iter().any(|known| *known == name) {
            output::hint(&format!("no dead letter has the provider {name:?}; {}", near(&name, &known)));
        }
    }
    Ok(())
}

/// The most letters that are read for the providers in their records.
const LETTERS_LOOKED_AT: usize = 10_000;

/// The providers in the newest letters' records. The names are in the payloads, so the letters are read.
async fn providers(connection: &Connection, settled: bool) -> anyhow::Result<Vec<String>> {
    let (mut names, mut read) = (BTreeSet::new(), 0);
    let any = Filter { settled, ..Filter::default() };
    each_page(connection, &any, Order::NewestFirst, |page| {
        read += page.len();
        names.extend(page.iter().map(|letter| letter.payload.provider()).filter(|name| !name.is_empty()));
        Ok(read < LETTERS_LOOKED_AT)
    })
    .await?;
    Ok(names.into_iter().collect())
}

async fn list(args: &ListArgs, database: &Database) -> anyhow::Result<ExitCode> {
    let connection = connect(database).await?;
    let filter = Filter { settled: args.all, ..args.filter.filter()? };
    let mut letters = Vec::new();
    let enough = args.limit.saturating_add(1);
    each_page(&connection, &filter, Order::NewestFirst, |page| {
        letters.extend(page.into_iter().take(enough - letters.len()));
        Ok(letters.len() < enough)
    })
    .await?;
    let more = letters.len() > args.limit;
    letters.truncate(args.limit);
    if args.json {
        output::json(&letters)?;
    } else {
        show::list(&letters).print();
        let open = dead_letters::count(&connection).await.map_err(|error| told(&error))?;
        eprintln!("{} for a decision", output::noun(open, "dead letter waits", "dead letters wait"));
    }
    if letters.is_empty() {
        point_out(&connection, &filter).await?;
    }
    if more {
        output::hint(&format!("there are more than {}: give --limit, or `tallyd dead-letters export`", args.limit));
    }
    Ok(ExitCode::SUCCESS)
}

/// The most groups of a list.
const GROUPS: i64 = 100;

async fn groups(args: &GroupsArgs, database: &Database) -> anyhow::Result<ExitCode> {
    let connection = connect(database).await?;
    let today = tallyd_store::dead_letters::quota::day_of(SystemClock.now_us());
    let from = today - chrono::Days::new(u64::from(args.days) - 1);
    let found = dead_letters::groups(&connection, from, GROUPS).await.map_err(|error| told(&error))?;
    if args.json {
        output::json(&found)?;
        return Ok(ExitCode::SUCCESS);
    }
    show::groups(&found.groups).print();
    let (refused, open) = (found.refused.unsigned_abs(), found.open.unsigned_abs());
    let refused = output::noun(refused, "record was refused", "records were refused");
    eprintln!("{refused}, {} for a decision", output::noun(open, "letter waits", "letters wait"));
    if found.only_counted > 0 {
        output::hint("records that are only counted came beyond a bound of [dead_letters]; they cannot be retried");
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(args: &ShowArgs, database: &Database) -> anyhow::Result<ExitCode> {
    let connection = connect(database).await?;
    let mut letters = Vec::new();
    for id in &args.ids {
        match dead_letters::get(&connection, *id).await.map_err(|error| told(&error))? {
            Some(letter) => letters.push(letter),
            None => output::error(&anyhow::anyhow!("there is no dead letter {id}")),
        }
    }
    if args.json {
        output::json(&letters)?;
    } else {
        for letter in &letters {
            print!("{}", show::whole(letter)?);
        }
    }
    Ok(if letters.len() == args.ids.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn drop_letters(args: &DropArgs, database: &Database) -> anyhow::Result<ExitCode> {
    let filter = args.filter.required("drop")?;
    let confirmed = args.confirm.told();
    if confirmed == Confirmation::Nothing {
        return Ok(args.confirm.refuse("deletes records for good"));
    }
    let mut connection = connect(database).await?;
    let mut ids = Vec::new();
    each_page(&connection, &filter, Order::OldestFirst, |page| {
        ids.extend(page.iter().map(|letter| letter.id));
        Ok(true)
    })
    .await?;
    if ids.is_empty() {
        point_out(&connection, &filter).await?;
    }
    if confirmed == Confirmation::DryRun {
        if args.json {
            output::json(&serde_json::json!({ "due": ids.len(), "dropped": null }))?;
        } else {
            let letters = output::noun(ids.len() as u64, "dead letter", "dead letters");
            println!("{letters} would be dropped with their records");
            output::hint("nothing was changed: --yes drops them; `tallyd dead-letters export` keeps a copy");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut dropped = 0;
    for ids in ids.chunks(10_000) {
        let transaction = connection.transaction().await?;
        let name = actor();
        let by = Actor::at_the_command_line(&name);
        dropped += dead_letters::drop_letters(transaction.client(), ids, &by).await.map_err(|error| told(&error))?;
        transaction.commit().await?;
    }
    if args.json {
        output::json(&serde_json::json!({ "dropped": dropped }))?;
    } else {
        println!("{} dropped", output::noun(dropped, "dead letter", "dead letters"));
    }
    Ok(ExitCode::SUCCESS)
}

async fn export(args: &ExportArgs, database: &Database) -> anyhow::Result<ExitCode> {
    let connection = connect(database).await?;
    let filter = Filter { settled: args.all, ..args.filter.filter()? };
    let (mut out, mut is_empty) = (output::Stream::new(), true);
    each_page(&connection, &filter, Order::OldestFirst, |page| {
        is_empty &= page.is_empty();
        for letter in page {
            if !out.line(&letter)? {
                return Ok(false);
            }
        }
        out.flush()
    })
    .await?;
    if is_empty {
        point_out(&connection, &filter).await?;
    }
    Ok(ExitCode::SUCCESS)
}
