//! The files: written by a thread of their own, digested, read back.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tallyd_model::pricing::Usd;
use tallyd_parquet::{Cell, Column, Failure, FileError, Kind, Options, Reader, Source, Windowed, Writer};
use tokio::sync::mpsc::Receiver;

use super::ArchiveError;
use super::place::{Place, Upload};
use crate::queries::records::{COLUMNS, FILE_COLUMNS, RecordRow};

/// A message to the thread.
pub(super) enum Message {
    /// Calls, each with its `rollup_other`.
    Calls(Vec<(RecordRow, i16)>),
    /// The end. Without this message the file is not finished.
    End,
}

/// A whole file that does not have its name yet.
pub(super) struct Written {
    pub(super) upload: Box<dyn Upload>,
    pub(super) told: Told,
}

/// A file's contents, as its writer knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) bytes: u64,
    pub(super) sha256: String,
    pub(super) sums: Sums,
}

/// Sums of a file's calls.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) calls: i64,
    pub(super) cost_usd: Usd,
    pub(super) unpriced_calls: i64,
    /// Calls and cost by day in UTC and model.
    groups: BTreeMap<(i64, String), (i64, Usd)>,
}

/// Distinct days and models that are told apart; further ones are summed by day.
const GROUPS_MAX: usize = 100_000;
const DAY_US: i64 = 86_400_000_000;
/// Higher levels of zstd save 1 of 100 bytes: most bytes of a call are random bits of its id, its time and its numbers. A bloom filter
/// takes a byte a call, and pays for ids that a vendor gave: a user's calls lie together, and an id of tallyd's has its file's time.
const OPTIONS: Options<'static> = Options {
    level: 1,
    plain: &["cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens"],
    deltas: &["latency_ms"],
    sorted_by: &["user_id", "occurred_at"],
    bloom: &["request_id"],
};
/// Bytes that are read at once for a digest.
const WINDOW: u64 = 8 << 20;

/// The columns of a file: those of an export, and the one by which calls count under `(other)`.
pub(super) fn columns() -> Vec<Column> {
    let mut columns = FILE_COLUMNS.to_vec();
    columns.push(Column { name: "rollup_other", kind: Kind::Short, nullable: false });
    columns
}

impl Sums {
    /// None if a sum overflows.
    fn add(&mut self, at_us: i64, model: &str, cost: Option<Usd>) -> Option<()> {
        let amount = cost.unwrap_or(Usd::ZERO);
        self.calls += 1;
        self.unpriced_calls += i64::from(cost.is_none());
        self.cost_usd = self.cost_usd.checked_add(amount)?;
        let mut key = (at_us.div_euclid(DAY_US), model.to_owned());
        if self.groups.len() >= GROUPS_MAX && !self.groups.contains_key(&key) {
            key.1 = String::new();
        }
        let group = self.groups.entry(key).or_default();
        *group = (group.0 + 1, group.1.checked_add(amount)?);
        Some(())
    }
}

/// A partition's name as a file's.
fn stem(partition: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
    partition.chars().take(100).map(plain).collect()
}

/// The name of the file of these rows: that of the partition, and digits of the rows' fingerprint. A run that is killed and
/// started again gives the same rows the same name.
pub(super) fn name(partition: &str, fingerprint: &str) -> String {
    let digits = hex::encode(Sha256::digest(fingerprint));
    format!("{}-{}.parquet", stem(partition), digits.get(..12).unwrap_or(&digits))
}

/// An upload whose bytes are digested.
struct Digested {
    out: Box<dyn Upload>,
    hasher: Sha256,
    bytes: u64,
}

impl Write for Digested {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Writes the calls that arrive, without giving the file its name. The bytes are abandoned if that fails.
pub(super) fn write(place: &dyn Place, name: &str, calls: Receiver<Message>) -> Result<Written, ArchiveError> {
    let mut digested = Digested { out: place.begin(name)?, hasher: Sha256::new(), bytes: 0 };
    let sums = fill(&mut digested, calls, name).and_then(|sums| digested.out.settle().map(|()| sums));
    let Digested { out: upload, hasher, bytes } = digested;
    match sums {
        Ok(sums) => Ok(Written { upload, told: Told { bytes, sha256: hex::encode(hasher.finalize()), sums } }),
        Err(error) => {
            upload.abandon();
            Err(error)
        }
    }
}

fn fill(out: &mut Digested, mut calls: Receiver<Message>, name: &str) -> Result<Sums, ArchiveError> {
    let mut writer = Writer::new(out, &columns(), &OPTIONS)?;
    let mut sums = Sums::default();
    loop {
        match calls.blocking_recv() {
            Some(Message::Calls(calls)) => {
                for (call, other) in &calls {
                    let cells: Vec<_> = call.cells().into_iter().chain([Cell::Int(i32::from(*other))]).collect();
                    writer.push(&cells)?;
                    sums.add(call.occurred_at.timestamp_micros(), &call.model, call.cost_usd)
                        .ok_or_else(|| damaged(name, OVERFLOW))?;
                }
            }
            Some(Message::End) => break,
            None => return Err(ArchiveError::Ended),
        }
    }
    writer.finish()?;
    Ok(sums)
}

const OVERFLOW: &str = "its costs add up to more than 10^20 USD";

fn damaged(file: &str, fault: &str) -> ArchiveError {
    ArchiveError::Damaged { file: file.to_owned(), fault: fault.to_owned() }
}

/// A file's size and digest.
pub(super) fn digest(place: &dyn Place, name: &str) -> Result<(u64, String), ArchiveError> {
    let (bytes, mut hasher, mut at) = (place.bytes(name)?, Sha256::new(), 0);
    while at < bytes {
        let read = place.read(name, at..(at + WINDOW).min(bytes))?;
        if read.is_empty() {
            return Err(damaged(&place.shown(name), "it became shorter while it was read"));
        }
        hasher.update(&read);
        at += read.len() as u64;
    }
    Ok((bytes, hex::encode(hasher.finalize())))
}

/// Reads a file from its place, and returns its contents.
pub(super) fn told(place: &Arc<dyn Place>, name: &str) -> Result<Told, ArchiveError> {
    let (bytes, sha256) = digest(&**place, name)?;
    Ok(Told { bytes, sha256, sums: read_back(place, name)? })
}

/// A file at its place.
struct Placed(Arc<dyn Place>, String);

impl Source for Placed {
    fn read(&self, range: Range<u64>) -> Result<Bytes, Failure> {
        Ok(self.0.read(&self.1, range)?)
    }
}

/// The place of a column.
fn column(name: &str) -> usize {
    COLUMNS.iter().position(|column| *column == name).unwrap_or_default()
}

/// The sums of a file's calls.
pub(super) fn read_back(place: &Arc<dyn Place>, name: &str) -> Result<Sums, ArchiveError> {
    let (at, model, cost) = (column("occurred_at"), column("model"), column("cost_usd"));
    let mut sums = Sums::default();
    each(place, name, |cells| {
        let amount = match cells[cost] {
            Cell::Decimal(attos) => Some(Usd::from_attos(attos)),
            _ => None,
        };
        let (Cell::Long(at_us), Cell::Text(model)) = (cells[at], cells[model]) else {
            return Err(FileError::Kind("occurred_at".to_owned()).into());
        };
        sums.add(at_us, model, amount).ok_or_else(|| damaged(name, OVERFLOW))
    })?;
    Ok(sums)
}

/// Calls `each` with the cells of every call.
pub(super) fn each(
    place: &Arc<dyn Place>,
    name: &str,
    each: impl FnMut(&[Cell<'_>]) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    let file = Windowed::new(Box::new(Placed(Arc::clone(place), name.to_owned())), place.bytes(name)?);
    Reader::new(file, &columns())?.each(each)
}

#[cfg(test)]
mod tests {
    use super::super::place::Folder;
    use super::*;

    /// The file of the first version with an archive, whose ids were plain and whose costs had a dictionary.
    #[test]
    fn a_file_of_the_first_version_is_read() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/archive");
        let place: Arc<dyn Place> = Arc::new(Folder(folder.into()));
        let told = told(&place, "plain-ids.parquet").unwrap();
        assert_eq!((told.bytes, &told.sha256[..12]), (6_316, "2232d973510d"));
        assert_eq!((told.sums.calls, told.sums.unpriced_calls), (60, 20));
        assert_eq!(told.sums.cost_usd.to_string(), "0.65901700000000059");
        let mut ids = std::collections::BTreeSet::new();
        each(&place, "plain-ids.parquet", |cells| {
            let Cell::Uuid(id) = cells[column("id")] else { panic!("{cells:?}") };
            ids.insert(id);
            Ok(())
        })
        .unwrap();
        assert_eq!(ids.len(), 60);
    }
}
