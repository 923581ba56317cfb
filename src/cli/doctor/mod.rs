//! `tallyd doctor`: checks a machine, its settings and its database, with a hint for each fault.
//!
//! It changes nothing. It only reads, syncs a small file in the data folder and writes one to the archive, both of which it
//! removes, and opens sessions of the database. Like every command it starts the private PostgreSQL of a daemon that does not run, and stops it again.
//! Checks that exist in another module (the configuration, migrations, rights) are called there.

mod check;
mod database;
mod disk;
mod listeners;

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use self::check::{Check, State};
use super::output::{self, Table, noun};
use tallyd_config::Config;
use tallyd_store::archive::Archive;

/// Check the settings, the disk, the socket, the ports, the database, the archive and the running daemon. Exits 0 if nothing fails (warnings
/// included), 1 if a check fails, 2 if the configuration is wrong.
#[derive(Args)]
#[command(after_help = "Examples:
  tallyd doctor
  sudo -u tallyd tallyd --config /etc/tallyd/config.toml doctor
  tallyd doctor --json | jq '.checks[] | select(.state == \"failed\")'")]
pub(super) struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &DoctorArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let checks = super::block_on(async { Ok(examine(config).await) })?;
    let count = |state| checks.iter().filter(|check| check.state == state).count() as u64;
    let (failed, warnings) = (count(State::Failed), count(State::Warning));
    if args.json {
        output::json(&json!({ "failed": failed, "warnings": warnings, "checks": checks }))?;
    } else {
        let mut table = Table::new(&["state", "check"], &[]).with_text("found");
        for check in &checks {
            table.push(vec![check.state.word().into(), check.name.into(), check.found.clone()]);
            if let Some(hint) = &check.hint {
                table.note(&format!("hint: {hint}"));
            }
        }
        table.print();
        println!("{} failed, {}", noun(failed, "check", "checks"), noun(warnings, "warning", "warnings"));
    }
    Ok(if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// All checks, in the order in which a starting daemon would meet their faults.
async fn examine(config: &Config) -> Vec<Check> {
    let mut checks = vec![version(), configuration(config)];
    checks.extend(disk::checks(config));
    checks.extend(listeners::checks(config).await);
    checks.extend(database::checks(config).await);
    checks.extend(archive(config).await);
    checks
}

/// Writes a small file to the archive, reads it and removes it.
async fn archive(config: &Config) -> Option<Check> {
    let hint = "partitions are not dropped until it can be written: retention.archive and [retention.s3]";
    Some(match Archive::of(config)?.try_out().await {
        Ok(place) => Check::ok("archive", format!("{place}: a small file was written, read and removed")),
        Err(error) => Check::error("archive", &error, hint),
    })
}

fn version() -> Check {
    let (name, rest) = super::LONG_VERSION.split_once('\n').unwrap_or((super::LONG_VERSION, ""));
    Check::ok("version", format!("{name}; {}", rest.replace('\n', "; ")))
}

fn configuration(config: &Config) -> Check {
    // Every command loads the configuration first, so it is valid here.
    match config.auth.unprotected_url() {
        Some(url) => Check::warning(
            "configuration",
            format!("the issuer is asked over plain HTTP: {url}"),
            "an attacker on the way can let anybody in: use https for auth.issuer and auth.jwks_url",
        ),
        None => {
            let stated = noun(config.origins.len() as u64, "setting is", "settings are");
            Check::ok("configuration", format!("{stated} stated, the others are defaults"))
        }
    }
}
