//! Delimited cells; the first line names the columns. Cells are trimmed.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use anyhow::{Context, bail};
use csv::{ErrorKind, ReaderBuilder, StringRecord};
use tallyd_protocol::Record;

use super::super::json::{Object, at};
use super::super::mapping::Mapping;
use super::super::preset::Preset;
use super::super::row::{Form, RowError, set_json, set_text};
use super::super::snapshot::Snapshot;
use super::{ROW_BYTES, Read as RowRead, RowDraft, not_of, nothing_known};
use tallyd_model::files::{Utf8, line_shift, separator};
use tallyd_model::json::value::{Map, Value};

/// A field with the place of its values.
struct Column {
    field: &'static str,
    place: Place,
    name: String,
}

/// A cell, or the value under a path in the JSON of a cell.
struct Place {
    at: usize,
    path: Option<String>,
}

/// The file's first lines.
struct Head {
    headers: Vec<String>,
    /// Bytes and lines before the line that names the columns.
    before: (u64, u64),
}

pub(super) struct CsvRows {
    reader: csv::Reader<Bounded>,
    head: Head,
    columns: Vec<Column>,
    key: Option<Place>,
    mapping: Mapping,
    cells: StringRecord,
}

impl CsvRows {
    /// Reads the first line and finds the fields' columns.
    pub(super) fn open(snapshot: &Snapshot, mapping: Mapping, notes: &mut Vec<String>) -> anyhow::Result<Self> {
        let mut source = BufReader::new(Utf8::new(snapshot.reader()?));
        let said = separator(&mut source)?;
        let delimiter = mapping.delimiter.or(said.map(|(separator, _)| separator)).unwrap_or(b',');
        let shift = line_shift(source.fill_buf()?);
        let source = Bounded { source, left: ROW_BYTES };
        let mut reader = ReaderBuilder::new().delimiter(delimiter).from_reader(source);
        let headers: Vec<String> = match reader.headers() {
            Ok(headers) => headers.iter().map(|header| header.trim().to_owned()).collect(),
            Err(error) => return Err(error).context("the first line, which should name the columns"),
        };
        if headers.is_empty() {
            bail!("the file is empty: its first line should name the columns");
        }
        let columns = match mapping.preset {
            Some(preset) => preset_columns(preset, &headers, &mapping)?,
            None => columns(&headers, &mapping)?,
        };
        let key = mapping.key.as_deref().map(|key| place(&headers, key)).transpose()?;
        if mapping.preset.is_none() {
            let is_used = |at: usize| columns.iter().map(|c| &c.place).chain(&key).any(|place| place.at == at);
            let ignored: Vec<_> =
                (0..headers.len()).filter(|at| !is_used(*at)).map(|at| headers[at].as_str()).collect();
            if !ignored.is_empty() {
                notes.push(format!("columns that are not imported: {}", ignored.join(", ")));
            }
        }
        let before = said.map_or((0, shift), |(_, bytes)| (bytes as u64, 1 + shift));
        Ok(Self { reader, head: Head { headers, before }, columns, key, mapping, cells: StringRecord::new() })
    }

    /// Bytes of the rows so far, as UTF-8.
    pub(super) fn bytes_read(&self) -> u64 {
        self.head.before.0 + self.reader.position().byte()
    }

    pub(super) fn next(&mut self, draft: &mut RowDraft) -> anyhow::Result<Option<RowRead>> {
        let lines_before = self.head.before.1;
        Ok(self.read(draft)?.map(|(line, read)| (line + lines_before, read)))
    }

    fn read(&mut self, draft: &mut RowDraft) -> anyhow::Result<Option<RowRead>> {
        self.reader.get_mut().left = ROW_BYTES;
        let before = self.reader.position().line();
        let error = match self.reader.read_record(&mut self.cells) {
            Ok(false) => return Ok(None),
            Ok(true) => {
                return Ok(Some((self.cells.position().map_or(before, csv::Position::line), self.fill(draft))));
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

    fn fill(&self, draft: &mut RowDraft) -> Result<(), RowError> {
        if let Some(preset) = self.mapping.preset {
            return draft.fill(preset, &self.row(), &self.mapping);
        }
        for Column { field, place, name } in &self.columns {
            let set = self.set(&mut draft.record, field, place, self.mapping.form);
            set.map_err(|error| error.in_column(name))?;
        }
        if let Some(place) = &self.key {
            let mut key = Record::default();
            self.set(&mut key, "request_id", place, Form::default())?;
            draft.key = Some(key.request_id.into_owned()).filter(|key| !key.is_empty());
        }
        Ok(())
    }

    fn set(&self, record: &mut Record, field: &'static str, place: &Place, form: Form) -> Result<(), RowError> {
        let cell = self.cells.get(place.at).unwrap_or_default().trim();
        match &place.path {
            Some(path) if !cell.is_empty() => {
                let object = Object::read(cell).map_err(|problem| RowError::field(field, problem))?;
                at(&object, path).map_or(Ok(()), |value| set_json(record, field, value, form))
            }
            _ => set_text(record, field, cell, form),
        }
    }

    /// The row as an object of its cells.
    fn row(&self) -> Value {
        let cells = self.head.headers.iter().zip(&self.cells);
        Value::Object(cells.map(|(name, cell)| (name.clone(), Value::String(cell.trim().to_owned()))).collect::<Map>())
    }
}

fn too_long_or(reader: &csv::Reader<Bounded>, line: u64) -> String {
    if reader.get_ref().left == 0 {
        format!("the row on line {line} has more than {ROW_BYTES} bytes: is a quote not closed?")
    } else {
        format!("the file cannot be read on from line {line}")
    }
}

/// Finds the column of this name, or a column of JSON with a path into it.
fn place(headers: &[String], name: &str) -> anyhow::Result<Place> {
    if let Some(at) = headers.iter().position(|header| header == name) {
        return Ok(Place { at, path: None });
    }
    let nested = headers.iter().enumerate().find_map(|(at, header)| {
        let path = name.strip_prefix(header.as_str())?.strip_prefix('.')?;
        Some(Place { at, path: Some(path.to_owned()) })
    });
    nested.with_context(|| format!("there is no column {name}; the columns are {}", headers.join(", ")))
}

fn preset_columns(preset: Preset, headers: &[String], mapping: &Mapping) -> anyhow::Result<Vec<Column>> {
    let keys: Vec<&str> = headers.iter().map(String::as_str).collect();
    let missing = preset.missing(keys.iter().copied());
    if !missing.is_empty() {
        bail!(not_of(preset, &missing, &keys));
    }
    mapping.named().try_for_each(|name| place(headers, name).map(drop))?;
    Ok(Vec::new())
}

fn columns(headers: &[String], mapping: &Mapping) -> anyhow::Result<Vec<Column>> {
    let mut columns = Vec::new();
    for (field, name) in &mapping.columns {
        columns.push(Column { field, place: place(headers, name)?, name: name.clone() });
    }
    for (at, name) in headers.iter().enumerate() {
        let own = mapping.fields_of(name).find(|field| field == name && !mapping.names(field));
        columns.extend(own.map(|field| Column { field, place: Place { at, path: None }, name: name.clone() }));
    }
    for Column { field, name, .. } in &columns {
        let same = headers.iter().filter(|header| *header == name).count();
        if same > 1 {
            bail!("there are {same} columns named {name}: which one holds {field}?");
        }
    }
    if columns.is_empty() {
        let keys: Vec<&str> = headers.iter().map(String::as_str).collect();
        bail!(nothing_known("column", &keys));
    }
    if !mapping.names("provider") && !columns.iter().any(|column| column.field == "provider") {
        bail!("the provider is not known: add --set provider=claude, or --map provider=COLUMN");
    }
    Ok(columns)
}

/// Fails after this many bytes without the end of a row, so that a row is bounded.
struct Bounded {
    source: BufReader<Utf8<File>>,
    left: usize,
}

impl Read for Bounded {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too much without the end of a row"));
        }
        let most = buf.len().min(self.left);
        let read = self.source.read(&mut buf[..most])?;
        self.left -= read;
        Ok(read)
    }
}
