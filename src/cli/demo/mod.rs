//! `tallyd demo`: realistic traffic against a running daemon, through the client that applications use.
//!
//! An application that finds the recorder's ring full goes on and loses the record. The demonstration waits instead: it
//! keeps the number of unsettled records below the ring's capacity. So no record is dropped, however fast it goes and
//! however long the daemon is away.

pub(super) mod traffic;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use tallyd_client::{Endpoint, FlushOutcome, Recorder, Stats};

use super::output::{self, count};
use tallyd_base::clock::{Clock, SystemClock};
use tallyd_config::Config;
use traffic::Traffic;

/// Send realistic traffic to the running daemon: Claude and RentCast calls of many users, with caches, errors and batches.
/// Ends after --seconds, or at Ctrl-C. Exits 1 if something was not acknowledged.
#[derive(Args)]
#[command(after_help = "Examples:
  tallyd demo --rate 500 --seconds 30
  tallyd demo --backfill 90 --rate 0 --seconds 10      a quarter of history, as fast as it goes")]
pub(super) struct DemoArgs {
    /// Calls a second; 0 is as fast as the daemon takes them
    #[arg(long, default_value_t = 200, value_name = "N")]
    rate: u32,
    /// How long [default: until Ctrl-C]
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Distinct users
    #[arg(long, default_value_t = 500, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    users: u32,
    /// The same seed makes the same calls [default: another one each time, printed at the end]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Spread the calls over this number of past days instead of making them now
    #[arg(long, default_value_t = 0, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(0..=BACKFILL_DAYS_MAX))]
    backfill: u32,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

/// Ten years: the daemon takes no records from before 2015.
const BACKFILL_DAYS_MAX: i64 = 3_650;
/// The capacity of the recorder's ring, records.
const RING: usize = 1 << 16;
/// Calls between two looks at the ring's room.
const BURST: u64 = 256;
/// Above this number of unsettled records the demonstration waits. A burst still fits into the ring then.
const UNSETTLED_MAX: u64 = RING as u64 - BURST;
/// The pause before the next look.
const PAUSE: Duration = Duration::from_millis(1);
/// How often the live line is written.
const LIVE_INTERVAL: Duration = Duration::from_millis(250);
/// The longest wait for the last acknowledgements.
const FLUSH_DEADLINE: Duration = Duration::from_secs(30);

#[derive(Serialize)]
struct Summary {
    seed: u64,
    recorded: u64,
    acked: u64,
    refused: u64,
    dropped: u64,
    outstanding: u64,
    seconds: f64,
    acked_per_second: f64,
}

pub(super) fn run(args: &DemoArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let stopped = stop_flag()?;
    // 32 bits, so that a person can type the seed.
    let seed = args.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let endpoint = Endpoint::unix(config.socket_path());
    // `TALLYD_DISABLED` is for applications: with it a demonstration would succeed without recording anything.
    let builder = Recorder::builder(endpoint).app("tallyd-demo").ring_capacity(RING).quiet().disabled(false);
    let recorder = builder.build();
    let mut traffic = Traffic::new(seed, args.users, args.backfill);
    let started = Instant::now();
    let end = args.seconds.map(Duration::from_secs);
    let is_over = || stopped.load(Ordering::Relaxed) || end.is_some_and(|end| started.elapsed() >= end);
    let mut live = Live::new(started);
    let mut made = 0;
    while !is_over() {
        let burst = due(args.rate, started.elapsed(), made).min(BURST);
        if burst > 0 && recorder.stats().in_flight <= UNSETTLED_MAX {
            let now_us = SystemClock.now_us();
            for _ in 0..burst {
                // There is room, by [`UNSETTLED_MAX`]. A record that did not fit would be counted as dropped, and
                // reported.
                recorder.record(traffic.call(now_us));
            }
            made += burst;
        } else {
            std::thread::sleep(PAUSE);
        }
        live.show(&recorder, false);
    }
    let outcome = recorder.flush(FLUSH_DEADLINE);
    live.show(&recorder, true);
    finish(&recorder.stats(), outcome, seed, started.elapsed(), args.json)
}

/// Calls to make now, to keep up with the rate; without bound at rate 0.
fn due(rate: u32, elapsed: Duration, made: u64) -> u64 {
    if rate == 0 {
        return u64::MAX;
    }
    let by_now = elapsed.as_micros() * u128::from(rate) / 1_000_000;
    u64::try_from(by_now).unwrap_or(u64::MAX).saturating_sub(made)
}

fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    let stopped = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stopped);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("ctrl-c".into()).spawn(move || {
        // Without the handler Ctrl-C ends the process at once.
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            flag.store(true, Ordering::Relaxed);
            // A second Ctrl-C does not wait for acknowledgements.
            if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
                std::process::exit(1);
            }
        }
    })?;
    Ok(stopped)
}

/// A live line on a terminal; elsewhere a line now and then.
struct Live {
    started: Instant,
    shown: Instant,
    on_terminal: bool,
}

impl Live {
    fn new(started: Instant) -> Self {
        Self { started, shown: started, on_terminal: std::io::stderr().is_terminal() }
    }

    /// Shows the counters if the interval has passed, or if they are the last ones.
    fn show(&mut self, recorder: &Recorder, is_last: bool) {
        let interval = if self.on_terminal { LIVE_INTERVAL } else { 20 * LIVE_INTERVAL };
        if !is_last && self.shown.elapsed() < interval {
            return;
        }
        self.shown = Instant::now();
        let line = line(&recorder.stats(), self.started.elapsed());
        let (before, after) = if self.on_terminal { ("\r\x1b[K", "") } else { ("", "\n") };
        let after = if is_last { "\n" } else { after };
        // A line that cannot be shown must not end the demonstration.
        let mut stderr = std::io::stderr();
        let _ = write!(stderr, "{before}{line}{after}").and_then(|()| stderr.flush());
    }
}

fn line(stats: &Stats, elapsed: Duration) -> String {
    let rate = per_second(stats.acked, elapsed);
    format!(
        "{} recorded, {} on disk, {} refused, {} dropped, {} a second{}",
        count(stats.recorded),
        count(stats.acked),
        count(stats.rejected),
        count(stats.dropped),
        count(rate as u64),
        if stats.connected { "" } else { "  (no daemon: waiting)" }
    )
}

fn per_second(records: u64, elapsed: Duration) -> f64 {
    records as f64 / elapsed.as_secs_f64().max(0.001)
}

fn finish(
    stats: &Stats,
    outcome: FlushOutcome,
    seed: u64,
    elapsed: Duration,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let outstanding = match outcome {
        FlushOutcome::Settled => 0,
        FlushOutcome::Outstanding(records) => records,
    };
    let summary = Summary {
        seed,
        recorded: stats.recorded,
        acked: stats.acked,
        refused: stats.rejected,
        dropped: stats.dropped,
        outstanding,
        seconds: elapsed.as_secs_f64(),
        acked_per_second: per_second(stats.acked, elapsed),
    };
    if as_json {
        output::json(&summary)?;
    } else {
        let (acked, refused) = (count(stats.acked), count(stats.rejected));
        let recorded = output::noun(stats.recorded, "call", "calls");
        let rate = count(summary.acked_per_second as u64);
        println!("{recorded} recorded, {acked} on disk, {refused} refused, {rate} a second (seed {seed})");
    }
    if outstanding + stats.dropped == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("error: {} not acknowledged", output::noun(outstanding + stats.dropped, "call was", "calls were"));
    if let Some(error) = &stats.last_error {
        eprintln!("  because: {error}");
    }
    output::hint("is a daemon running? `tallyd status` tells");
    Ok(ExitCode::FAILURE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_from_the_first_second_on() {
        assert_eq!(due(200, Duration::ZERO, 0), 0);
        assert_eq!(due(200, Duration::from_millis(50), 0), 10);
        assert_eq!(due(200, Duration::from_secs(10), 1_990), 10);
        // After a wait for the daemon many calls are due, but never a negative number.
        assert_eq!(due(200, Duration::from_secs(1), 300), 0);
        assert_eq!(due(0, Duration::ZERO, 1 << 40), u64::MAX);
        assert_eq!(due(u32::MAX, Duration::from_secs(u64::MAX), 0), u64::MAX);
    }

    #[test]
    fn only_a_run_that_is_settled_in_full_is_a_success() {
        let code = |outcome, dropped| {
            let stats = Stats { recorded: 2, acked: 2, dropped, ..Stats::default() };
            finish(&stats, outcome, 1, Duration::from_secs(1), false).unwrap()
        };
        assert_eq!(code(FlushOutcome::Settled, 0), ExitCode::SUCCESS);
        assert_eq!(code(FlushOutcome::Outstanding(1), 0), ExitCode::FAILURE);
        assert_eq!(code(FlushOutcome::Settled, 1), ExitCode::FAILURE);
    }
}
