//! Files that are not on this machine's disk, read by ranges.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

/// The failure of a source, which [`FileError::Source`](crate::FileError) hands on.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Something whose bytes can be read by ranges.
pub trait Source: Send + Sync + 'static {
    /// The bytes of a range, which lies within the file.
    ///
    /// # Errors
    /// The source's own.
    fn read(&self, range: Range<u64>) -> std::result::Result<Bytes, Failure>;
}

/// Bytes that are read at once. A reader goes through a row group from its first byte to its last, so a few windows serve all of it.
const WINDOW: u64 = 8 << 20;

/// A source of a known size, read through a window.
#[derive(Clone)]
pub struct Windowed(Arc<Inner>);

struct Inner {
    source: Box<dyn Source>,
    bytes: u64,
    /// The last range that was read: its beginning and its bytes.
    window: Mutex<(u64, Bytes)>,
}

impl Windowed {
    /// Reads a source of that size in bytes.
    #[must_use]
    pub fn new(source: Box<dyn Source>, bytes: u64) -> Self {
        Self(Arc::new(Inner { source, bytes, window: Mutex::default() }))
    }
}

impl Inner {
    /// The bytes from `start` on, fewer than `length` at the end of the file.
    fn get(&self, start: u64, length: u64) -> std::result::Result<Bytes, Failure> {
        let end = start.saturating_add(length).min(self.bytes);
        if start >= end {
            return Ok(Bytes::new());
        }
        // A panic leaves a window whole: it is replaced in one step.
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let (from, bytes) = &*window;
        if start < *from || end > from + bytes.len() as u64 {
            let until = start.saturating_add(length.max(WINDOW)).min(self.bytes);
            *window = (start, self.source.read(start..until)?);
        }
        let (from, bytes) = &*window;
        let place = |at: u64| usize::try_from(at - from).ok().filter(|at| *at <= bytes.len());
        match (place(start), place(end)) {
            (Some(start), Some(end)) => Ok(bytes.slice(start..end)),
            _ => Err("the file is shorter than it was".into()),
        }
    }
}

impl Length for Windowed {
    fn len(&self) -> u64 {
        self.0.bytes
    }
}

impl ChunkReader for Windowed {
    type T = Cursor;

    fn get_read(&self, start: u64) -> Result<Cursor> {
        Ok(Cursor { of: Arc::clone(&self.0), at: start })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let bytes = self.0.get(start, length as u64).map_err(ParquetError::External)?;
        if bytes.len() < length {
            return Err(ParquetError::EOF(format!("{length} bytes at {start} are beyond the end")));
        }
        Ok(bytes)
    }
}

/// Reads a [`Windowed`] from a place on.
pub struct Cursor {
    of: Arc<Inner>,
    at: u64,
}

impl Read for Cursor {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.of.get(self.at, into.len() as u64).map_err(io::Error::other)?;
        into[..bytes.len()].copy_from_slice(&bytes);
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }
}
