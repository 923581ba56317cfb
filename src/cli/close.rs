//! `tallyd close`: closed vendor-days, and the record of their closings.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use chrono::{Days, NaiveDate};
use clap::{Args, Subcommand};
use serde_json::json;

use super::output::{self, Stream, Table, noun, usd};
use super::with_database;
use crate::vendors::look::Look;
use crate::vendors::{self, Vendor};
use tallyd_config::Config;
use tallyd_model::closing::{Chain, ChainError, Closing, ClosingCause, ClosingState};
use tallyd_store::closings::{self, PAGE};

/// The longest line of an export, bytes.
const LINE_BYTES_MAX: u64 = 1024 * 1024;

/// Show which vendor-days are closed, close them now, verify the record of closings.
#[derive(Args)]
#[command(after_help = "Examples:
  tallyd close list
  tallyd close show anthropic 2026-11-03
  tallyd close run
  tallyd close verify
A day is closed by the vendor's own cost and usage reports, which the daemon fetches with vendors.anthropic.admin_key and
vendors.openai.admin_key.")]
pub(super) struct CloseArgs {
    #[command(subcommand)]
    command: CloseCommand,
}

#[derive(Subcommand)]
enum CloseCommand {
    /// List the days and where they stand
    #[command(
        after_help = "Example:\n  tallyd close list --vendor openai --json | jq '.[] | select(.state == \"differs\")'"
    )]
    List {
        /// Only this vendor: anthropic or openai
        #[arg(long, value_name = "NAME", value_parser = Vendor::parse)]
        vendor: Option<Vendor>,
        /// Number of days up to today
        #[arg(long, value_name = "DAYS", default_value_t = 35, value_parser = clap::value_parser!(u32).range(1..=3660))]
        days: u32,
        /// Print every digit instead of cents
        #[arg(long)]
        exact: bool,
        /// Print JSON, with every digit
        #[arg(long)]
        json: bool,
    },
    /// Show all entries of a day, with the parts of its difference
    #[command(after_help = "Example:\n  tallyd close show anthropic 2026-11-03")]
    Show {
        /// The vendor: anthropic or openai
        #[arg(value_name = "VENDOR", value_parser = Vendor::parse)]
        vendor: Vendor,
        /// The day, in UTC
        #[arg(value_name = "DAY")]
        day: NaiveDate,
        /// Print JSON, with every digit
        #[arg(long)]
        json: bool,
    },
    /// Fetch the vendors' reports now, and close the days that are due. Exits 1 if a vendor's reports were not read
    #[command(after_help = "Example:\n  tallyd close run --vendor anthropic")]
    Run {
        /// Only this vendor: anthropic or openai [default: those with an admin key]
        #[arg(long, value_name = "NAME", value_parser = Vendor::parse)]
        vendor: Option<Vendor>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Check that no entry was changed, removed or inserted. Exits 1 if one was
    #[command(after_help = "Examples:
  tallyd close verify
  tallyd close verify closings.ndjson --head 4f1c9d…
A file is checked without a database. Entries that were cut off at the end are only noticed with --head, a hash that was noted
before: `tallyd close verify` prints the last one.")]
    Verify {
        /// A file of `tallyd close export`; - is standard input [default: the database]
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        /// The hash of an entry that must be there
        #[arg(long, value_name = "HASH")]
        head: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the record, a line of JSON for each entry
    #[command(after_help = "Example:\n  tallyd close export > closings.ndjson && tallyd close verify closings.ndjson")]
    Export,
}

pub(super) fn run(args: &CloseArgs, config: &Config) -> anyhow::Result<ExitCode> {
    match &args.command {
        CloseCommand::List { vendor, days, exact, json } => list(*vendor, *days, *exact, *json, config),
        CloseCommand::Show { vendor, day, json } => show(*vendor, *day, *json, config),
        CloseCommand::Run { vendor, json } => close(*vendor, *json, config),
        CloseCommand::Verify { file, head, json } => verify(file.as_deref(), head.as_deref(), *json, config),
        CloseCommand::Export => export(config),
    }
}

fn list(vendor: Option<Vendor>, days: u32, exact: bool, as_json: bool, config: &Config) -> anyhow::Result<ExitCode> {
    let to = vendors::now().date_naive();
    let from = to - Days::new(u64::from(days));
    let (found, fetches) = with_database(config, "tallyd close", async |db| {
        let mut found = Vec::new();
        for vendor in vendor.map_or_else(|| Vendor::ALL.to_vec(), |vendor| vec![vendor]) {
            found.extend(closings::latest(db, vendor.name(), (from, to)).await?.into_values());
        }
        Ok((found, closings::fetches(db).await?))
    })?;
    if as_json {
        output::json(&found)?;
        return Ok(ExitCode::SUCCESS);
    }
    print(&found, exact);
    for fetch in fetches.iter().filter(|fetch| !fetch.error.is_empty()) {
        println!("the last look at {} failed: {}", fetch.vendor, fetch.error);
    }
    if found.is_empty() {
        output::hint(
            "days are closed by the vendors' reports: set vendors.anthropic.admin_key or vendors.openai.admin_key",
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn print(entries: &[Closing], exact: bool) {
    let mut table = Table::new(&["day (UTC)", "vendor", "state"], &["billed", "recorded", "difference"]).with_text("");
    for Closing { closed, .. } in entries {
        let amounts = [closed.billed_usd, closed.recorded_usd, closed.difference()];
        let mut line = vec![closed.day.to_string(), closed.vendor.clone(), closed.state.name().to_owned()];
        line.extend(amounts.map(|amount| usd(amount, exact)));
        line.push(closed.cause.map_or_else(String::new, |cause| words(cause).to_owned()));
        table.push(line);
        for residue in &closed.residues {
            let of =
                [&residue.model, &residue.workspace].map(String::as_str).into_iter().filter(|name| !name.is_empty());
            let of: Vec<&str> = of.collect();
            let amount = usd(residue.difference_usd, exact);
            table.note(&format!("{}: {} USD, {}: {}", residue.kind.words(), amount, of.join(", "), residue.note));
        }
    }
    table.print();
    let number = |state| entries.iter().filter(|entry| entry.closed.state == state).count() as u64;
    let [matched, differs, open] = ClosingState::ALL.map(number);
    println!("{} matched, {differs} DIFFER, {open} open again", noun(matched, "day", "days"));
}

const fn words(cause: ClosingCause) -> &'static str {
    match cause {
        ClosingCause::LateCalls => "late calls",
        ClosingCause::CallsRemoved => "calls were removed",
        ClosingCause::Repriced => "costs were changed",
        ClosingCause::Amended => "a call was amended or voided",
        ClosingCause::BillCorrected => "the bill was corrected",
    }
}

fn show(vendor: Vendor, day: NaiveDate, as_json: bool, config: &Config) -> anyhow::Result<ExitCode> {
    let entries =
        with_database(config, "tallyd close", async |db| Ok(closings::of_day(db, vendor.name(), day).await?))?;
    if as_json {
        output::json(&entries)?;
        return Ok(ExitCode::SUCCESS);
    }
    if entries.is_empty() {
        println!("{day} of {} was never closed", vendor.name());
        output::hint("`tallyd close list` shows the days and the last look");
        return Ok(ExitCode::SUCCESS);
    }
    print(&entries, false);
    for Closing { number, closed, hash, .. } in &entries {
        let calls = noun(closed.calls.unsigned_abs(), "call", "calls");
        println!("entry {number} at {}: {}, {calls}, hash {hash}", closed.at.to_rfc3339(), closed.state.name());
    }
    Ok(ExitCode::SUCCESS)
}

fn close(vendor: Option<Vendor>, as_json: bool, config: &Config) -> anyhow::Result<ExitCode> {
    let chosen = vendor.map_or_else(|| Vendor::configured(&config.vendors), |vendor| vec![vendor]);
    if chosen.is_empty() {
        anyhow::bail!("no vendor has an admin key. hint: set vendors.anthropic.admin_key or vendors.openai.admin_key");
    }
    let (added, errors) = with_database(config, "tallyd close", async |db| {
        let (mut added, mut errors) = (Vec::new(), Vec::new());
        for vendor in chosen {
            match (Look { client: db, vendor, config, now: vendors::now() }).run().await {
                Ok(entries) => added.extend(entries),
                Err(error) => errors.push(format!("{}: {error}", vendor.name())),
            }
        }
        Ok((added, errors))
    })?;
    if as_json {
        output::json(&json!({ "added": added, "errors": errors }))?;
    } else {
        print(&added, false);
        errors.iter().for_each(|error| eprintln!("error: {error}"));
    }
    Ok(if errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn export(config: &Config) -> anyhow::Result<ExitCode> {
    with_database(config, "tallyd close", async |db| {
        let (mut stream, mut after) = (Stream::new(), 0);
        loop {
            let entries = closings::page(db, after).await?;
            for entry in &entries {
                after = entry.number;
                if !stream.line(entry)? {
                    return Ok(ExitCode::SUCCESS);
                }
            }
            if entries.len() < PAGE {
                stream.flush()?;
                return Ok(ExitCode::SUCCESS);
            }
        }
    })
}

/// Entries in their order, checked one after the other.
#[derive(Default)]
struct Verification {
    chain: Chain,
    head: Option<String>,
    is_head_found: bool,
}

impl Verification {
    fn next(&mut self, entry: &Closing) -> Result<(), ChainError> {
        self.chain.next(entry)?;
        self.is_head_found |= self.head.as_ref() == Some(&entry.hash);
        Ok(())
    }

    fn end(&self) -> Result<(), ChainError> {
        match &self.head {
            Some(head) if !self.is_head_found => Err(ChainError::Head { head: head.clone() }),
            _ => Ok(()),
        }
    }
}

fn verify(file: Option<&Path>, head: Option<&str>, as_json: bool, config: &Config) -> anyhow::Result<ExitCode> {
    let mut verification = Verification { head: head.map(str::to_owned), ..Verification::default() };
    let checked = match file {
        Some(path) => verify_file(path, &mut verification)?,
        None => with_database(config, "tallyd close", async |db| {
            let mut after = 0;
            loop {
                let entries = closings::page(db, after).await?;
                if let Err(error) = entries.iter().try_for_each(|entry| verification.next(entry)) {
                    return Ok(Err(error.to_string()));
                }
                after = entries.last().map_or(after, |entry| entry.number);
                if entries.len() < PAGE {
                    return Ok(Ok(()));
                }
            }
        })?,
    };
    let checked = checked.and_then(|()| verification.end().map_err(|error| error.to_string()));
    let (entries, last) = verification.chain.head().unwrap_or_default();
    if as_json {
        output::json(
            &json!({ "whole": checked.is_ok(), "entries": entries, "head": last, "fault": checked.as_ref().err() }),
        )?;
    } else {
        match &checked {
            Ok(()) if entries == 0 => println!("the record has no entries"),
            Ok(()) => println!("{} whole; the last hash is {last}", noun(entries, "entry is", "entries are")),
            Err(fault) => println!("BROKEN after {}: {fault}", noun(entries, "whole entry", "whole entries")),
        }
    }
    Ok(if checked.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Checks a file's entries. A fault of the file itself is an error; one of its entries is the result.
fn verify_file(path: &Path, verification: &mut Verification) -> anyhow::Result<Result<(), String>> {
    let name = path.display().to_string();
    let input: Box<dyn Read> = match name.as_str() {
        "-" => Box::new(std::io::stdin()),
        _ => Box::new(std::fs::File::open(path).with_context(|| format!("cannot read {name}"))?),
    };
    let mut reader = BufReader::new(input);
    for number in 1_u64.. {
        let mut line = String::new();
        let read = reader.by_ref().take(LINE_BYTES_MAX).read_line(&mut line);
        if read.with_context(|| format!("cannot read {name}, line {number}"))? == 0 {
            break;
        }
        let checked = Closing::read(line.trim_end())
            .and_then(|entry| verification.next(&entry).map_err(|error| error.to_string()));
        if let Err(fault) = checked {
            return Ok(Err(format!("line {number}: {fault}")));
        }
    }
    Ok(Ok(()))
}
