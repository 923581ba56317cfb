//! `tallyd migrate`: the schema, brought up to date.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::output;
use crate::config::Config;
use crate::database::{Database, DatabaseOptions, MigrateReport, citus, migrate};

/// Bring the database's schema up to date. The daemon does the same when it starts.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  tallyd migrate --database-url postgresql://postgres@localhost/app\n  tallyd migrate --citus --dry-run"
)]
pub struct MigrateArgs {
    /// Then spread the log and the users' sums over Citus' nodes by user; see docs/citus.md
    #[arg(long)]
    citus: bool,
    /// Print the SQL that spreads them, and change nothing
    #[arg(long, requires = "citus")]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was done, for a script.
#[derive(Serialize)]
struct Done<'r> {
    #[serde(flatten)]
    report: &'r MigrateReport,
    /// The statements that moved tables to Citus' nodes, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    distributed: Option<&'r [String]>,
}

pub fn run(args: &MigrateArgs, config: &Config) -> anyhow::Result<ExitCode> {
    if args.dry_run {
        return dry_run(args, config);
    }
    let (report, distributed, url) = super::block_on(async {
        let database = Database::open_existing(&DatabaseOptions::from(config)).await?;
        let done = async {
            let mut connection = database.connect("tallyd migrate").await?;
            let report = migrate(&mut connection, &super::migrate_options(config)).await?;
            if !args.citus {
                return anyhow::Ok((report, None));
            }
            let plan = citus::plan(&connection).await?;
            citus::distribute(&connection, &plan, |statement| eprintln!("{statement}")).await?;
            Ok((report, Some(plan.statements)))
        };
        let done = done.await;
        let url = database.redacted_url();
        database.close().await;
        let (report, distributed) = done?;
        Ok((report, distributed, url))
    })?;
    if args.json {
        output::json(&Done { report: &report, distributed: distributed.as_deref() })?;
    } else if report.applied.is_empty() {
        println!("{url} was up to date");
    } else {
        for name in &report.applied {
            println!("applied {name}");
        }
        println!("{url} is up to date");
    }
    if !args.json {
        if let Some(statements) = distributed {
            println!("{} tables were moved to Citus' nodes", statements.len());
        }
        for line in report.access.advice() {
            output::hint(&line);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What `--citus` would run.
fn dry_run(args: &MigrateArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let plan = super::with_database(config, "tallyd migrate", async |connection| Ok(citus::plan(connection).await?))?;
    if args.json {
        output::json(&serde_json::json!({ "installed": plan.is_installed, "statements": plan.statements }))?;
    } else {
        for statement in &plan.statements {
            println!("{statement};");
        }
    }
    if !plan.is_installed {
        output::hint("this database has no Citus: CREATE EXTENSION citus comes first");
    }
    Ok(ExitCode::SUCCESS)
}
