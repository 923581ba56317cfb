//! Records one call: `set -a; . ./tallyd.env; cargo run --example tallyd_example`.

use std::time::Duration;

use tallyd_client::{Endpoint, FlushOutcome, Record, Recorder};

fn main() {
    let endpoint = std::env::var("TALLYD_ENDPOINT").expect("tallyd.env sets TALLYD_ENDPOINT");
    let endpoint = match endpoint.strip_prefix("tcp://") {
        Some(address) => Endpoint::tcp(address, std::env::var("TALLYD_TOKEN").expect("tallyd.env sets TALLYD_TOKEN")),
        None => Endpoint::unix(endpoint.trim_start_matches("unix:")),
    };
    let recorder = Recorder::builder(endpoint).app("example").build();
    recorder.record(Record::claude("claude-sonnet-5", 1200, 350));
    assert_eq!(recorder.flush(Duration::from_secs(5)), FlushOutcome::Settled, "is the daemon running?");
    println!("the call is durable");
}
