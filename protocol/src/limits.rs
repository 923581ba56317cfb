//! Default bounds; the daemon's configuration can change some. Each is in the unit that its name ends with.

/// Bytes of one text field (`model`, `endpoint`, `user_id` …).
pub const TEXT_BYTES: usize = 512;
/// Bytes of one record's metadata, as JSON text.
pub const METADATA_BYTES: usize = 16 * 1024;
/// Entries of one record's `extra_units`.
pub const EXTRA_UNITS: usize = 32;
/// Entries of one record's `tags`.
pub const TAGS: usize = 16;
/// Bytes of a tag's name.
pub const TAG_NAME_BYTES: usize = 64;
/// Bytes of a tag's value.
pub const TAG_VALUE_BYTES: usize = 256;
/// Tokens in one bucket of one record, and its `requests`. A rollup row sums them in 63 bits, so 9.2 * 10^9 calls of this
/// size fill one.
pub const TOKENS: u64 = 1_000_000_000;
/// The largest value that [`TOKENS`] can be set to, and its value in earlier versions: 9.2 million calls of this size fill a
/// row.
pub const TOKENS_MAX: u64 = 1_000_000_000_000;
/// USD, either sign, that a client may state as a record's cost.
pub const COST_USD: i128 = 1_000_000_000;
/// The lowest `occurred_at`, 2015-01-01T00:00:00Z, in microseconds since 1970.
pub const OCCURRED_AT_MIN_US: i64 = 1_420_070_400_000_000;
/// How far `occurred_at` may be ahead of the daemon's clock, in microseconds.
pub const AHEAD_US: i64 = 5 * 60 * 1_000_000;
/// Bytes of one frame without its length prefix.
pub const FRAME_BYTES: usize = 1024 * 1024;
/// Records of one frame.
pub const FRAME_RECORDS: usize = 16_384;
/// Bytes of a producer's name.
pub const PRODUCER_BYTES: usize = 128;
/// The fewest bytes of a producer's secret: the hex digits of 128 random bits.
pub const SECRET_BYTES_MIN: usize = 32;
/// The most bytes of a producer's secret.
pub const SECRET_BYTES_MAX: usize = 128;
/// The highest sequence number, which every client's language represents exactly.
pub const SEQ_MAX: u64 = (1 << 53) - 1;
/// How far a frame's first number may be beyond the highest one that the daemon knows. A client may skip numbers, and keeps
/// its own if the daemon has lost its state. At 100,000 records a second this distance takes 127 days.
pub const SEQ_JUMP: u64 = 1 << 40;
