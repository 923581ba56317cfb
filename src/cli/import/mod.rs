//! `tallyd import`: calls from a file, exactly once.
//!
//! The file goes through the daemon's socket like any client's records. The producer's secret is the digest of the
//! file's content and of the way of reading it. The producer's name is the secret's digest, and a record's sequence
//! number is its row's number. So the daemon knows an import's last row: an interrupted import resumes there, and a
//! repeated one adds nothing. Without the file nobody can send as its producer. A row that cannot be read leaves its
//! number unused, which the protocol allows; it is refused again in every run.
//!
//! That makes a file exactly-once. The plan and the journal make a row exactly-once: a row that an import of another
//! file has recorded is not sent, and leaves its number unused as well.
//!
//! | module | content |
//! |---|---|
//! | `mapping` | which column has which field |
//! | `snapshot` | the open file, its digest, whether it has changed |
//! | `reader` | rows of CSV and of NDJSON, numbered, one in memory at a time |
//! | `row`, `json` | from a row's values to a record |
//! | `preset` | the files of other programs |
//! | `plan` | which rows are sent: a row's identity |
//! | `journal` | imported rows, on disk |
//! | `sender` | frames to the daemon: the window, acks, reconnecting |
//! | `error` | why an import ends early |
//! | `talk` | progress, notes and refusals on standard error |

mod dry_run;
mod error;
mod journal;
mod json;
mod mapping;
mod plan;
mod preset;
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
use tallyd_client::{Endpoint, Record};
use tallyd_protocol::limits;

use super::output::{self, count, noun};
use error::SendError;
use journal::Journal;
use mapping::Mapping;
use plan::{Fate, ImportPlan};
use preset::Preset;
use reader::FileRows;
use row::Form;
use sender::{RowSender, Target, first_session};
use snapshot::Snapshot;
use talk::Talk;
use tallyd_config::Config;
use tallyd_model::files::{Epoch, Numbers, delimiter};
use tallyd_wal::identity;

/// Import calls from a CSV or NDJSON file through the running daemon, each exactly once: run the same command again to resume
/// an interrupted import; rows that an earlier file had are passed over. Exits 1 if rows were refused or the daemon was lost, 3
/// if none is running.
#[derive(Args)]
#[command(after_help = "Examples:
  tallyd import calls.csv --map occurred_at=TIMESTAMP,input_tokens=ContextTokens,output_tokens=GeneratedTokens \\
      --set provider=claude,model=claude-sonnet-5
  tallyd import calls.csv --set provider=openai --dry-run 5      see what would be recorded
  tallyd import calls.ndjson --json | jq .recorded
  tallyd import events.jsonl --map input_tokens=message.usage.input_tokens --key message.id --set provider=claude
  tallyd import export.csv --delimiter ';' --decimal-comma --thousands . --epoch ms
  tallyd import --preset claude-code ~/.claude/projects/my-project/0f3b.jsonl --set user_id=u-42
  tallyd import --preset litellm-spend-logs spend_logs.csv
  tallyd import --preset openrouter-activity openrouter_activity.csv
  tallyd import --preset langfuse observations.jsonl

Times: RFC 3339; `2026-01-31 12:00:00.5` (UTC, unless a zone follows); a date; a number, see --epoch.
Files: UTF-8, or UTF-16 with a byte order mark; a first line `sep=;`, as Excel writes it, names the separator.
A row is identified by its `id` (a UUID) or by --key; of several rows with the same one the last counts. Without either, a row
is itself: one that was corrected since is another call. docs/guide/import.md has the details.")]
pub(super) struct ImportArgs {
    /// The file
    file: PathBuf,
    /// Which column, or key, holds a field: FIELD=COLUMN, several with commas between, or the flag again. A column that
    /// has a field's name needs no mapping
    #[arg(long, value_name = "FIELD=COLUMN")]
    map: Vec<String>,
    /// A value that every record has: FIELD=VALUE, several with commas between, or the flag again
    #[arg(long, value_name = "FIELD=VALUE")]
    set: Vec<String>,
    /// The file's format [default: by its name]
    #[arg(long)]
    format: Option<FileFormat>,
    /// The program that has written the file: its columns need no --map
    #[arg(long)]
    preset: Option<Preset>,
    /// The column, or key, whose value tells calls apart, such as a request's id
    #[arg(long, value_name = "COLUMN", conflicts_with = "preset")]
    key: Option<String>,
    /// Separator of a CSV's cells: one character, or tab [default: a comma, or that of the file's line sep=]
    #[arg(long, value_name = "CHARACTER", value_parser = delimiter)]
    delimiter: Option<u8>,
    /// Thousands separator in numbers, such as , or . or ' or a space
    #[arg(long, value_name = "CHARACTER")]
    thousands: Option<char>,
    /// Numbers have a comma before their decimals
    #[arg(long)]
    decimal_comma: bool,
    /// Unit of times that are bare numbers since 1970 [default: us]
    #[arg(long, value_name = "UNIT")]
    epoch: Option<Epoch>,
    /// Print the records of the first N rows, and send nothing
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

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum FileFormat {
    /// Comma-separated values, the first line naming the columns.
    Csv,
    /// A JSON object a line.
    Ndjson,
}

/// The result of an import.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Summary {
    rows: u64,
    /// Rows that were already recorded: by an earlier import of this file or of another, or in another way with the
    /// same `id`.
    skipped: u64,
    /// Rows whose `id` or key a later row has, which counts in their place.
    superseded: u64,
    /// Lines of a preset's file that are not calls.
    passed_over: u64,
    /// Rows that this run recorded.
    recorded: u64,
    /// Rows that cannot be read, or that the daemon refused.
    refused: u64,
    seconds: f64,
    /// The producer's name, which depends on the file's content and the way of reading it.
    producer: String,
}

pub(super) fn run(args: &ImportArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let format = args.format.map_or_else(|| format_of(&args.file), Ok)?;
    let mapping = mapping(args)?;
    let snapshot = Snapshot::take(&args.file)?;
    let secret = secret(&snapshot, &mapping, format);
    let mut talk = Talk::new(snapshot.bytes(), args.quiet);
    if let Some(count) = args.dry_run {
        dry_run::print(&mut FileRows::open(&snapshot, format, mapping)?, count, &mut talk)?;
        return Ok(exit_code(talk.refusals()));
    }
    let target = Target {
        endpoint: Endpoint::unix(config.socket_path()),
        producer: identity::import_name(&secret),
        secret,
        wait: Duration::from_secs(args.wait),
        batch: args.batch as usize,
    };
    let source = ImportFile { snapshot: &snapshot, format, mapping };
    let mut summary = match import(&target, &source, &config.data_dir, &mut talk) {
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

fn mapping(args: &ImportArgs) -> anyhow::Result<Mapping> {
    let numbers = Numbers { thousands: args.thousands, decimal_comma: args.decimal_comma };
    if let Some(fault) = numbers.fault() {
        anyhow::bail!(fault);
    }
    Ok(Mapping {
        key: args.key.clone(),
        form: Form { numbers, epoch: args.epoch },
        delimiter: args.delimiter,
        preset: args.preset,
        ..Mapping::parse(&args.map, &args.set)?
    })
}

/// A file, and the way of reading it.
struct ImportFile<'s> {
    snapshot: &'s Snapshot,
    format: FileFormat,
    mapping: Mapping,
}

impl ImportFile<'_> {
    fn rows(&self) -> anyhow::Result<FileRows> {
        FileRows::open(self.snapshot, self.format, self.mapping.clone())
    }
}

/// Sends every row that no import has recorded yet.
fn import(target: &Target, source: &ImportFile<'_>, data_dir: &Path, talk: &mut Talk) -> anyhow::Result<Summary> {
    let mut plan = ImportPlan::make(&mut source.rows()?, &source.mapping)?;
    let journal = Journal::open(data_dir, || talk.note("another import is under way; this one waits for it"))?;
    journal.keep_recorded(|secret| {
        let producer = identity::import_name(secret);
        let target = Target { secret: secret.to_owned(), producer, ..target.clone() };
        Ok(first_session(&target)?.last_seq())
    })?;
    journal.each(|identity, usage| plan.meet(identity, usage))?;
    if plan.may_have_corrected() {
        talk.note(
            "some rows were imported before, and some were not: a row that was corrected since counts as another call, \
             unless its `id` or --key tells which one it is",
        );
    }
    let mut sender = RowSender::connect(target.clone(), source.snapshot)?;
    let intent = journal.intend(&target.secret, plan.to_send().filter(|(row, ..)| !sender.has(*row)))?;
    let mut summary = send(&mut sender, &plan, &mut source.rows()?, talk)?;
    if let Some(intent) = intent {
        intent.done(sender.rejected())?;
    }
    summary.producer = target.producer.clone();
    Ok(summary)
}

fn send(
    sender: &mut RowSender<'_>,
    plan: &ImportPlan,
    rows: &mut FileRows,
    talk: &mut Talk,
) -> anyhow::Result<Summary> {
    let mut summary = Summary::default();
    while let Some(row) = rows.next_row()? {
        summary.rows += 1;
        rows.take_notes().iter().for_each(|note| talk.note(note));
        match row.record {
            Err(error) => talk.refused(row.number, row.line, &error.to_string()),
            Ok(record) => match plan.fate(row.number) {
                Fate::Known => summary.skipped += 1,
                Fate::Superseded => summary.superseded += 1,
                Fate::Conflict => talk.refused(row.number, row.line, CONFLICT),
                Fate::Send if sender.has(row.number) => summary.skipped += 1,
                Fate::Send => {
                    let made_id = record.id.is_none();
                    let id = record.id.unwrap_or_else(|| plan.id(row.number));
                    if !sender.push(row.number, row.line, Record { id: Some(id), made_id, ..record }, talk)? {
                        talk.refused(row.number, row.line, "the row is larger than a frame that the daemon takes");
                    }
                }
            },
        }
        if summary.rows.is_multiple_of(256) {
            talk.progress(rows.bytes_read(), sender.recorded());
        }
    }
    sender.finish(talk)?;
    talk.end();
    if sender.unheard() > 0 {
        let rows = noun(sender.unheard(), "row", "rows");
        talk.note(&format!("a connection was lost before the answers for {rows}; any refused are dead letters"));
    }
    let passed_over = rows.passed_over();
    if !passed_over.is_empty() {
        let kinds: Vec<_> = passed_over.iter().map(|(kind, lines)| format!("{} {kind}", count(*lines))).collect();
        talk.note(&format!("lines that are not calls were passed over: {}", kinds.join(", ")));
    }
    summary.passed_over = passed_over.values().sum();
    summary.skipped += sender.duplicates();
    (summary.recorded, summary.refused) = (sender.recorded(), talk.refusals());
    Ok(summary)
}

/// The refusal of a row that differs from the recorded call of its identity.
const CONFLICT: &str = "its id was imported before, with another usage or cost: a recorded call is not changed; \
    give it another id to record it as a call of its own";

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
    let Summary { rows, skipped, recorded, refused, seconds, superseded, .. } = summary;
    if *rows > 0 && skipped + superseded == *rows {
        let all = if *rows == 1 { "" } else { "all " };
        return format!("nothing to do: {all}{} there already", noun(*rows, "row was", "rows were"));
    }
    let (rows, skipped) = (noun(*rows, "row", "rows"), noun(*skipped, "was", "were"));
    let (recorded, refused) = (count(*recorded), count(*refused));
    let superseded = match superseded {
        0 => String::new(),
        rows => format!(", {} counted with a later row of the same id", count(*rows)),
    };
    format!("{rows}: {recorded} recorded, {skipped} there already{superseded}, {refused} refused, in {seconds:.1} s")
}

fn format_of(file: &Path) -> anyhow::Result<FileFormat> {
    let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "csv" => Ok(FileFormat::Csv),
        "ndjson" | "jsonl" => Ok(FileFormat::Ndjson),
        "json" => anyhow::bail!(
            "{} is one JSON document, or lines of it: `jq -c '.[]' FILE` makes lines of an array; give --format ndjson for lines",
            file.display()
        ),
        _ => anyhow::bail!("what {} holds is not clear from its name: give --format csv or ndjson", file.display()),
    }
}

/// The producer's secret: the same for the same content that is read in the same way.
fn secret(snapshot: &Snapshot, mapping: &Mapping, format: FileFormat) -> String {
    let hash = Sha256::new().chain_update(snapshot.digest()).chain_update([format as u8]);
    let digest = hash.chain_update(mapping.canonical()).finalize();
    hex::encode(digest)
}
