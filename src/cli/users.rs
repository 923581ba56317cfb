//! `tallyd users`: forget one.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::output::{self, count};
use super::with_database;
use crate::config::Config;
use crate::database::forget::{ForgetOptions, Forgotten, Preview, forget, preview};

/// Forget a user.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  tallyd users forget 7d0c61f2-51a2-4d5f-a9be-0d3b0a6fd1c4\n  tallyd users forget u-42 --yes"
)]
pub struct UsersArgs {
    #[command(subcommand)]
    command: UsersCommand,
}

#[derive(Subcommand)]
enum UsersCommand {
    /// Make all calls of a user anonymous. Every sum but the user's own stays what it was
    #[command(
        after_help = "Without --yes it only shows what would be done. Calls go to the user id '' of calls that name nobody; \
        their request ids and metadata are emptied. The user's dead letters are corrected, budgets and alerts deleted. A hash of \
        the id is kept, by which the daemons make records anonymous that arrive later; --once keeps none. Killed, it goes on when \
        the same command is run again.\n\nExample:\n  tallyd users forget u-42 --yes"
    )]
    Forget {
        /// The id, as records have it
        #[arg(value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
        id: String,
        /// Do it
        #[arg(long)]
        yes: bool,
        /// Let records that arrive later under this id count as before
        #[arg(long)]
        once: bool,
        /// About how many calls one transaction takes
        #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        batch_calls: u32,
        /// Who, for the record [default: the user]
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

fn print_preview(found: &Preview) {
    println!(
        "{} calls, {} USD on {} days ({} calls of them are dropped from the log), {} dead letters, {} budgets{}",
        count(found.calls.unsigned_abs()),
        found.cost_usd,
        count(found.days.unsigned_abs()),
        count(found.dropped_calls.unsigned_abs()),
        found.dead_letters,
        found.budgets,
        if found.is_marked { "; forgotten before, and marked" } else { "" }
    );
}

fn print(done: &Forgotten) {
    println!(
        "{} calls and {} dropped ones are nobody's now; {} dead letters were corrected, {} dropped; {} budgets and {} alerts \
         were deleted; {} entries of the audit log lost the id",
        count(done.calls),
        count(done.dropped_calls),
        done.letters_corrected,
        done.letters_dropped,
        done.budgets,
        done.alerts,
        done.audit_entries
    );
}

pub fn run(args: &UsersArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let UsersCommand::Forget { id, yes, once, batch_calls, by, json: as_json } = &args.command;
    let actor = by.clone().unwrap_or_else(super::actor);
    let options =
        ForgetOptions { user_id: id, batch_calls: *batch_calls, keep_mark: !once, actor: &actor, address: "" };
    with_database(config, "tallyd users", async |db| {
        let found = preview(db, id).await?;
        if !as_json {
            print_preview(&found);
        }
        if !yes {
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
