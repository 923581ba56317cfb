//! `tallyd status`: the running daemon's state.

use std::process::ExitCode;

use clap::Args;

use super::output::{self, bytes, count, noun};
use crate::http::socket::{self, AskError};
use crate::http::{Health, Status};
use tallyd_config::Config;

/// Show the state of the running daemon. Exits 0 if it is well, 1 if something is failing, 3 if none is running.
#[derive(Args)]
#[command(after_help = "Examples:\n  tallyd status\n  tallyd status --json | jq .wal.unflushed_records")]
pub(super) struct StatusArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &StatusArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let answer = super::block_on(async { Ok(socket::get(&config.data_dir, "/status").await) })?;
    let body = match answer {
        Ok(body) => body,
        Err(error @ AskError::NotRunning(_)) => {
            output::error(&error.into());
            return Ok(ExitCode::from(3));
        }
        Err(error) => return Err(error.into()),
    };
    let status: Status = serde_json::from_slice(&body)?;
    if args.json {
        output::json(&status)?;
    } else {
        print(&status);
    }
    Ok(if status.health.status == Health::Failing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The most names of a list; `--json` has them all.
const NAMES: usize = 5;

fn print(status: &Status) {
    let health = &status.health;
    println!("tallyd {}, process {}, up {} s", status.version, status.pid, status.uptime_seconds);
    println!("  socket        {}", status.socket);
    println!("  days in       {}", status.time_zone);
    if let Some(address) = &status.grpc {
        println!("  OTLP, gRPC    {address}");
    }
    for (name, part) in [("ingest", &health.ingest), ("log", &health.wal), ("flusher", &health.flusher)] {
        let word = match part.status {
            Health::Ok => "ok",
            Health::Degraded => "degraded",
            Health::Failing => "FAILING",
        };
        println!("  {name:<13} {word}{}", part.message.as_ref().map_or_else(String::new, |text| format!(": {text}")));
    }
    let wal = &status.wal;
    println!(
        "  not loaded    {}, the oldest {:.1} s old; {} in {}",
        noun(wal.unflushed_records, "record", "records"),
        wal.oldest_unflushed_seconds,
        bytes(wal.bytes),
        noun(wal.segments as u64, "segment", "segments")
    );
    let identities = &wal.identities;
    let early = match identities.forgotten_early {
        0 => String::new(),
        ids => format!("; {} forgotten early: raise wal.max_identities", count(ids)),
    };
    println!(
        "  stated ids    {} known; {} since this start{early}",
        count(identities.known),
        noun(identities.duplicates, "record was a duplicate", "records were duplicates")
    );
    let database = &status.database;
    println!("  database      {}", database.url.as_deref().unwrap_or("not started yet"));
    match database.committed_records {
        Some(records) => println!(
            "  committed     {}, {} of them since this start",
            noun(records, "call", "calls"),
            count(database.committed_since_start)
        ),
        None => println!(
            "  committed     {} since this start; the database does not answer",
            noun(database.committed_since_start, "call", "calls")
        ),
    }
    let found = &status.stood_out;
    for (title, names) in [
        ("not read", &found.not_understood),
        ("passed over", &found.passed_over),
        ("cost differs", &found.stated_cost_differs),
    ] {
        for (at, named) in names.iter().take(NAMES).enumerate() {
            println!("  {:<13} {} × {}", if at == 0 { title } else { "" }, count(named.count), named.what);
        }
        if names.len() > NAMES {
            let more = noun((names.len() - NAMES) as u64, "more name", "more names");
            println!("  {:<13} and {more}: tallyd status --json", "");
        }
    }
}
