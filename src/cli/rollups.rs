//! `tallyd rollups`: work on the rollup tables.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::confirm::{Confirm, Confirmation};
use super::output::{self, noun};
use tallyd_config::Config;
use tallyd_store::queries::audit::Actor;
use tallyd_store::{Rebuild, preview_rebuild, rebuild_rollups};

/// Work on the rollup tables.
#[derive(Args)]
#[command(after_help = "Examples:
  tallyd rollups rebuild --time-zone Europe/Berlin --dry-run
  tallyd rollups rebuild --time-zone Europe/Berlin --yes")]
pub(super) struct RollupsArgs {
    #[command(subcommand)]
    command: RollupsCommand,
}

#[derive(Subcommand)]
enum RollupsCommand {
    /// Compute the rollups anew from the call log, with days in another time zone. Stop every daemon first
    #[command(
        after_help = "All days that the call log reaches are computed anew; earlier ones are kept. It refuses while a daemon runs on \
        this database, and nobody can write meanwhile.\n\nExample:\n  tallyd rollups rebuild --time-zone \
        Europe/Berlin --dry-run"
    )]
    Rebuild {
        /// The zone whose midnights part the days, as in the IANA database
        #[arg(long, value_name = "ZONE")]
        time_zone: tallyd_model::zone::Tz,
        #[command(flatten)]
        confirm: Confirm,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(args: &RollupsArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let RollupsCommand::Rebuild { time_zone, confirm, json } = &args.command;
    let dry_run = match confirm.told() {
        Confirmation::Nothing => return Ok(confirm.refuse("rebuilds the rollups")),
        Confirmation::DryRun => true,
        Confirmation::Yes => false,
    };
    let done = super::block_on(async {
        // The stated zone may be the new one, which `with_database` would refuse.
        let database = super::open_database(config).await?;
        let rebuilt = {
            let mut connection = database.connect("tallyd rollups").await?;
            match dry_run {
                true => preview_rebuild(&mut connection, time_zone.name()).await,
                false => {
                    rebuild_rollups(&mut connection, time_zone.name(), &Actor::at_the_command_line(&super::actor()))
                        .await
                }
            }
        };
        database.close().await;
        Ok(rebuilt?)
    })?;
    if *json {
        output::json(&done)?;
    } else {
        print(&done, dry_run);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(done: &Rebuild, dry_run: bool) {
    let of = |number: i64, one: &str, many: &str| noun(number.unsigned_abs(), one, many);
    let rows = of(done.rows, "row of the daily rollups", "rows of the daily rollups");
    let kept = of(done.kept_rows, "row of earlier days", "rows of earlier days");
    let done_rows = match (dry_run, done.rows) {
        (true, _) => "would be written",
        (false, 1) => "was written",
        (false, _) => "were written",
    };
    let kept_rows = match (dry_run, done.kept_rows) {
        (true, _) => "would stay",
        (false, 1) => "stays",
        (false, _) => "stay",
    };
    println!(
        "{} on {}: {rows} {done_rows}; {kept} {kept_rows}",
        of(done.calls, "call", "calls"),
        of(done.days, "day", "days"),
    );
    if dry_run {
        println!("days would be in {} instead of {}", done.to_zone, done.from_zone);
        for daemon in &done.daemons {
            output::hint(&format!("stop this daemon first: {daemon}"));
        }
        output::hint("nothing was changed: --yes rebuilds");
    } else {
        println!("days are in {zone} now", zone = done.to_zone);
        output::hint(&format!("configure rollup.time_zone = \"{}\" before a daemon is started", done.to_zone));
    }
}
