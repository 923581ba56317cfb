//! Reads a file row by row, without holding more than one.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::{Map, Value};
use tallyd_protocol::Record;
use tallyd_protocol::record::FIELDS;

use super::Format;
use super::mapping::Mapping;
use super::row::{RowError, set_json, set_text};

/// One row: its number from 1 on, and its record, or why there is none.
pub struct Row {
    /// The number, which is the sequence number, too.
    pub number: u64,
    /// What it says.
    pub record: Result<Record, RowError>,
}

/// The rows of a file.
pub struct Rows {
    source: Source,
    mapping: Mapping,
    number: u64,
    bytes: u64,
}

enum Source {
    Csv {
        reader: csv::Reader<File>,
        columns: Vec<(&'static str, usize)>,
        ignored: Vec<String>,
        cells: csv::StringRecord,
    },
    Ndjson {
        reader: BufReader<File>,
        line: String,
    },
}

impl Rows {
    /// Opens the file and finds the columns.
    pub fn open(path: &Path, format: Format, mapping: Mapping) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let source = match format {
            Format::Csv => open_csv(file, &mapping).with_context(|| format!("in {}", path.display()))?,
            Format::Ndjson => Source::Ndjson { reader: BufReader::with_capacity(1 << 16, file), line: String::new() },
        };
        Ok(Self { source, mapping, number: 0, bytes: 0 })
    }

    /// The columns that no field comes from.
    pub fn ignored_columns(&self) -> Option<String> {
        match &self.source {
            Source::Csv { ignored, .. } if !ignored.is_empty() => Some(ignored.join(", ")),
            _ => None,
        }
    }

    /// Bytes of the file that have been read.
    pub const fn bytes_read(&self) -> u64 {
        self.bytes
    }

    /// The next row; none at the end. Empty lines of NDJSON are no rows.
    pub fn next_row(&mut self) -> Option<Row> {
        let mut record = Record::default();
        let mut constants = self.mapping.constants.iter();
        let mut read = constants.try_for_each(|(field, value)| set_text(&mut record, field, value));
        let row = match &mut self.source {
            Source::Csv { reader, columns, cells, .. } => {
                let more = reader.read_record(cells);
                self.bytes = reader.position().byte();
                match more {
                    Ok(false) => return None,
                    Ok(true) => columns.iter().try_for_each(|(field, column)| {
                        set_text(&mut record, field, cells.get(*column).unwrap_or_default())
                    }),
                    Err(error) => Err(RowError { field: "the row".into(), problem: error.to_string() }),
                }
            }
            Source::Ndjson { reader, line } => loop {
                line.clear();
                match reader.read_line(line) {
                    Ok(0) => return None,
                    Ok(bytes) => self.bytes += bytes as u64,
                    Err(error) => break Err(RowError { field: "the line".into(), problem: error.to_string() }),
                }
                if !line.trim().is_empty() {
                    break read_object(line, &self.mapping, &mut record);
                }
            },
        };
        read = read.and(row);
        self.number += 1;
        Some(Row { number: self.number, record: read.map(|()| record) })
    }
}

fn open_csv(file: File, mapping: &Mapping) -> anyhow::Result<Source> {
    let mut reader = csv::ReaderBuilder::new().from_reader(file);
    let headers: Vec<String> = reader.headers()?.iter().map(|header| header.trim().to_owned()).collect();
    let mut columns = Vec::new();
    for (field, column) in &mapping.columns {
        let Some(at) = headers.iter().position(|header| header == column) else {
            bail!("there is no column {column}; the columns are {}", headers.join(", "));
        };
        columns.push((*field, at));
    }
    for (at, header) in headers.iter().enumerate() {
        let field = FIELDS.iter().find(|field| *field == header);
        if let Some(field) = field.filter(|field| !mapping.names(field)) {
            columns.push((*field, at));
        }
    }
    if columns.is_empty() {
        bail!("no column has a field's name, and --map names none; the columns are {}", headers.join(", "));
    }
    let used: BTreeSet<_> = columns.iter().map(|(_, at)| *at).collect();
    let ignored = headers.iter().enumerate().filter(|(at, _)| !used.contains(at)).map(|(_, name)| name.clone());
    let ignored = ignored.collect();
    Ok(Source::Csv { reader, columns, ignored, cells: csv::StringRecord::new() })
}

fn read_object(line: &str, mapping: &Mapping, record: &mut Record) -> Result<(), RowError> {
    let object: Map<String, Value> = serde_json::from_str(line)
        .map_err(|error| RowError { field: "the line".into(), problem: format!("not a JSON object: {error}") })?;
    for (field, key) in &mapping.columns {
        if let Some(value) = object.get(key) {
            set_json(record, field, value)?;
        }
    }
    for (key, value) in &object {
        let field = FIELDS.iter().find(|field| *field == key);
        match field {
            Some(field) if !mapping.names(field) => set_json(record, field, value)?,
            Some(_) => {}
            None if mapping.columns.iter().any(|(_, column)| column == key) => {}
            // As on the wire: a misspelt name would be money lost in silence.
            None => return Err(RowError { field: key.clone(), problem: "no field has this name".into() }),
        }
    }
    Ok(())
}
