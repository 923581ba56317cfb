//! `tallyd config`: checks and shows the configuration.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::output;
use tallyd_config::Config;

/// Look at the configuration.
#[derive(Args)]
#[command(after_help = "Examples:\n  tallyd config check\n  TALLYD_WAL_SYNC=os tallyd config check --show")]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Check the configuration that a daemon started here would have, with files and variables that it names. Exits 2 if something in it is wrong
    Check {
        /// Print it, secrets redacted
        #[arg(long)]
        show: bool,
    },
}

pub(super) fn run(args: &ConfigArgs, config: &Config) -> anyhow::Result<ExitCode> {
    // Every command loads the configuration first, so it is valid here. Only the daemon needs the values that are elsewhere.
    let ConfigCommand::Check { show } = &args.command;
    if let Err(error) = config.read_elsewhere() {
        output::error(&error.into());
        return Ok(ExitCode::from(2));
    }
    if *show {
        print!("{}", config.effective_toml()?);
    } else {
        println!("the configuration is right");
    }
    Ok(ExitCode::SUCCESS)
}
