//! `tallyd migrate`: the schema, brought up to date.

use std::process::ExitCode;

use clap::Args;

use super::output;
use crate::config::Config;
use crate::database::{Database, DatabaseOptions, MigrateOptions, migrate};

/// Bring the database's schema up to date. The daemon does the same when it starts.
#[derive(Args)]
#[command(after_help = "Examples:\n  tallyd migrate --database-url postgresql://postgres@localhost/app")]
pub struct MigrateArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &MigrateArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let (report, url) = super::block_on(async {
        let database = Database::open(&DatabaseOptions::from(config)).await?;
        let report = {
            let mut connection = database.connect("tallyd migrate").await?;
            migrate(&mut connection, &MigrateOptions::from(config)).await
        };
        let url = database.redacted_url();
        database.close().await;
        Ok((report?, url))
    })?;
    if args.json {
        output::json(&report)?;
    } else if report.applied.is_empty() {
        println!("{url} was up to date");
    } else {
        for name in &report.applied {
            println!("applied {name}");
        }
        println!("{url} is up to date");
    }
    if !args.json {
        for line in report.access.advice() {
            output::hint(&line);
        }
    }
    Ok(ExitCode::SUCCESS)
}
