//! Reads a file row by row, without holding more than one. [`Rows`] numbers them; what a row is, each format says.

mod csv_rows;
mod json_rows;

use anyhow::Context;
use tallyd_protocol::Record;

use super::Format;
use super::mapping::Mapping;
use super::row::RowError;
use super::snapshot::Snapshot;
use csv_rows::CsvRows;
use json_rows::JsonRows;

/// Bytes that one row may have. A frame takes no more, and a quote that is never closed must not swallow the file.
const ROW_BYTES: usize = 1024 * 1024;

/// One row: where it is, and its record, or why there is none.
pub struct Row {
    /// Its number from 1 on, which is its sequence number, too.
    pub number: u64,
    /// The file's line that it begins on, from 1 on; in CSV that of the first empty line before it, if there is one.
    pub line: u64,
    /// What it says.
    pub record: Result<Record, RowError>,
}

/// The rows of a file.
pub struct Rows {
    source: Source,
    template: Record,
    number: u64,
    notes: Vec<String>,
}

enum Source {
    Csv(CsvRows),
    Json(JsonRows),
}

/// A row's line, and whether it could be read into the record.
type Read = (u64, Result<(), RowError>);

impl Rows {
    /// Opens the file and finds the columns.
    ///
    /// # Errors
    /// If the file cannot be read, or the mapping does not fit it: the message names what there is.
    pub fn open(snapshot: &Snapshot, format: Format, mapping: Mapping) -> anyhow::Result<Self> {
        let template = mapping.template()?;
        let mut notes = Vec::new();
        let source = match format {
            Format::Csv => CsvRows::open(snapshot, &mapping, &mut notes).map(Source::Csv),
            Format::Ndjson => JsonRows::open(snapshot, mapping).map(Source::Json),
        };
        let source = source.with_context(|| format!("cannot import {}", snapshot.path().display()))?;
        Ok(Self { source, template, number: 0, notes })
    }

    /// The next row; none at the end. Empty lines are no rows.
    ///
    /// # Errors
    /// If the file cannot be read on.
    pub fn next_row(&mut self) -> anyhow::Result<Option<Row>> {
        let mut record = self.template.clone();
        let read = match &mut self.source {
            Source::Csv(rows) => rows.next(&mut record)?,
            Source::Json(rows) => rows.next(&mut record, &mut self.notes)?,
        };
        let Some((line, read)) = read else { return Ok(None) };
        self.number += 1;
        Ok(Some(Row { number: self.number, line, record: read.map(|()| record) }))
    }

    /// Bytes of the file that have been read.
    pub fn bytes_read(&self) -> u64 {
        match &self.source {
            Source::Csv(rows) => rows.bytes_read(),
            Source::Json(rows) => rows.bytes_read(),
        }
    }

    /// What a person should know, said once: columns that are ignored.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row's number, its line, and the model or the error.
    type Shown = (u64, u64, String);

    fn read(text: &[u8], format: Format, map: &str) -> anyhow::Result<(Vec<Shown>, Vec<String>)> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("calls");
        std::fs::write(&path, text)?;
        let map = if map.is_empty() { vec![] } else { vec![map.to_owned()] };
        let mapping = Mapping::parse(&map, &["provider=claude".to_owned()])?;
        let mut rows = Rows::open(&Snapshot::take(&path)?, format, mapping)?;
        let mut all = Vec::new();
        while let Some(row) = rows.next_row()? {
            let said = row.record.map_or_else(|error| error.to_string(), |record| record.model.into_owned());
            all.push((row.number, row.line, said));
        }
        assert_eq!(rows.bytes_read(), text.len() as u64);
        Ok((all, rows.take_notes()))
    }

    fn error(text: &str, format: Format, map: &str) -> String {
        format!("{:#}", read(text.as_bytes(), format, map).unwrap_err())
    }

    #[test]
    fn broken_csv_rows_are_refused_alone_and_keep_their_numbers() {
        let text = b"\xef\xbb\xbfmodel,status,note\na,200,\n\nb,200\n\"c\nd\",, x\ne,many,\n\xff,200,\nf,200,\n";
        let (rows, notes) = read(text, Format::Csv, "").unwrap();
        let expected = [
            (1, 2, "a"),
            (2, 3, "the row has 2 cells, the first line has 3"),
            (3, 5, "c\nd"),
            (4, 7, "status: \"many\" is not a whole number from 0 on that fits"),
            (5, 8, "the row is not UTF-8"),
            (6, 9, "f"),
        ];
        assert_eq!(rows, expected.map(|(number, line, said)| (number, line, said.to_owned())));
        assert_eq!(notes, ["columns that are not imported: note"]);
    }

    #[test]
    fn broken_lines_of_json_are_refused_alone_and_keep_their_numbers() {
        let long = format!("{{\"model\":\"{}\"}}", "x".repeat(ROW_BYTES));
        let text = format!(
            "\u{feff}{{\"model\":\"a\",\"who\":1}}\n\n{{\"model\"\n{long}\n{{\"status\":\"\",\"model\":\"b\"}}\n\
             {{\"model\":\"c\",\"model\":\"d\"}}\r\n{{\"model\":\"e\",\"who\":2}}"
        );
        let (rows, notes) = read(text.as_bytes(), Format::Ndjson, "").unwrap();
        let expected = [
            (1, 1, "a"),
            (2, 3, "not a JSON object: the text ends where `:` was expected at column 9"),
            (3, 4, "the line has more than 1048576 bytes"),
            (4, 5, "b"),
            (5, 6, "model: there is more than one value"),
            (6, 7, "e"),
        ];
        assert_eq!(rows, expected.map(|(number, line, said)| (number, line, said.to_owned())));
        assert_eq!(notes, ["a key that is not imported: who"]);
    }

    #[test]
    fn a_mapping_that_does_not_fit_names_what_there_is() {
        let csv = |text: &str, map: &str| error(text, Format::Csv, map);
        assert!(csv("A,B\n", "model=C").ends_with("there is no column C; the columns are A, B"));
        assert!(csv("A,A\n", "model=A").ends_with("there are 2 columns named A: which one holds model?"));
        assert!(csv("A,B\n", "").contains("no column has a field's name"));
        assert!(csv("", "").ends_with("the file is empty: its first line should name the columns"));
        let json = error("{\"A\":1}\n{\"B\":1}\nnonsense\n", Format::Ndjson, "model=C");
        assert!(json.ends_with("no line has the key C; the keys are A, B"), "{json}");
        // A key that is first seen late is as good as any.
        let rows = read(b"{\"A\":1}\n{\"C\":\"m\"}\n", Format::Ndjson, "model=C").unwrap().0;
        assert_eq!(rows[1].2, "m");
    }

    #[test]
    fn a_quote_that_is_never_closed_does_not_swallow_the_file() {
        let text = format!("model\na\n\"{}", "x\n".repeat(ROW_BYTES));
        let said = error(&text, Format::Csv, "");
        assert!(said.contains("the row on line 3 has more than 1048576 bytes: is a quote not closed?"), "{said}");
    }

    #[test]
    fn one_column_can_fill_two_fields() {
        let (rows, _) = read(b"X\n7\n", Format::Csv, "model=X,input_tokens=X").unwrap();
        assert_eq!(rows, [(1, 2, "7".to_owned())]);
        let (rows, _) = read(b"{\"X\":\"7\"}\n", Format::Ndjson, "model=X,input_tokens=X").unwrap();
        assert_eq!(rows, [(1, 1, "7".to_owned())]);
    }
}
