//! `[wal]`: the WAL on disk, where a record is safe before it is acknowledged.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use tallyd_protocol::AckMode;

use super::error::Faults;
use super::form;

/// When the buffer is synced to disk, by the acknowledged records that can be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sync {
    /// Before every acknowledgement, many records at a time. Nothing acknowledged is ever lost, not even when the power
    /// fails.
    #[default]
    Always,
    /// Every `interval_ms`. Killing the daemon loses nothing; a power cut or a crash of the system loses up to that
    /// long.
    Interval,
    /// When the operating system decides. Killing the daemon loses nothing; a power cut or a crash of the system loses all data
    /// that had not been written yet: often half a minute, without a bound.
    Os,
}

/// The WAL.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wal {
    /// When the WAL is synced to disk, by the acknowledged records that can be lost:
    ///
    /// * `"always"`: nothing, ever; many records share one sync.
    /// * `"interval"`: nothing if the daemon is killed, up to `interval_ms` if the power fails.
    /// * `"os"`: nothing if the daemon is killed, an unbounded time if the power fails.
    pub sync: Sync,
    /// When a record is acknowledged. A client can ask for the stricter mode in its `hello`.
    ///
    /// * `"durable"`: after the sync of the WAL. Acknowledged records that are not loaded yet are lost with the data folder's disk.
    /// * `"committed"`: after PostgreSQL's COMMIT. Nothing acknowledged is lost with the data folder. While PostgreSQL is down, nothing is
    ///   acknowledged: clients hold their records within their bounds, and requests are answered with 503.
    pub ack: AckMode,
    /// How long a request over HTTP or OTLP waits for its COMMIT before it is answered with 503, and how long a connection
    /// waits for its last acknowledgements once its client sends no more. At most 25 s.
    #[serde(rename = "commit_wait_ms", with = "form::milliseconds")]
    pub commit_wait: Duration,
    /// The pause between two syncs, for `"interval"`.
    #[serde(rename = "interval_ms", with = "form::milliseconds")]
    pub interval: Duration,
    /// Bytes of records in one segment, the unit in which space comes back; at most a quarter of `max_bytes`.
    pub segment_bytes: u64,
    /// Bytes of records in all segments; at this bound the daemon stops reading, and clients hold their records.
    pub max_bytes: u64,
    /// Bytes of the disk that are left free; the daemon stops reading before it takes them.
    pub min_free_bytes: u64,
    /// Bytes of records that wait in memory to be written; connections wait beyond.
    pub channel_bytes: usize,
    /// Bytes of written records kept in memory for the flusher, so that it need not read them back.
    pub recent_bytes: usize,
    /// Producers whose last sequence number is remembered. Beyond it the longest idle one is forgotten that is not connected
    /// and was not heard of for an hour; where there is none, new ones are refused.
    pub max_producers: usize,
    /// A producer that has been silent for longer is forgotten, and must not resend older records. Imports are kept.
    #[serde(rename = "producer_idle_days", with = "form::days")]
    pub producer_idle: Duration,
    /// How long a call is known by an id that its sender states: a second record of it is a duplicate. `tallyd duplicates`
    /// finds older ones.
    #[serde(rename = "identity_window_days", with = "form::days")]
    pub identity_window: Duration,
    /// Stated ids that are remembered, 16 bytes each on disk and 24 in memory. Beyond it the oldest quarter is forgotten
    /// early.
    pub max_identities: usize,
}

impl Default for Wal {
    fn default() -> Self {
        Self {
            sync: Sync::Always,
            ack: AckMode::Durable,
            commit_wait: Duration::from_secs(10),
            interval: Duration::from_secs(1),
            segment_bytes: 16 << 20,
            max_bytes: 8 << 30,
            min_free_bytes: 256 << 20,
            channel_bytes: 16 << 20,
            recent_bytes: 32 << 20,
            max_producers: 65_536,
            producer_idle: Duration::from_secs(30 * 24 * 60 * 60),
            identity_window: Duration::from_secs(2 * 24 * 60 * 60),
            max_identities: 10_000_000,
        }
    }
}

impl Wal {
    pub(super) fn validate(&self, faults: &mut Faults, max_frame_bytes: usize) {
        faults.in_range("wal.interval_ms", self.interval.as_millis(), 1..=60_000);
        faults.in_range("wal.commit_wait_ms", self.commit_wait.as_millis(), 100..=25_000);
        faults.in_range("wal.segment_bytes", self.segment_bytes, 64 << 10..=1 << 30);
        faults.in_range("wal.max_bytes", self.max_bytes, 256 << 10..=1 << 50);
        if self.segment_bytes > self.max_bytes / 4 {
            let reason = format!(
                "{} is more than a quarter of wal.max_bytes ({}), and space comes back a segment at a time; \
                 lower it, or raise that",
                self.segment_bytes, self.max_bytes
            );
            faults.add("wal.segment_bytes", reason);
        }
        if self.channel_bytes < max_frame_bytes {
            let reason = format!(
                "{} is less than listen.max_frame_bytes ({max_frame_bytes}), so the largest frame would never pass; \
                 raise it, or lower that",
                self.channel_bytes
            );
            faults.add("wal.channel_bytes", reason);
        }
        faults.in_range("wal.channel_bytes", self.channel_bytes, 4096..=16 << 30);
        faults.in_range("wal.recent_bytes", self.recent_bytes, 0..=64 << 30);
        faults.in_range("wal.max_producers", self.max_producers, 1..=16_777_216);
        faults.in_range("wal.producer_idle_days", self.producer_idle.as_secs() / 86_400, 1..=3650);
        faults.in_range("wal.identity_window_days", self.identity_window.as_secs() / 86_400, 1..=30);
        faults.in_range("wal.max_identities", self.max_identities, 1_000..=1_000_000_000);
    }
}
