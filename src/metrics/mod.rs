//! Metrics: each one is a documented line in [`tallyd_base::registry`]; its doc comment is its help text.
//!
//! The data plane keeps handles ([`tallyd_pipeline::metrics`]).

mod spend;

use std::time::Duration;

use tallyd_base::registry;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

pub(crate) use spend::exposition as spend_exposition;

/// The daemon's metrics in Prometheus' text format, the process's own (memory, processor, file descriptors) among them.
#[must_use]
pub(crate) fn exposition(renderer: &PrometheusHandle) -> String {
    metrics_process::Collector::default().collect();
    renderer.render()
}

/// Upper bounds of latency buckets, in seconds: from a fast local disk to a stuck database.
const LATENCY_BUCKETS_S: [f64; 16] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];
/// Upper bounds of batch sizes, in records.
const SIZE_BUCKETS: [f64; 10] = [1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0, 262_144.0];

/// Installs the process's recorder and describes every metric. Returns the handle that renders them.
///
/// # Errors
/// If another recorder has been installed.
pub(crate) fn install() -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &LATENCY_BUCKETS_S)?
        .set_buckets_for_metric(Matcher::Suffix("_batch_records".into()), &SIZE_BUCKETS)?
        .install_recorder()?;
    registry::describe();
    metrics_process::Collector::default().describe();
    let info = metrics::gauge!(registry::BUILD_INFO, "version" => env!("CARGO_PKG_VERSION"));
    info.set(1.0);
    Ok(handle)
}

/// How often the renderer's upkeep must run, so that the memory of histograms stays bounded without scrapes.
pub(crate) const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
