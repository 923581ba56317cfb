//! `tallyd duplicates`: calls that are in the call log more than once.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use super::confirm::{Confirm, Confirmation};
use super::output::{self, Table, noun, usd_text};
use super::prices::{actor, instant};
use super::with_database;
use tallyd_base::clock::{Clock, SystemClock};
use tallyd_config::Config;
use tallyd_store::Connection;
use tallyd_store::duplicates::{Duplicate, DuplicateKey, DuplicateSearch, drop, list};
use tallyd_store::queries::audit::Actor;

/// The period without `--from`, microseconds: 30 days.
const DEFAULT_US: i64 = 30 * 24 * 60 * 60 * 1_000_000;

/// Find calls that are in the call log more than once, and drop the doubles. The daemon knows a stated id for `wal.identity_window_days`,
/// and each daemon its own. A call that is sent again later, or to another daemon, is found here.
#[derive(Args)]
#[command(after_help = "Examples:
  tallyd duplicates list --from 2026-11-01 --to 2026-12-01
  tallyd duplicates list --same response --json | jq '.[].key'
  tallyd duplicates drop --from 2026-11-01 --to 2026-12-01 --yes")]
pub(super) struct DuplicatesArgs {
    #[command(subcommand)]
    command: DuplicatesCommand,
}

#[derive(Subcommand)]
enum DuplicatesCommand {
    /// List calls that are there more than once, the earliest first
    #[command(after_help = "Example:\n  tallyd duplicates list --from 2026-11-01")]
    List {
        #[command(flatten)]
        where_to_look: Where,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Keep the first row of each such call, and take the others out of the call log and the rollups
    #[command(after_help = "Example:\n  tallyd duplicates drop --from 2026-11-01 --yes")]
    Drop {
        #[command(flatten)]
        where_to_look: Where,
        #[command(flatten)]
        confirm: Confirm,
        /// Name for the audit log [default: the user]
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct Where {
    /// Calls from here on: a date (midnight UTC) or RFC 3339 [default: 30 days before --to]
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    from: Option<i64>,
    /// Calls before this: now, a date (midnight UTC) or RFC 3339 [default: now]
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    to: Option<i64>,
    /// The key that rows of one call share
    #[arg(long, default_value = "id")]
    same: Same,
    /// Most calls to show or settle
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=1_000_000))]
    limit: i64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Same {
    /// The id
    Id,
    /// The provider and the vendor's id of the response, where `request_id` has a vendor's form: also of calls that stated two ids on
    /// purpose, so look at the list first
    Response,
}

impl Where {
    fn search(&self) -> anyhow::Result<DuplicateSearch> {
        // A call may have a time a little in the future.
        let to_us = self.to.unwrap_or_else(|| SystemClock.now_us().saturating_add(60 * 60 * 1_000_000));
        let from_us = self.from.unwrap_or(to_us.saturating_sub(DEFAULT_US));
        if from_us >= to_us {
            anyhow::bail!("--from must be before --to. hint: --to is the first instant that is left out");
        }
        let key = match self.same {
            Same::Id => DuplicateKey::Id,
            Same::Response => DuplicateKey::Response,
        };
        Ok(DuplicateSearch { from_us, to_us, key, limit: self.limit })
    }
}

pub(super) fn run(args: &DuplicatesArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let (told, where_to_look, by, as_json) = match &args.command {
        DuplicatesCommand::List { where_to_look, json } => (None, where_to_look, None, *json),
        DuplicatesCommand::Drop { where_to_look, confirm, by, json } => {
            let told = confirm.told();
            if told == Confirmation::Nothing {
                return Ok(confirm.refuse("deletes rows of the call log for good"));
            }
            (Some(told), where_to_look, by.as_ref(), *json)
        }
    };
    let (search, actor) = (where_to_look.search()?, actor(by));
    with_database(config, "tallyd duplicates", async |db| {
        if told != Some(Confirmation::Yes) {
            show(db, &search, as_json).await?;
            if told == Some(Confirmation::DryRun) {
                output::hint("nothing was changed: --yes keeps the first row of each call and drops the others");
            }
            return Ok(ExitCode::SUCCESS);
        }
        let dropped = drop(db, &search, &Actor::at_the_command_line(&actor)).await?;
        if as_json {
            output::json(&dropped)?;
        } else {
            println!("dropped {}, {} USD", noun(dropped.rows, "row", "rows"), usd_text(&dropped.cost_usd));
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn show(db: &Connection, search: &DuplicateSearch, json: bool) -> anyhow::Result<()> {
    let found = list(db, search).await?;
    if json {
        return output::json(&found);
    }
    let headings = ["key", "provider", "model", "user", "first", "last"];
    let mut table = Table::new(&headings, &["rows", "USD too much"]).with_text("");
    for duplicate in &found {
        let Duplicate { key, provider, model, user_id, rows, first_at, last_at, extra_usd, differs } = duplicate;
        let name = |name: &str| if name.is_empty() { "-".to_owned() } else { name.to_owned() };
        let differs = if *differs { "their costs differ" } else { "" };
        table.push(vec![
            name(key),
            name(provider),
            name(model),
            name(user_id),
            first_at.to_string(),
            last_at.to_string(),
            rows.to_string(),
            usd_text(extra_usd),
            differs.to_owned(),
        ]);
    }
    table.print();
    let rows: i64 = found.iter().map(|duplicate| duplicate.rows - 1).sum();
    let calls = noun(found.len() as u64, "call is", "calls are");
    println!("{calls} there more than once: {} too many", noun(rows.unsigned_abs(), "row", "rows"));
    if found.len() as i64 == search.limit {
        output::hint("there may be more: raise --limit, or ask for a shorter period");
    }
    Ok(())
}
