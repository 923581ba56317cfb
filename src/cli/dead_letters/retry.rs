//! `tallyd dead-letters retry`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::filter::FilterArgs;
use super::{connect, each_page, output};
use crate::cli::actor;
use crate::retry::{Retrier, RetryError, RetryOutcome};
use tallyd_base::clock::SystemClock;
use tallyd_config::Config;
use tallyd_store::dead_letters::{DeadLetter, Edit, Order};
use tallyd_store::load::FlushError;
use tallyd_store::queries::audit::Actor;
use tallyd_store::{Database, FailureClass, classify};

pub(super) const EXAMPLES: &str = "Examples:
  tallyd dead-letters retry 42 43
  tallyd dead-letters retry 42 --set provider=claude --set model=claude-sonnet-5
  tallyd dead-letters retry --code unknown_field --unset colour
  tallyd dead-letters retry --code 22003 --since 24h --set 'metadata={}' --json | jq .refused

The fields are those of a usage record: occurred_at, provider, model, endpoint, user_id … A record without a time of its
own gets that of its arrival.";

/// Attempts of a transaction that meets a deadlock or a broken connection.
const ATTEMPTS: u32 = 5;
/// The pause before the next attempt, times the number of attempts so far.
const PAUSE: Duration = Duration::from_millis(200);
/// The most refused letters that are printed one by one.
const TOLD_MAX: usize = 20;

#[derive(Args)]
pub(super) struct RetryArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Correct a field before: FIELD=VALUE; the flag again for each field
    #[arg(long, value_name = "FIELD=VALUE")]
    set: Vec<String>,
    /// Take a field out before, also one that no record has
    #[arg(long, value_name = "FIELD")]
    unset: Vec<String>,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

/// Results for all letters.
#[derive(Default, Serialize)]
struct Summary {
    /// Letters whose records are in the call log now.
    retried: u64,
    /// Letters that were settled before, or that the filter does not match.
    not_open: u64,
    /// Letters that were refused again, and stay open.
    refused: Vec<Refused>,
}

#[derive(Serialize)]
struct Refused {
    id: i64,
    reason: String,
}

pub(super) async fn run(args: &RetryArgs, config: &Config, database: &Database) -> anyhow::Result<ExitCode> {
    let filter = args.filter.required("retry")?;
    let mut edits = args.set.iter().map(|text| Edit::parse(text)).collect::<Result<Vec<_>, _>>()?;
    edits.extend(args.unset.iter().map(|field| Edit::remove(field)));
    // Letters that are refused again stay open. Their numbers are read once, so that no letter is tried twice.
    let mut pages = Vec::new();
    {
        let connection = connect(database).await?;
        each_page(&connection, &filter, Order::OldestFirst, |page| {
            pages.push(page.iter().map(|letter| letter.id).collect::<Vec<_>>());
            Ok(true)
        })
        .await?;
    }
    let total: usize = pages.iter().map(Vec::len).sum();
    if total == 0 {
        super::point_out(&connect(database).await?, &filter).await?;
    }
    let mut summary = Summary::default();
    if !filter.ids.is_empty() {
        summary.not_open = filter.ids.len().saturating_sub(total) as u64;
    }
    let mut done = 0;
    for ids in pages {
        for (id, outcome) in ids.iter().zip(retry_page(config, database, &ids, &edits).await?) {
            summary.add(*id, outcome);
        }
        done += ids.len();
        if !args.json && total > ids.len() {
            eprintln!("{} of {}", output::count(done as u64), output::count(total as u64));
        }
    }
    summary.print(args.json)
}

/// One transaction, tried again while the error may pass. After a COMMIT whose answer was lost, the letters are
/// settled, and the next attempt reports them as not open.
async fn retry_page(
    config: &Config,
    database: &Database,
    ids: &[i64],
    edits: &[Edit],
) -> anyhow::Result<Vec<RetryOutcome>> {
    let mut attempt = 1;
    loop {
        match try_page(config, database, ids, edits).await {
            Ok(outcomes) => return Ok(outcomes),
            Err(error) if attempt < ATTEMPTS && passes(&error) => {
                tokio::time::sleep(PAUSE * attempt).await;
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn try_page(
    config: &Config,
    database: &Database,
    ids: &[i64],
    edits: &[Edit],
) -> anyhow::Result<Vec<RetryOutcome>> {
    let connection = connect(database).await?;
    let retrier = Retrier::new(config, &connection, &SystemClock).await?;
    let filter = tallyd_store::dead_letters::Filter { ids: ids.to_vec(), settled: true, ..Default::default() };
    let mut letters: Vec<DeadLetter> = Vec::with_capacity(ids.len());
    each_page(&connection, &filter, Order::OldestFirst, |page| {
        letters.extend(page);
        Ok(true)
    })
    .await?;
    let outcomes = retrier.retry(&connection, &letters, edits, &Actor::at_the_command_line(&actor())).await?;
    // Both lists are in the order of the numbers. A letter that is missing was settled by somebody else.
    let found: std::collections::HashMap<_, _> = letters.iter().map(|letter| letter.id).zip(outcomes).collect();
    Ok(ids.iter().map(|id| found.get(id).cloned().unwrap_or(RetryOutcome::Settled)).collect())
}

fn passes(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<RetryError>() {
        Some(RetryError::Load(FlushError::Postgres(error))) => {
            matches!(
                classify(error),
                FailureClass::Transient | FailureClass::Serialization | FailureClass::MissingPartition
            )
        }
        _ => false,
    }
}

impl Summary {
    fn add(&mut self, id: i64, outcome: RetryOutcome) {
        let reason = match outcome {
            RetryOutcome::Retried(_) | RetryOutcome::Known(_) => {
                self.retried += 1;
                return;
            }
            RetryOutcome::Settled => {
                self.not_open += 1;
                return;
            }
            outcome => outcome.to_string(),
        };
        self.refused.push(Refused { id, reason });
    }

    fn print(&self, json: bool) -> anyhow::Result<ExitCode> {
        if json {
            output::json(self)?;
        } else {
            for refused in self.refused.iter().take(TOLD_MAX) {
                eprintln!("{}: {}", refused.id, refused.reason);
            }
            println!(
                "{} retried, {} not open, {} refused again",
                output::count(self.retried),
                output::count(self.not_open),
                output::count(self.refused.len() as u64)
            );
            if !self.refused.is_empty() {
                output::hint("correct a field with --set FIELD=VALUE, or take it out with --unset FIELD");
            }
        }
        Ok(if self.refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
