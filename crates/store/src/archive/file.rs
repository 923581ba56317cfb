//! The files: written by a thread of their own, synced, digested, read back.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tallyd_model::pricing::Usd;
use tallyd_parquet::{Cell, Column, FileError, Kind, Options, Reader, Writer};
use tokio::sync::mpsc::Receiver;

use super::ArchiveError;
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
    pub(super) part: PathBuf,
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
/// Higher levels take much longer for little.
const LEVEL: i32 = 9;
const BUFFER: usize = 1 << 20;

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

fn io(path: &Path) -> impl Fn(std::io::Error) -> ArchiveError {
    let path = path.to_owned();
    move |source| ArchiveError::Io { path: path.clone(), source }
}

/// A partition's name as a file's.
fn stem(partition: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
    partition.chars().take(100).map(plain).collect()
}

/// The name of a file.
pub(super) fn name(partition: &str, sha256: &str) -> String {
    format!("{}-{}.parquet", stem(partition), sha256.get(..12).unwrap_or(sha256))
}

/// Writes the calls that arrive, and reads them back.
pub(super) fn write(folder: &Path, partition: &str, mut calls: Receiver<Message>) -> Result<Written, ArchiveError> {
    std::fs::create_dir_all(folder).map_err(io(folder))?;
    let part = folder.join(format!("{}.parquet.part", stem(partition)));
    let file = File::create(&part).map_err(io(&part))?;
    let options =
        Options { level: LEVEL, sorted_by: &["user_id", "occurred_at"], bloom: &["user_id", "id", "request_id"] };
    let mut writer = Writer::new(BufWriter::with_capacity(BUFFER, file), &columns(), &options)?;
    let mut sums = Sums::default();
    loop {
        match calls.blocking_recv() {
            Some(Message::Calls(calls)) => {
                for (call, other) in &calls {
                    let cells: Vec<_> = call.cells().into_iter().chain([Cell::Int(i32::from(*other))]).collect();
                    writer.push(&cells)?;
                    sums.add(call.occurred_at.timestamp_micros(), &call.model, call.cost_usd)
                        .ok_or_else(|| damaged(&part, "its costs add up to more than 10^20 USD"))?;
                }
            }
            Some(Message::End) => break,
            None => return Err(ArchiveError::Ended),
        }
    }
    let mut out = writer.finish()?;
    out.flush().map_err(io(&part))?;
    out.get_ref().sync_all().map_err(io(&part))?;
    drop(out);
    let (bytes, sha256) = digest(&part)?;
    if read_back(&part)? != sums {
        return Err(damaged(&part, "what was read back is not what was written"));
    }
    Ok(Written { part, bytes, sha256, sums })
}

fn damaged(path: &Path, fault: &str) -> ArchiveError {
    ArchiveError::Damaged { file: path.display().to_string(), fault: fault.to_owned() }
}

/// A file's size and digest.
pub(super) fn digest(path: &Path) -> Result<(u64, String), ArchiveError> {
    let mut file = BufReader::with_capacity(BUFFER, File::open(path).map_err(io(path))?);
    let (mut hasher, mut bytes, mut buffer) = (Sha256::new(), 0_u64, vec![0; BUFFER]);
    loop {
        let read = file.read(&mut buffer).map_err(io(path))?;
        if read == 0 {
            return Ok((bytes, hex::encode(hasher.finalize())));
        }
        hasher.update(&buffer[..read]);
        bytes += read as u64;
    }
}

/// The place of a column.
fn place(name: &str) -> usize {
    COLUMNS.iter().position(|column| *column == name).unwrap_or_default()
}

/// The sums of a file's calls.
pub(super) fn read_back(path: &Path) -> Result<Sums, ArchiveError> {
    let (at, model, cost) = (place("occurred_at"), place("model"), place("cost_usd"));
    let mut sums = Sums::default();
    each(path, |cells| {
        let amount = match cells[cost] {
            Cell::Decimal(attos) => Some(Usd::from_attos(attos)),
            _ => None,
        };
        let (Cell::Long(at_us), Cell::Text(model)) = (cells[at], cells[model]) else {
            return Err(FileError::Kind("occurred_at".to_owned()).into());
        };
        sums.add(at_us, model, amount).ok_or_else(|| damaged(path, "its costs add up to more than 10^20 USD"))
    })?;
    Ok(sums)
}

/// Calls `each` with the cells of every call.
pub(super) fn each(path: &Path, each: impl FnMut(&[Cell<'_>]) -> Result<(), ArchiveError>) -> Result<(), ArchiveError> {
    let file = File::open(path).map_err(io(path))?;
    Reader::new(file, &columns())?.each(each)
}

/// Gives a file its name, which is on disk when this returns.
pub(super) fn publish(part: &Path, folder: &Path, name: &str) -> Result<(), ArchiveError> {
    std::fs::rename(part, folder.join(name)).map_err(io(part))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io(folder))
}

/// Removes a file, if it is still there. A file that stays is written over later, or has no row in the list.
pub(super) fn remove(path: &Path) {
    let _ = std::fs::remove_file(path);
}
