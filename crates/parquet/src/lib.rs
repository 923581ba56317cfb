//! Tables as Parquet files, for engines that read columns. The only place that knows the `parquet` crate.
//!
//! ## Types
//! | [`Kind`] | physical type | logical type |
//! |---|---|---|
//! | `Text`, `Json` | `BYTE_ARRAY` | `STRING`, `JSON` |
//! | `Short`, `Int` | `INT32` | |
//! | `Long` | `INT64` | |
//! | `Whole` | `FIXED_LEN_BYTE_ARRAY(16)` | `DECIMAL(38, 0)` |
//! | `Usd` | `FIXED_LEN_BYTE_ARRAY(16)` | `DECIMAL(38, 18)` |
//! | `Instant` | `INT64` | `TIMESTAMP(MICROS, UTC)` |
//! | `Uuid` | `FIXED_LEN_BYTE_ARRAY(16)` | `UUID` |
//!
//! Decimals are exact: a value is an integer of 10⁻¹⁸, as in the rest of tallyd, so no sum is rounded.
//!
//! ## Bounds
//! A row group has at most [`GROUP_ROWS`] rows and [`GROUP_BYTES`] bytes of texts. Writer and reader hold one row group.
//!
//! ## Compatibility
//! Pages are of version 1, compressed by zstd. Encodings are those that DuckDB, Spark, Athena and BigQuery read:
//! dictionaries, plain values, and deltas of integers and of byte arrays.

#![warn(unreachable_pub)]

mod reader;
mod schema;
mod source;
#[cfg(test)]
mod tests;
mod writer;

pub use reader::Reader;
pub use schema::{Cell, Column, Kind};
pub use source::{Failure, Source, Windowed};
pub use writer::{Options, Writer};

/// Most rows of a row group.
pub const GROUP_ROWS: usize = 65_536;
/// Most bytes of texts in a row group; a row beyond begins the next one.
pub const GROUP_BYTES: usize = 32 << 20;

/// Why a file was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be written or read, or is not Parquet.
    #[error("Parquet: {0}")]
    Parquet(parquet::errors::ParquetError),
    /// The file's place failed.
    #[error("{0}")]
    Source(Failure),
    /// The file does not have the expected columns.
    #[error("the file has other columns than expected: {0}")]
    Columns(String),
    /// A cell does not have the kind of its column.
    #[error("a value of column {0} is not of the column's kind")]
    Kind(String),
}

impl From<parquet::errors::ParquetError> for FileError {
    fn from(error: parquet::errors::ParquetError) -> Self {
        match error {
            parquet::errors::ParquetError::External(failure) => Self::Source(failure),
            error => Self::Parquet(error),
        }
    }
}
