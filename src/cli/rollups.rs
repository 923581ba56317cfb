//! `tallyd rollups`: work on the rollup tables.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::config::Config;
use crate::database::{Database, DatabaseOptions, rebuild_rollups};

/// Work on the rollup tables.
#[derive(Args)]
#[command(after_help = "Examples:\n  tallyd rollups rebuild --time-zone Europe/Berlin")]
pub struct RollupsArgs {
    #[command(subcommand)]
    command: RollupsCommand,
}

#[derive(Subcommand)]
enum RollupsCommand {
    /// Compute the daily tables anew from the log, with days in another time zone. Stop every daemon first
    Rebuild {
        /// The zone whose midnights part the days, as in the IANA database
        #[arg(long, value_name = "ZONE")]
        time_zone: chrono_tz::Tz,
    },
}

pub fn run(args: &RollupsArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let RollupsCommand::Rebuild { time_zone } = &args.command;
    super::block_on(async {
        let database = Database::open(&DatabaseOptions::from(config)).await?;
        let rebuilt = {
            let mut connection = database.connect("tallyd rollups").await?;
            rebuild_rollups(&mut connection, time_zone.name()).await
        };
        database.close().await;
        Ok(rebuilt?)
    })?;
    println!("the rollups have days in {time_zone} now; configure rollup.time_zone = \"{time_zone}\"");
    Ok(ExitCode::SUCCESS)
}
