//! `tallyd migrate`: migrates the schema.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::confirm::{Confirm, Confirmation};
use super::output;
use tallyd_config::Config;
use tallyd_store::{MigrateReport, citus, migrate};

/// Bring the database's schema up to date. The daemon does the same when it starts.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  tallyd migrate --database-url postgresql://postgres@localhost/app\n  tallyd migrate --citus --dry-run\n  tallyd migrate --citus --shards 16 --yes"
)]
pub(super) struct MigrateArgs {
    /// Then spread the call log and the users' sums over Citus' nodes; see docs/guide/citus.md
    #[arg(long)]
    citus: bool,
    /// Shards of each table [default: two for each worker]
    #[arg(long, value_name = "N", requires = "citus", value_parser = clap::value_parser!(u16).range(1..=4096))]
    shards: Option<u16>,
    #[command(flatten)]
    confirm: Confirm,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The result as JSON.
#[derive(Serialize)]
struct Done<'r> {
    #[serde(flatten)]
    report: &'r MigrateReport,
    /// The statements that distributed tables over Citus' nodes, with `--citus`.
    #[serde(skip_serializing_if = "Option::is_none")]
    distributed: Option<&'r [String]>,
}

pub(super) fn run(args: &MigrateArgs, config: &Config) -> anyhow::Result<ExitCode> {
    match (args.citus, args.confirm.told()) {
        (true, Confirmation::Nothing) => return Ok(args.confirm.refuse("moves tables to Citus' nodes")),
        (true, Confirmation::DryRun) => return dry_run(args, config),
        (false, Confirmation::DryRun | Confirmation::Yes) => {
            output::error(&anyhow::anyhow!(
                "--yes and --dry-run go with --citus: to bring the schema up to date needs no confirmation"
            ));
            return Ok(ExitCode::from(2));
        }
        (true, Confirmation::Yes) | (false, Confirmation::Nothing) => {}
    }
    let (report, distributed, url) = super::block_on(async {
        let database = super::open_database(config).await?;
        let done = async {
            let mut connection = database.connect("tallyd migrate").await?;
            let report = migrate(&mut connection, &super::migrate_options(config)).await?;
            if !args.citus {
                return anyhow::Ok((report, None));
            }
            let plan = citus::plan(&connection, args.shards).await?;
            citus::distribute(&connection, &plan, |statement| eprintln!("{statement}")).await?;
            Ok((report, Some(plan.statements)))
        };
        let done = done.await;
        let url = database.redacted_url();
        database.close().await;
        let (report, distributed) = done?;
        Ok((report, distributed, url))
    })?;
    if report.history_rewritten && !args.json {
        println!("the history has the files of the initial schema now; the tables are as they were");
    }
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
            let tables = statements.iter().filter(|statement| statement.contains("create_distributed_table")).count();
            let tables = output::noun(tables as u64, "table was", "tables were");
            println!("{tables} moved to Citus' nodes");
        }
        for line in report.access.advice() {
            output::hint(&line);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the statements of `--citus` without running them.
fn dry_run(args: &MigrateArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let plan = super::with_database(config, "tallyd migrate", async |connection| {
        Ok(citus::plan(connection, args.shards).await?)
    })?;
    if args.json {
        output::json(&serde_json::json!({ "installed": plan.is_installed, "statements": plan.statements }))?;
    } else {
        for statement in &plan.statements {
            println!("{statement};");
        }
    }
    if plan.is_installed {
        output::hint("nothing was changed: --yes moves these tables");
    } else {
        output::hint("nothing was changed: this database has no Citus; CREATE EXTENSION citus comes first");
    }
    Ok(ExitCode::SUCCESS)
}
