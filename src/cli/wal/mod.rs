//! `tallyd wal`: the WAL's segments, and work on damaged ones.
//!
//! `list` and `inspect` only read, also beside a running daemon. `replay` writes to the database, and a note into the
//! segment's folder.

mod replay;

use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::output::{self, Table, bytes, count, noun};
use tallyd_config::Config;
use tallyd_store::load::dead_letters::to_json;
use tallyd_wal::chunk::{Entry, PayloadReader};
use tallyd_wal::inspect::{self, SegmentContents, SegmentReport, SegmentState};

/// Look at the segments of the WAL (write-ahead log), and load the readable records of a damaged one.
#[derive(Args)]
#[command(after_help = "Examples:
  tallyd wal list
  tallyd wal inspect 00000000000000000001-1793170800000000
  tallyd wal replay --all")]
pub(super) struct WalArgs {
    #[command(subcommand)]
    command: WalCommand,
}

#[derive(Subcommand)]
enum WalCommand {
    /// List segments, those that were set aside as damaged last
    #[command(after_help = "Example:\n  tallyd wal list --json | jq '.[] | select(.state == \"set_aside\").name'")]
    List(ListArgs),
    /// Show the readable records of a segment
    #[command(after_help = "Examples:
  tallyd wal inspect 00000000000000000001
  tallyd wal inspect 00000000000000000001-1793170800000000 --records > records.ndjson")]
    Inspect(InspectArgs),
    /// Load readable records of damaged segments that are not in the database; a repetition adds nothing
    #[command(after_help = "Examples:
  tallyd wal replay 00000000000000000001-1793170800000000
  tallyd wal replay --all --json")]
    Replay(replay::ReplayArgs),
}

#[derive(Args)]
struct ListArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct InspectArgs {
    /// Its name, as `tallyd wal list` prints it
    name: String,
    /// Print its calls, a line of JSON each
    #[arg(long, conflicts_with = "json")]
    records: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &WalArgs, config: &Config) -> anyhow::Result<ExitCode> {
    match &args.command {
        WalCommand::List(args) => list(args, config),
        WalCommand::Inspect(args) => inspect(args, config),
        WalCommand::Replay(args) => replay::run(args, config),
    }
}

fn segments(config: &Config) -> anyhow::Result<Vec<SegmentReport>> {
    let folder = config.data_dir.join("wal");
    if !folder.exists() {
        bail!("there is no WAL in {}; is --data-dir right?", config.data_dir.display());
    }
    Ok(inspect::list(&folder)?)
}

fn find(config: &Config, name: &str) -> anyhow::Result<SegmentReport> {
    let found = segments(config)?.into_iter().find(|segment| segment.name == name);
    found.ok_or_else(|| anyhow::anyhow!("there is no segment {name}; `tallyd wal list` names them"))
}

const fn word(state: SegmentState) -> &'static str {
    match state {
        SegmentState::Active => "active",
        SegmentState::Sealed => "sealed",
        SegmentState::SealedDamaged => "sealed, damaged",
        SegmentState::SetAside => "SET ASIDE",
        SegmentState::Replayed => "replayed",
    }
}

fn list(args: &ListArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let segments = segments(config)?;
    if args.json {
        output::json(&segments)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["segment", "state"], &["first key", "last key", "records", "size"]);
    for segment in &segments {
        let or_dash = |number: Option<u64>, shown: fn(u64) -> String| number.map_or_else(|| "-".to_owned(), shown);
        table.push(vec![
            segment.name.clone(),
            word(segment.state).to_owned(),
            segment.first_key.to_string(),
            or_dash(segment.last_key, |key| key.to_string()),
            or_dash(segment.records, count),
            bytes(segment.disk_bytes),
        ]);
    }
    table.print();
    if let Some(damaged) = segments.iter().find(|segment| segment.state == SegmentState::SetAside) {
        output::hint(&format!(
            "`tallyd wal inspect {}` shows the readable records of a damaged segment, `tallyd wal replay --all` loads it",
            damaged.name
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// The output of `inspect` for a segment.
#[derive(Serialize)]
struct Readable {
    #[serde(flatten)]
    segment: SegmentReport,
    /// Calls that can be read.
    calls: u64,
    /// Refused records that can be read.
    refused: u64,
    /// Synced keys that cannot be read.
    missing_keys: u64,
    /// The same as ranges, each with its first and last key.
    missing: Vec<(u64, u64)>,
    /// Values after the WAL's end, which were never acknowledged.
    unacknowledged_values: u64,
    /// Values that were found without sled.
    salvaged_values: u64,
    /// The earliest and latest time of a call.
    first_call_at: Option<chrono::DateTime<chrono::Utc>>,
    last_call_at: Option<chrono::DateTime<chrono::Utc>>,
    /// Why sled did not open the store.
    store_error: Option<String>,
}

impl Readable {
    fn new(segment: SegmentReport, contents: &SegmentContents) -> Self {
        let chunks = &contents.chunks;
        let calls = || chunks.iter().filter(|chunk| chunk.records > 0);
        let time = chrono::DateTime::from_timestamp_micros;
        Self {
            segment,
            calls: chunks.iter().map(|chunk| u64::from(chunk.records)).sum(),
            refused: chunks.iter().map(|chunk| u64::from(chunk.refused)).sum(),
            missing_keys: contents.missing.iter().map(|range| range.end() - range.start() + 1).sum(),
            missing: contents.missing.iter().map(|range| (*range.start(), *range.end())).collect(),
            unacknowledged_values: contents.unacknowledged,
            salvaged_values: contents.salvaged,
            first_call_at: calls().map(|chunk| chunk.min_us).min().and_then(time),
            last_call_at: calls().map(|chunk| chunk.max_us).max().and_then(time),
            store_error: contents.store_error.clone(),
        }
    }
}

fn inspect(args: &InspectArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let segment = find(config, &args.name)?;
    let contents = segment.read()?;
    if args.records {
        return records(&contents);
    }
    let readable = Readable::new(segment, &contents);
    if args.json {
        output::json(&readable)?;
        return Ok(ExitCode::SUCCESS);
    }
    println!("segment {}: {}", readable.segment.name, word(readable.segment.state));
    let refused = noun(readable.refused, "refused record", "refused records");
    println!("  readable      {}, {refused}", noun(readable.calls, "call", "calls"));
    if let Some(records) = readable.segment.records {
        println!("  its seal says {}", noun(records, "record", "records"));
    }
    if let (Some(first), Some(last)) = (readable.first_call_at, readable.last_call_at) {
        println!("  calls         from {first} to {last}");
    }
    println!("  missing       {} synced", noun(readable.missing_keys, "key that had been", "keys that had been"));
    for (first, last) in readable.missing.iter().take(20) {
        println!("                {first} to {last}");
    }
    println!("  beyond sled   {} found without it", noun(readable.salvaged_values, "value was", "values were"));
    if readable.unacknowledged_values > 0 {
        let values = noun(readable.unacknowledged_values, "value that was", "values that were");
        println!("  not counted   {values} never acknowledged");
    }
    if let Some(error) = &readable.store_error {
        println!("  sled said     {error}");
    }
    Ok(ExitCode::SUCCESS)
}

fn records(contents: &SegmentContents) -> anyhow::Result<ExitCode> {
    let mut out = output::Stream::new();
    for chunk in &contents.chunks {
        // Payloads that were found in a file are in memory.
        for entry in PayloadReader::new(chunk.payload.held().unwrap_or_default()) {
            if let Entry::Call(call) = entry?
                && !out.line(&to_json(&call))?
            {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
