//! Records two calls and prints their outcome: `cargo run -p tallyd-client --example record -- /run/tallyd/tallyd.sock`

use std::process::ExitCode;
use std::time::Duration;

use tallyd_client::{Endpoint, FlushOutcome, Record, Recorder};

fn main() -> ExitCode {
    let path = std::env::args().nth(1).unwrap_or_else(|| "/run/tallyd/tallyd.sock".to_owned());
    let recorder = Recorder::builder(Endpoint::unix(path))
        .app("example")
        .on_drop(|record| eprintln!("the ring is full, not recorded: {record:?}"))
        .on_reject(|rejected| eprintln!("refused: {} ({})", rejected.message, rejected.code))
        .build();

    // At the place of the call. This returns at once, even without a daemon.
    recorder.record(Record::claude("claude-sonnet-4-20250514", 1200, 350).user("u-42"));
    recorder.record(Record::rentcast("/avm/value").user("u-42"));

    // At the end of the process, or before a serverless function freezes.
    match recorder.flush(Duration::from_secs(2)) {
        FlushOutcome::Settled => {
            println!("{:?}", recorder.stats());
            ExitCode::SUCCESS
        }
        FlushOutcome::Outstanding(records) => {
            let why = recorder.stats().last_error.unwrap_or_else(|| "the daemon is slow".to_owned());
            eprintln!("not settled: {records} ({why})\nhint: is tallyd running, and is the path its socket's?");
            ExitCode::FAILURE
        }
    }
}
