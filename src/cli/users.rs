//! `tallyd users`: lists users with their costs, and forgets a user.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::confirm::{Confirm, Confirmation};
use super::output::{self, Table, cost, count, noun, usd_text};
use super::with_database;
use tallyd_config::Config;
use tallyd_store::forget::{ForgetOptions, ForgetPreview, Forgotten, forget, preview};
use tallyd_store::queries::audit::Actor;
use tallyd_store::queries::users::list::List;
use tallyd_store::queries::users::{CountIs, UserQuestion, UserSort};

/// List users with their costs, and forget one.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  tallyd users list --limit 10\n  tallyd users forget u-42 --dry-run\n  tallyd users forget u-42 --yes"
)]
pub(super) struct UsersArgs {
    #[command(subcommand)]
    command: UsersCommand,
}

#[derive(Subcommand)]
enum UsersCommand {
    /// Show the lifetime costs of each user, the largest first
    List {
        /// Only users whose id begins with this, or a shown column of [users] contains it
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
        /// Most lines to show
        #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// Print every digit instead of cents
        #[arg(long)]
        exact: bool,
        /// Print JSON, with every digit
        #[arg(long)]
        json: bool,
    },
    /// Make all calls of a user anonymous. Every sum except the user's own stays the same
    #[command(after_help = "Calls go to the user id '' of calls without a user; \
        their request ids and metadata are emptied. The user's dead letters are corrected, budgets and alerts deleted. A hash of \
        the id is kept, by which the daemons make records anonymous that arrive later; --once keeps none. Killed, it goes on when \
        the same command is run again.\n\nExample:\n  tallyd users forget u-42 --yes")]
    Forget {
        /// The id, as records have it
        #[arg(value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
        id: String,
        #[command(flatten)]
        confirm: Confirm,
        /// Let records that arrive later under this id count as before
        #[arg(long)]
        once: bool,
        /// About how many calls one transaction takes
        #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        batch_calls: u32,
        /// Name for the audit log [default: the user]
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

fn print_preview(found: &ForgetPreview) {
    println!(
        "{}, {} USD on {} ({} dropped from the call log), {}, {}{}",
        noun(found.calls.unsigned_abs(), "call", "calls"),
        usd_text(&found.cost_usd),
        noun(found.days.unsigned_abs(), "day", "days"),
        noun(found.dropped_calls.unsigned_abs(), "call of them is", "calls of them are"),
        noun(found.dead_letters.unsigned_abs(), "dead letter", "dead letters"),
        noun(found.budgets.unsigned_abs(), "budget", "budgets"),
        if found.is_marked { "; forgotten before, and marked" } else { "" }
    );
}

fn print(done: &Forgotten) {
    println!(
        "{} of the call log and {} that had been dropped are anonymous now; {} corrected, {} dropped; deleted: {}, {}; {} the id",
        noun(done.calls, "call", "calls"),
        count(done.dropped_calls),
        noun(done.letters_corrected, "dead letter was", "dead letters were"),
        count(done.letters_dropped),
        noun(done.budgets, "budget", "budgets"),
        noun(done.alerts, "alert", "alerts"),
        noun(done.audit_entries, "entry of the audit log lost", "entries of the audit log lost")
    );
}

pub(super) fn run(args: &UsersArgs, config: &Config) -> anyhow::Result<ExitCode> {
    match &args.command {
        UsersCommand::List { search, limit, exact, json } => {
            let question = UserQuestion {
                search: search.clone(),
                sort: UserSort::Cost,
                descending: true,
                limit: *limit as usize,
                after: None,
            };
            list(&question, *exact, *json, config)
        }
        command @ UsersCommand::Forget { .. } => forget_one(command, config),
    }
}

fn list(question: &UserQuestion, exact: bool, as_json: bool, config: &Config) -> anyhow::Result<ExitCode> {
    let (page, total, as_of) = with_database(config, "tallyd users", async |db| {
        let list = List::open(db, &config.users).await?;
        Ok((list.page(question).await?, list.count(question.search.as_deref()).await?, list.as_of()))
    })?;
    if let Some(at) = as_of {
        output::loading(at);
    }
    if as_json {
        output::json(&page.users)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["user", "known as", "last call"], &["calls", "unpriced", "USD"]);
    for user in &page.users {
        let last = user.last_call_at.map_or_else(|| "never".to_owned(), |at| at.format("%Y-%m-%d").to_string());
        let (calls, unpriced) = (user.total_calls.to_u64(), user.unpriced_calls.to_u64());
        let mut cells = vec![user.id.clone(), user.shown.clone().unwrap_or_else(|| "-".to_owned()), last];
        cells.extend([count(calls), count(unpriced), cost(user.cost_usd, calls, unpriced, exact)]);
        table.push(cells);
    }
    table.print();
    if let (Some(search), true) = (&question.search, page.users.is_empty()) {
        output::hint(&format!("no user's id begins with {search:?}, and no shown column has it"));
    }
    if page.next.is_some() {
        let said = match total.is {
            CountIs::Exact => "",
            CountIs::Estimate => "about ",
            CountIs::AtLeast => "at least ",
        };
        output::hint(&format!("{said}{} in all: give --limit", noun(total.users.unsigned_abs(), "user", "users")));
    }
    Ok(ExitCode::SUCCESS)
}

fn forget_one(command: &UsersCommand, config: &Config) -> anyhow::Result<ExitCode> {
    let UsersCommand::Forget { id, confirm, once, batch_calls, by, json: as_json } = command else {
        return Ok(ExitCode::from(2));
    };
    let told = confirm.told();
    if told == Confirmation::Nothing {
        return Ok(confirm.refuse("forgets a user for good"));
    }
    let actor = by.clone().unwrap_or_else(super::actor);
    let by = Actor::at_the_command_line(&actor);
    let options = ForgetOptions { user_id: id, batch_calls: *batch_calls, keep_mark: !once, by };
    with_database(config, "tallyd users", async |db| {
        let found = preview(db, id).await?;
        if !as_json {
            print_preview(&found);
        }
        if told == Confirmation::DryRun {
            if *as_json {
                output::json(&json!({ "found": found, "done": null }))?;
            } else {
                output::hint("nothing was changed: --yes forgets the user");
            }
            return Ok(ExitCode::SUCCESS);
        }
        // Drawn on stderr, and only if that is a terminal.
        let bar = ProgressBar::new(found.calls.unsigned_abs());
        bar.set_style(ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} calls, {eta} left")?);
        let done = forget(db, &options, |done| bar.set_position(done.calls + done.dropped_calls)).await?;
        bar.finish_and_clear();
        if *as_json {
            output::json(&json!({ "found": found, "done": done }))?;
        } else {
            print(&done);
            if options.keep_mark {
                output::hint("records that are still on their way become anonymous at the daemons' hourly upkeep");
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}
