//! `tallyd demo`: realistic traffic against a running daemon, through the client that applications use.

mod traffic;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use tallyd_client::{Endpoint, FlushOutcome, Recorder, Stats};

use super::output::{self, count};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use traffic::Traffic;

/// Send realistic traffic to the running daemon: Claude and RentCast calls of many users, with caches, errors and batches.
/// Ends after --seconds, or at Ctrl-C. Exits 1 if something was not acknowledged.
#[derive(Args)]
#[command(after_help = "Examples:
  tallyd demo --rate 500 --seconds 30
  tallyd demo --backfill 90 --rate 0 --seconds 10      a quarter of history, as fast as it goes")]
pub struct DemoArgs {
    /// Calls a second; 0 is as fast as the daemon takes them
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// How long [default: until Ctrl-C]
    #[arg(long)]
    seconds: Option<u64>,
    /// Distinct users
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    users: u32,
    /// The same seed makes the same calls
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Spread the calls over so many past days instead of making them now
    #[arg(long, default_value_t = 0, value_name = "DAYS")]
    backfill: u32,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

/// How often the live line is written.
const LIVE_INTERVAL: Duration = Duration::from_millis(250);
/// How long the daemon may take to acknowledge what is left at the end.
const FLUSH_DEADLINE: Duration = Duration::from_secs(30);

#[derive(Serialize)]
struct Summary {
    seed: u64,
    recorded: u64,
    acked: u64,
    rejected: u64,
    outstanding: u64,
    seconds: f64,
    acked_per_second: f64,
}

pub fn run(args: &DemoArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let stopped = stop_flag()?;
    let recorder = Recorder::builder(Endpoint::unix(config.socket_path())).app("tallyd-demo").build();
    let mut traffic = Traffic::new(args.seed, args.users, args.backfill);
    let started = Instant::now();
    let mut shown = started;
    let mut made = 0u64;
    while !stopped.load(Ordering::Relaxed) && args.seconds.is_none_or(|seconds| started.elapsed().as_secs() < seconds) {
        let due = match args.rate {
            0 => made + 1_000,
            rate => (started.elapsed().as_secs_f64() * f64::from(rate)) as u64 + 1,
        };
        let now_us = SystemClock.now_us();
        while made < due && !stopped.load(Ordering::Relaxed) {
            if !has_room(&recorder) {
                // The daemon holds its clients back; a demonstration waits where an application would go on.
                break;
            }
            recorder.record(traffic.call(now_us));
            made += 1;
        }
        if shown.elapsed() >= LIVE_INTERVAL {
            shown = Instant::now();
            live(&recorder.stats(), started.elapsed());
        }
        if args.rate != 0 || !has_room(&recorder) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let outcome = recorder.flush(FLUSH_DEADLINE);
    finish(args, &recorder, outcome, started.elapsed())
}

/// True while the recorder's ring has room to spare: nothing is dropped then.
fn has_room(recorder: &Recorder) -> bool {
    let stats = recorder.stats();
    stats.recorded - stats.acked - stats.rejected < 50_000 && stats.in_flight < 8_000
}

fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    let stopped = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stopped);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("ctrl-c".into()).spawn(move || {
        // Without the handler Ctrl-C simply ends the process.
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            flag.store(true, Ordering::Relaxed);
        }
    })?;
    Ok(stopped)
}

fn live(stats: &Stats, elapsed: Duration) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let rate = stats.acked as f64 / elapsed.as_secs_f64().max(0.001);
    let state = if stats.connected { "" } else { "  (no daemon: waiting)" };
    eprint!(
        "\r\x1b[K{} recorded, {} on disk, {} refused, {} a second{state}",
        count(stats.recorded),
        count(stats.acked),
        count(stats.rejected),
        count(rate as u64)
    );
    // A line that is not shown is shown a moment later.
    let _ = std::io::stderr().flush();
}

fn finish(args: &DemoArgs, recorder: &Recorder, outcome: FlushOutcome, elapsed: Duration) -> anyhow::Result<ExitCode> {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
    let stats = recorder.stats();
    let outstanding = match outcome {
        FlushOutcome::Settled => 0,
        FlushOutcome::Outstanding(records) => records,
    };
    let seconds = elapsed.as_secs_f64();
    let summary = Summary {
        seed: args.seed,
        recorded: stats.recorded,
        acked: stats.acked,
        rejected: stats.rejected,
        outstanding,
        seconds,
        acked_per_second: stats.acked as f64 / seconds.max(0.001),
    };
    if args.json {
        output::json(&summary)?;
    } else {
        println!(
            "{} calls recorded, {} on disk, {} refused, {} a second (seed {})",
            count(summary.recorded),
            count(summary.acked),
            count(summary.rejected),
            count(summary.acked_per_second as u64),
            summary.seed
        );
    }
    if outstanding > 0 {
        eprintln!("error: {} calls were not acknowledged", count(outstanding));
        output::hint("is a daemon running? `tallyd status` tells");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
