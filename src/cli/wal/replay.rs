//! `tallyd wal replay`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;

use super::{find, output, segments};
use tallyd_base::clock::{Clock, SystemClock};
use tallyd_config::Config;
use tallyd_store::load::FlushError;
use tallyd_store::load::direct::DirectLoader;
use tallyd_store::load::replay::{Replay, Replayed};
use tallyd_store::{Database, FailureClass, classify};
use tallyd_wal::files;
use tallyd_wal::inspect::{ReplayNote, SegmentReport, SegmentState};
use tallyd_wal::recent::StoredChunk;

/// Attempts of a transaction that meets a deadlock or a broken connection.
const ATTEMPTS: u32 = 5;
/// The pause before the next attempt, times the number of attempts so far.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Args)]
pub(super) struct ReplayArgs {
    /// Names of segments that were set aside
    #[arg(required_unless_present = "all")]
    names: Vec<String>,
    /// Every segment that was set aside and not replayed yet
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// Print the result for each as JSON
    #[arg(long)]
    json: bool,
}

/// The result for one segment.
#[derive(Serialize)]
struct Outcome {
    name: String,
    #[serde(flatten)]
    replayed: Replayed,
    missing_keys: u64,
}

pub(super) fn run(args: &ReplayArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let chosen = if args.all {
        segments(config)?.into_iter().filter(|segment| segment.state == SegmentState::SetAside).collect()
    } else {
        args.names.iter().map(|name| find(config, name)).collect::<Result<Vec<_>, _>>()?
    };
    if let Some(segment) = chosen.iter().find(|s| !matches!(s.state, SegmentState::SetAside | SegmentState::Replayed)) {
        bail!("{} was not set aside: the daemon loads it by itself", segment.name);
    }
    let outcomes = super::super::block_on(async {
        let database = super::super::open_database(config).await?;
        let mut outcomes = Vec::new();
        for segment in &chosen {
            match replay(segment, config, &database).await {
                Ok(outcome) => outcomes.push(outcome),
                Err(error) => {
                    database.close().await;
                    return Err(error.context(format!("segment {}; run the command again", segment.name)));
                }
            }
        }
        database.close().await;
        Ok(outcomes)
    })?;
    if args.json {
        output::json(&outcomes)?;
    } else if outcomes.is_empty() {
        println!("no segment waits for a replay");
    }
    for Outcome { name, replayed, missing_keys } in outcomes.iter().filter(|_| !args.json) {
        println!(
            "{name}: {} loaded, {} there",
            output::noun(replayed.loaded, "call", "calls"),
            output::noun(replayed.there, "was", "were")
        );
        for (number, one, many, what) in [
            (replayed.poison, "call is a dead letter", "calls are dead letters", ": PostgreSQL does not take it"),
            (replayed.letters, "refused record is a dead letter", "refused records are dead letters", ""),
            (
                replayed.expired,
                "call was left out",
                "calls were left out",
                ": the call log's rows of that day were deleted",
            ),
            (*missing_keys, "key cannot be read", "keys cannot be read", ""),
        ] {
            if number > 0 {
                println!("  {}{what}", output::noun(number, one, many));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn replay(segment: &SegmentReport, config: &Config, database: &Database) -> anyhow::Result<Outcome> {
    let _lock = segment.lock()?;
    let contents = segment.read()?;
    let buffer_id = match contents.buffer_id {
        Some(buffer_id) => buffer_id,
        None => files::read(&config.data_dir.join("wal").join("buffer")).context("the WAL's identity")?,
    };
    let direct = DirectLoader::new(config, &*database.connect("tallyd replay").await?).await?;
    let replay = Replay::new(&direct, buffer_id);
    let total = contents.chunks.len();
    let (mut replayed, mut done) = (Replayed::default(), 0);
    for batch in Replay::batches(&contents) {
        replayed += load(&replay, database, batch).await?;
        done += batch.len();
        if total > batch.len() {
            eprintln!("{}: {} % of the readable records", segment.name, done * 100 / total);
        }
    }
    let earlier = segment.replayed().map_or(0, |note| note.loaded);
    segment.note_replayed(ReplayNote { at_us: SystemClock.now_us(), loaded: earlier + replayed.loaded })?;
    let missing_keys = contents.missing.iter().map(|range| range.end() - range.start() + 1).sum();
    Ok(Outcome { name: segment.name.clone(), replayed, missing_keys })
}

/// One transaction, tried again while the error may pass. After a COMMIT whose answer was lost, the next attempt finds
/// everything loaded.
async fn load(replay: &Replay<'_>, database: &Database, batch: &[StoredChunk]) -> anyhow::Result<Replayed> {
    let mut attempt = 1;
    loop {
        let connection = database.connect("tallyd replay").await?;
        match replay.load(&connection, batch).await {
            Ok(replayed) => return Ok(replayed),
            Err(FlushError::Postgres(error)) if attempt < ATTEMPTS && passes(&error) => {
                tokio::time::sleep(PAUSE * attempt).await;
                attempt += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn passes(error: &tokio_postgres::Error) -> bool {
    use FailureClass::{MissingPartition, Serialization, Transient};
    matches!(classify(error), Transient | Serialization | MissingPartition)
}
