//! Comma-separated values, the first line naming the columns. Cells are trimmed.

use std::fs::File;
use std::io::{self, Read};

use anyhow::{Context, bail};
use csv::{ErrorKind, ReaderBuilder, StringRecord};
use tallyd_protocol::Record;

use super::super::mapping::Mapping;
use super::super::row::{RowError, set_text};
use super::super::snapshot::Snapshot;
use super::{ROW_BYTES, Read as RowRead};

/// A field, and where it comes from.
struct Column {
    field: &'static str,
    at: usize,
    name: String,
}

/// The rows of a CSV file.
pub struct CsvRows {
    reader: csv::Reader<Bounded>,
    columns: Vec<Column>,
    cells: StringRecord,
}

impl CsvRows {
    /// Reads the first line and finds the fields' columns.
    pub fn open(snapshot: &Snapshot, mapping: &Mapping, notes: &mut Vec<String>) -> anyhow::Result<Self> {
        let source = Bounded { file: snapshot.reader()?, left: ROW_BYTES };
        let mut reader = ReaderBuilder::new().from_reader(source);
        let headers: Vec<String> = match reader.headers() {
            Ok(headers) => headers.iter().map(|header| header.trim().to_owned()).collect(),
            Err(error) => return Err(error).context("the first line, which should name the columns"),
        };
        if headers.is_empty() {
            bail!("the file is empty: its first line should name the columns");
        }
        let columns = columns(&headers, mapping)?;
        let ignored: Vec<_> = headers.iter().map(String::as_str).filter(|name| !is_used(name, &columns)).collect();
        if !ignored.is_empty() {
            notes.push(format!("columns that are not imported: {}", ignored.join(", ")));
        }
        Ok(Self { reader, columns, cells: StringRecord::new() })
    }

    /// Bytes of the file that the rows so far take.
    pub fn bytes_read(&self) -> u64 {
        self.reader.position().byte()
    }

    /// Reads the next row into the record.
    pub fn next(&mut self, record: &mut Record) -> anyhow::Result<Option<RowRead>> {
        self.reader.get_mut().left = ROW_BYTES;
        let before = self.reader.position().line();
        let error = match self.reader.read_record(&mut self.cells) {
            Ok(false) => return Ok(None),
            Ok(true) => {
                return Ok(Some((self.cells.position().map_or(before, csv::Position::line), self.fill(record))));
            }
            Err(error) => error,
        };
        let line = error.position().map_or(before, csv::Position::line);
        let problem = match error.kind() {
            ErrorKind::UnequalLengths { expected_len, len, .. } => {
                format!("the row has {len} cells, the first line has {expected_len}")
            }
            ErrorKind::Utf8 { .. } => "the row is not UTF-8".to_owned(),
            _ => return Err(error).with_context(|| too_long_or(&self.reader, line)),
        };
        Ok(Some((line, Err(RowError::row(problem)))))
    }

    fn fill(&self, record: &mut Record) -> Result<(), RowError> {
        self.columns.iter().try_for_each(|column| {
            let cell = self.cells.get(column.at).unwrap_or_default().trim();
            set_text(record, column.field, cell).map_err(|error| error.in_column(&column.name))
        })
    }
}

fn too_long_or(reader: &csv::Reader<Bounded>, line: u64) -> String {
    if reader.get_ref().left == 0 {
        format!("the row on line {line} has more than {ROW_BYTES} bytes: is a quote not closed?")
    } else {
        format!("the file cannot be read on from line {line}")
    }
}

fn is_used(name: &str, columns: &[Column]) -> bool {
    columns.iter().any(|column| column.name == name)
}

fn columns(headers: &[String], mapping: &Mapping) -> anyhow::Result<Vec<Column>> {
    if let Some((_, missing)) = mapping.columns.iter().find(|(_, column)| !headers.contains(column)) {
        bail!("there is no column {missing}; the columns are {}", headers.join(", "));
    }
    let mut columns = Vec::new();
    for (at, name) in headers.iter().enumerate() {
        for field in mapping.fields_of(name) {
            let same = headers.iter().filter(|header| *header == name).count();
            if same > 1 {
                bail!("there are {same} columns named {name}: which one holds {field}?");
            }
            columns.push(Column { field, at, name: name.clone() });
        }
    }
    if columns.is_empty() {
        bail!("no column has a field's name, and --map names none; the columns are {}", headers.join(", "));
    }
    if !mapping.names("provider") && !is_used("provider", &columns) {
        bail!("nothing says who the provider is: add --set provider=claude, or --map provider=COLUMN");
    }
    Ok(columns)
}

/// A file that hands out so many bytes between two rows, and then fails.
struct Bounded {
    file: File,
    left: usize,
}

impl Read for Bounded {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too much without the end of a row"));
        }
        let most = buf.len().min(self.left);
        let read = self.file.read(&mut buf[..most])?;
        self.left -= read;
        Ok(read)
    }
}
