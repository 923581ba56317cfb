//! `tallyd import`: calls from a file, exactly once.
//!
//! The file goes through the daemon's socket like any client's records. The producer's name is derived from the file's
//! content and from how it is read, and a record's sequence number is its row's number. So the daemon knows how far an
//! import got: an interrupted one resumes there, and one that is done adds nothing. A row that cannot be read leaves its
//! number unused, which the protocol allows.

mod mapping;
mod reader;
mod row;
mod sender;

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Args, ValueEnum};
use sha2::{Digest, Sha256};

use super::output::{self, count};
use crate::config::Config;
use crate::pipeline::wal::producers::IMPORT_PREFIX;
use mapping::Mapping;
use reader::Rows;
use sender::{Progress, Sender, Summary};

/// Import calls from a CSV or NDJSON file through the running daemon, exactly once: run the same command again to resume
/// an interrupted import. Exits 1 if rows were refused.
#[derive(Args)]
#[command(after_help = "Examples:
  tallyd import calls.csv --map occurred_at=TIMESTAMP,input_tokens=ContextTokens,output_tokens=GeneratedTokens \\
      --set provider=claude,model=claude-sonnet-4-5
  tallyd import calls.ndjson")]
pub struct ImportArgs {
    /// The file
    file: PathBuf,
    /// Which column holds a field: FIELD=COLUMN, comma-separated. A column that has a field's name needs no mapping
    #[arg(long, value_name = "FIELD=COLUMN", value_delimiter = ',')]
    map: Vec<String>,
    /// A value that every record has: FIELD=VALUE, comma-separated
    #[arg(long, value_name = "FIELD=VALUE", value_delimiter = ',')]
    set: Vec<String>,
    /// What the file holds [default: by its name]
    #[arg(long)]
    format: Option<Format>,
    /// Seconds to wait for a daemon that has gone away
    #[arg(long, default_value_t = 15, value_name = "SECONDS")]
    wait: u64,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

/// What a file holds.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Comma-separated values, the first line naming the columns.
    Csv,
    /// A JSON object a line.
    Ndjson,
}

pub fn run(args: &ImportArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let format = args.format.map_or_else(|| format_of(&args.file), Ok)?;
    let mapping = Mapping::parse(&args.map, &args.set)?;
    let opening = || format!("cannot read {}", args.file.display());
    let mut file = File::open(&args.file).with_context(opening)?;
    let before = file.metadata()?;
    let producer = producer(&mut file, &mapping, format).with_context(opening)?;
    let mut rows = Rows::open(&args.file, format, mapping)?;
    if let Some(ignored) = rows.ignored_columns() {
        eprintln!("columns that are not imported: {ignored}");
    }
    let progress = Progress::new(before.len());
    let mut sender = Sender::new(config.socket_path(), producer, Duration::from_secs(args.wait), progress);
    sender.connect()?;
    while let Some(row) = rows.next_row() {
        sender.push(row, rows.bytes_read())?;
    }
    let mut summary = sender.finish()?;
    summary.seconds = started.elapsed().as_secs_f64();
    let after = std::fs::metadata(&args.file)?;
    if (after.len(), after.modified().ok()) != (before.len(), before.modified().ok()) {
        anyhow::bail!("{} changed while it was imported; import it again once it is complete", args.file.display());
    }
    report(&summary, args.json)?;
    Ok(if summary.refused > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn report(summary: &Summary, json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(summary);
    }
    println!(
        "{} rows: {} recorded, {} were there already, {} refused, in {:.1} s",
        count(summary.rows),
        count(summary.recorded),
        count(summary.skipped),
        count(summary.refused),
        summary.seconds
    );
    Ok(())
}

fn format_of(file: &Path) -> anyhow::Result<Format> {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => Ok(Format::Csv),
        Some("ndjson" | "jsonl") => Ok(Format::Ndjson),
        _ => anyhow::bail!("what {} holds is not clear from its name: give --format csv or ndjson", file.display()),
    }
}

/// The producer's name: the same for the same content, read in the same way.
fn producer(file: &mut File, mapping: &Mapping, format: Format) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut block = vec![0; 1 << 20];
    loop {
        let read = reader.read(&mut block)?;
        if read == 0 {
            break;
        }
        hash.update(&block[..read]);
    }
    hash.update(mapping.canonical());
    hash.update([format as u8]);
    let digest: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{IMPORT_PREFIX}{digest}"))
}
