//! The bounds that hold unless the daemon is configured otherwise. Each is in the unit that its name ends with.

/// Bytes of one text field (`model`, `endpoint`, `user_id` …).
pub const TEXT_BYTES: usize = 512;
/// Bytes of one record's metadata, as JSON text.
pub const METADATA_BYTES: usize = 16 * 1024;
/// Entries of one record's `extra_units`.
pub const EXTRA_UNITS: usize = 32;
/// Tokens in one bucket of one record.
pub const TOKENS: u64 = 1_000_000_000_000;
/// USD, either sign, that a client may state as a record's cost.
pub const COST_USD: i128 = 1_000_000_000;
/// 2015-01-01T00:00:00Z: no record is older. Microseconds since 1970.
pub const OCCURRED_AT_MIN_US: i64 = 1_420_070_400_000_000;
/// How far `occurred_at` may be ahead of the daemon's clock, in microseconds.
pub const AHEAD_US: i64 = 5 * 60 * 1_000_000;
/// Bytes of one frame, without its length prefix.
pub const FRAME_BYTES: usize = 1024 * 1024;
/// Records of one frame.
pub const FRAME_RECORDS: usize = 16_384;
/// Bytes of a producer's name.
pub const PRODUCER_BYTES: usize = 128;
