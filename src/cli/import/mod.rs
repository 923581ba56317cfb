//! `tallyd import`: calls from a file, exactly once.
//!
//! The file goes through the daemon's socket like any client's records. The producer's secret is the digest of the file's
//! content and of how it is read, its name is the secret's digest, and a record's sequence number is its row's number. So the
//! daemon knows how far an import got: an interrupted one resumes there, and one that is done adds nothing. Nobody can speak
//! for an import who does not have the file. A row that cannot be read leaves its number unused, which the protocol allows; it
//! is refused again in every run.
//!
//! | module | what it holds |
//! |---|---|
//! | `mapping` | which column holds which field |
//! | `snapshot` | the open file, its digest, whether it is still the same |
//! | `reader` | rows of CSV and of NDJSON, numbered; memory for one of them |
//! | `row`, `json` | a row's values become a record |
//! | `sender` | frames to the daemon: the window, acks, reconnecting |
//! | `error` | why an import ends early |
//! | `talk` | progress, notes and refusals on standard error |

mod dry_run;
mod error;
mod json;
mod mapping;
mod reader;
mod row;
mod sender;
mod snapshot;
mod talk;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tallyd_client::Endpoint;
use tallyd_protocol::limits;

use super::output::{self, count};
use crate::config::Config;
use crate::pipeline::identity;
use error::SendError;
use mapping::Mapping;
use reader::Rows;
use sender::{Sender, Target};
use snapshot::Snapshot;
use talk::Talk;

/// Import calls from a CSV or NDJSON file through the running daemon, exactly once: run the same command again to resume
/// an interrupted import. Exits 1 if rows were refused or the daemon was lost, 3 if none is running.
#[derive(Args)]
#[command(after_help = "Examples:
  tallyd import calls.csv --map occurred_at=TIMESTAMP,input_tokens=ContextTokens,output_tokens=GeneratedTokens \\
      --set provider=claude,model=claude-sonnet-4-5
  tallyd import calls.csv --set provider=openai --dry-run 5      see what would be recorded
  tallyd import calls.ndjson --json | jq .recorded

Times: RFC 3339; `2026-01-31 12:00:00.5` (UTC, unless a zone follows); a date; microseconds since 1970.")]
pub struct ImportArgs {
    /// The file
    file: PathBuf,
    /// Which column, or key, holds a field: FIELD=COLUMN, several with commas between, or the flag again. A column that
    /// has a field's name needs no mapping
    #[arg(long, value_name = "FIELD=COLUMN")]
    map: Vec<String>,
    /// A value that every record has: FIELD=VALUE, several with commas between, or the flag again
    #[arg(long, value_name = "FIELD=VALUE")]
    set: Vec<String>,
    /// What the file holds [default: by its name]
    #[arg(long)]
    format: Option<Format>,
    /// Print what the first N rows would be recorded as, and send nothing
    #[arg(long, value_name = "N", conflicts_with = "json")]
    dry_run: Option<u64>,
    /// Seconds to wait for a daemon that has gone away
    #[arg(long, default_value_t = 15, value_name = "SECONDS")]
    wait: u64,
    /// Records to send in one frame
    #[arg(long, default_value_t = 1_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=BATCH_MAX))]
    batch: u32,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
    /// Print neither progress nor notes nor a summary; refused rows are told
    #[arg(long)]
    quiet: bool,
}

const BATCH_MAX: i64 = limits::FRAME_RECORDS as i64;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Comma-separated values, the first line naming the columns.
    Csv,
    /// A JSON object a line.
    Ndjson,
}

/// What became of the file.
#[derive(Debug, PartialEq, Serialize)]
struct Summary {
    /// Rows of the file.
    rows: u64,
    /// Rows that an earlier run had settled.
    skipped: u64,
    /// Rows that this run recorded.
    recorded: u64,
    /// Rows that cannot be read, or that the daemon refused.
    refused: u64,
    /// How long it took.
    seconds: f64,
    /// The producer's name, which stands for the file's content and how it was read.
    producer: String,
}

pub fn run(args: &ImportArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let format = args.format.map_or_else(|| format_of(&args.file), Ok)?;
    let mapping = Mapping::parse(&args.map, &args.set)?;
    let snapshot = Snapshot::take(&args.file)?;
    let secret = secret(&snapshot, &mapping, format);
    let mut rows = Rows::open(&snapshot, format, mapping)?;
    let mut talk = Talk::new(snapshot.bytes(), args.quiet);
    if let Some(count) = args.dry_run {
        dry_run::print(&mut rows, count, &mut talk)?;
        return Ok(exit_code(talk.refusals()));
    }
    let target = Target {
        endpoint: Endpoint::unix(config.socket_path()),
        producer: identity::import_name(&secret),
        secret,
        wait: Duration::from_secs(args.wait),
        batch: args.batch as usize,
    };
    let mut summary = match send(target, &snapshot, &mut rows, &mut talk) {
        Ok(summary) => summary,
        Err(error) => {
            talk.end();
            return failed(error);
        }
    };
    summary.seconds = started.elapsed().as_secs_f64();
    if args.json {
        output::json(&summary)?;
    } else if !args.quiet {
        println!("{}", sentence(&summary));
    }
    Ok(exit_code(summary.refused))
}

/// Sends every row that the daemon does not have yet.
fn send(target: Target, snapshot: &Snapshot, rows: &mut Rows, talk: &mut Talk) -> anyhow::Result<Summary> {
    let producer = target.producer.clone();
    let (mut read, mut skipped) = (0_u64, 0);
    let mut sender = Sender::connect(target, snapshot)?;
    while let Some(row) = rows.next_row()? {
        read += 1;
        rows.take_notes().iter().for_each(|note| talk.note(note));
        match row.record {
            Err(error) => talk.refused(row.number, row.line, &error.to_string()),
            Ok(_) if sender.has(row.number) => skipped += 1,
            Ok(record) => {
                if !sender.push(row.number, row.line, record, talk)? {
                    talk.refused(row.number, row.line, "the row is larger than a frame that the daemon takes");
                }
            }
        }
        if read.is_multiple_of(256) {
            talk.progress(rows.bytes_read(), sender.recorded());
        }
    }
    sender.finish(talk)?;
    talk.end();
    if sender.unheard() > 0 {
        let rows = count(sender.unheard());
        talk.note(&format!("the answers for {rows} rows were lost with a connection; any refused are dead letters"));
    }
    let refused = talk.refusals();
    Ok(Summary { rows: read, skipped, recorded: sender.recorded(), refused, seconds: 0.0, producer })
}

fn failed(error: anyhow::Error) -> anyhow::Result<ExitCode> {
    let Some(known) = error.downcast_ref::<SendError>() else { return Err(error) };
    let code = if matches!(known, SendError::NoDaemon(_)) { ExitCode::from(3) } else { ExitCode::FAILURE };
    output::error(&error);
    known.hint().into_iter().for_each(output::hint);
    Ok(code)
}

fn exit_code(refused: u64) -> ExitCode {
    if refused > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn sentence(summary: &Summary) -> String {
    let Summary { rows, skipped, recorded, refused, seconds, .. } = summary;
    if *rows > 0 && skipped == rows {
        return format!("nothing to do: all {} rows were there already", count(*rows));
    }
    let (rows, recorded, skipped, refused) = (count(*rows), count(*recorded), count(*skipped), count(*refused));
    format!("{rows} rows: {recorded} recorded, {skipped} were there already, {refused} refused, in {seconds:.1} s")
}

fn format_of(file: &Path) -> anyhow::Result<Format> {
    let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "csv" => Ok(Format::Csv),
        "ndjson" | "jsonl" => Ok(Format::Ndjson),
        _ => anyhow::bail!("what {} holds is not clear from its name: give --format csv or ndjson", file.display()),
    }
}

/// The producer's secret: the same for the same content, read in the same way.
fn secret(snapshot: &Snapshot, mapping: &Mapping, format: Format) -> String {
    let hash = Sha256::new().chain_update(snapshot.digest()).chain_update([format as u8]);
    let digest = hash.chain_update(mapping.canonical()).finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
