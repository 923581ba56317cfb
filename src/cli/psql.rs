//! `tallyd psql`: psql on the daemon's database.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use tallyd_config::Config;

/// Run psql on the daemon's database with the given arguments.
#[derive(Args)]
#[command(after_help = "Examples:\n  tallyd psql\n  tallyd psql -Atc 'SELECT count(*) FROM api_usage_log'")]
pub(super) struct PsqlArgs {
    /// psql's arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARG")]
    args: Vec<String>,
}

pub(super) fn run(args: &PsqlArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let status = super::block_on(async {
        let database = super::open_database(config).await?;
        let mut command = database.psql_command(&args.args);
        let status = tokio::task::spawn_blocking(move || command.status()).await?;
        database.close().await;
        status.context(
            "psql could not be run; it comes with PostgreSQL's client programs (`apt-get install postgresql-client`)",
        )
    })?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
