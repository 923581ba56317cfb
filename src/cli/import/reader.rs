//! Reads a file row by row, with one row in memory at a time. [`FileRows`] numbers the rows; each format decides where
//! a row ends.

mod csv_rows;
mod json_rows;

use std::collections::BTreeMap;

use anyhow::Context;
use tallyd_protocol::Record;
use tallyd_protocol::record::FIELDS;

use super::FileFormat;
use super::mapping::Mapping;
use super::preset::{Preset, RowKind, cells};
use super::row::{RowError, set_text};
use super::snapshot::Snapshot;
use csv_rows::CsvRows;
use json_rows::JsonRows;
use tallyd_model::json::Value;

/// The longest row, bytes. A frame has no more, and an unclosed quote must not swallow the file.
const ROW_BYTES: usize = 1024 * 1024;
/// The most kinds of passed-over lines that are counted apart.
const KINDS_MAX: usize = 50;

/// One row: its place, and its record or the reason why there is none.
pub(super) struct Row {
    /// Its number from 1 on, which is also its sequence number.
    pub number: u64,
    /// The file's line on which it begins, from 1 on. In CSV, empty lines before a row belong to it.
    pub line: u64,
    pub record: Result<Record, RowError>,
    /// The call's key, if the file has one beside the field `id`.
    pub key: Option<String>,
}

#[derive(Default)]
pub(super) struct RowDraft {
    record: Record,
    key: Option<String>,
    /// The kind of a row that is not a call.
    other: Option<String>,
}

impl RowDraft {
    /// Reads a row of a preset's file. Columns and constants from the command line win.
    fn fill(&mut self, preset: Preset, row: &Value, mapping: &Mapping) -> Result<(), RowError> {
        match preset.read(row, &mut self.record)? {
            RowKind::Other(kind) => self.other = Some(kind),
            RowKind::Call(key) => self.key = Some(key),
        }
        for (field, column) in &mapping.columns {
            let text = cells::text(row, &[column]);
            set_text(&mut self.record, field, &text, mapping.form).map_err(|error| error.in_column(column))?;
        }
        mapping.set_constants(&mut self.record).map_err(|error| RowError::row(format!("{error:#}")))
    }
}

pub(super) struct FileRows {
    source: Source,
    template: Record,
    number: u64,
    notes: Vec<String>,
    passed_over: BTreeMap<String, u64>,
}

enum Source {
    Csv(CsvRows),
    Json(JsonRows),
}

/// A row's line, and whether the row could be read into the record.
type Read = (u64, Result<(), RowError>);

impl FileRows {
    /// Opens the file and finds the columns.
    ///
    /// # Errors
    /// If the file cannot be read, or the mapping does not fit it: the message names the file's columns.
    pub(super) fn open(snapshot: &Snapshot, format: FileFormat, mapping: Mapping) -> anyhow::Result<Self> {
        let template = mapping.template()?;
        let mut notes = Vec::new();
        let source = match format {
            FileFormat::Csv => CsvRows::open(snapshot, mapping, &mut notes).map(Source::Csv),
            FileFormat::Ndjson => JsonRows::open(snapshot, mapping).map(Source::Json),
        };
        let source = source.with_context(|| format!("cannot import {}", snapshot.path().display()))?;
        Ok(Self { source, template, number: 0, notes, passed_over: BTreeMap::new() })
    }

    /// The next row; none at the end. Empty lines and lines that are not calls are passed over.
    ///
    /// # Errors
    /// If reading the file fails.
    pub(super) fn next_row(&mut self) -> anyhow::Result<Option<Row>> {
        loop {
            let mut draft = RowDraft { record: self.template.clone(), ..RowDraft::default() };
            let read = match &mut self.source {
                Source::Csv(rows) => rows.next(&mut draft)?,
                Source::Json(rows) => rows.next(&mut draft, &mut self.notes)?,
            };
            let Some((line, read)) = read else { return Ok(None) };
            self.number += 1;
            let RowDraft { record, key, other } = draft;
            let (Ok(()), Some(kind)) = (&read, other) else {
                return Ok(Some(Row { number: self.number, line, record: read.map(|()| record), key }));
            };
            let is_named = self.passed_over.len() < KINDS_MAX || self.passed_over.contains_key(&kind);
            *self.passed_over.entry(if is_named { kind } else { "others".to_owned() }).or_default() += 1;
        }
    }

    /// Counts of passed-over lines, by kind.
    pub(super) const fn passed_over(&self) -> &BTreeMap<String, u64> {
        &self.passed_over
    }

    pub(super) fn bytes_read(&self) -> u64 {
        match &self.source {
            Source::Csv(rows) => rows.bytes_read(),
            Source::Json(rows) => rows.bytes_read(),
        }
    }

    /// Notes for the person, each returned once: columns that are ignored.
    pub(super) fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }
}

/// The error for a file without a known column: its keys, and a hint.
fn nothing_known(what: &str, keys: &[&str]) -> String {
    let listed = keys.join(", ");
    let hint = match Preset::of(keys.iter().copied()) {
        Some(preset) => format!("--preset {} reads this file", preset.name()),
        None if keys.iter().any(|key| key.contains('\0')) => {
            "it looks like UTF-16 without a byte order mark".to_owned()
        }
        None if keys.len() == 1 && listed.contains([';', '\t', '|']) => {
            "the cells seem to be separated otherwise: give --delimiter ';' or --delimiter tab".to_owned()
        }
        None => "--map FIELD=COLUMN says which one holds a field".to_owned(),
    };
    format!(
        "no {what} has a field's name, and --map names none; the {what}s are {listed}; the fields are {}. hint: {hint}",
        FIELDS.join(", ")
    )
}

/// The error for a file that is not the preset's.
fn not_of(preset: Preset, missing: &[String], keys: &[&str]) -> String {
    let name = preset.name();
    format!("this is not a file of --preset {name}: it lacks {}; its keys are {}", missing.join(", "), keys.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row's number, its line, and the model or the error.
    type Shown = (u64, u64, String);

    fn read(text: &[u8], format: FileFormat, map: &str) -> anyhow::Result<(Vec<Shown>, Vec<String>)> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("calls");
        std::fs::write(&path, text)?;
        let map = if map.is_empty() { vec![] } else { vec![map.to_owned()] };
        let mapping = Mapping::parse(&map, &["provider=claude".to_owned()])?;
        let mut rows = FileRows::open(&Snapshot::take(&path)?, format, mapping)?;
        let mut all = Vec::new();
        while let Some(row) = rows.next_row()? {
            let said = row.record.map_or_else(|error| error.to_string(), |record| record.model.into_owned());
            all.push((row.number, row.line, said));
        }
        assert_eq!(rows.bytes_read(), text.len() as u64);
        Ok((all, rows.take_notes()))
    }

    fn error(text: &str, format: FileFormat, map: &str) -> String {
        format!("{:#}", read(text.as_bytes(), format, map).unwrap_err())
    }

    #[test]
    fn broken_csv_rows_are_refused_alone_and_keep_their_numbers() {
        let text = b"\xef\xbb\xbfmodel,status,note\na,200,\n\nb,200\n\"c\nd\",, x\ne,many,\n\xff,200,\nf,200,\n";
        let (rows, notes) = read(text, FileFormat::Csv, "").unwrap();
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
        let (rows, notes) = read(text.as_bytes(), FileFormat::Ndjson, "").unwrap();
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
        let csv = |text: &str, map: &str| error(text, FileFormat::Csv, map);
        assert!(csv("A,B\n", "model=C").ends_with("there is no column C; the columns are A, B"));
        assert!(csv("A,A\n", "model=A").ends_with("there are 2 columns named A: which one holds model?"));
        assert!(csv("A,B\n", "").contains(
            "no column has a field's name, and --map names none; the columns are A, B; the fields are id, occurred_at"
        ));
        assert!(csv("", "").ends_with("the file is empty: its first line should name the columns"));
        let json = error("{\"A\":1}\n{\"B\":1}\nnonsense\n", FileFormat::Ndjson, "model=C");
        assert!(json.ends_with("no line has the key C; the keys are A, B"), "{json}");
        // A key that is first seen late counts as well.
        let rows = read(b"{\"A\":1}\n{\"C\":\"m\"}\n", FileFormat::Ndjson, "model=C").unwrap().0;
        assert_eq!(rows[1].2, "m");
    }

    #[test]
    fn a_quote_that_is_never_closed_does_not_swallow_the_file() {
        let text = format!("model\na\n\"{}", "x\n".repeat(ROW_BYTES));
        let said = error(&text, FileFormat::Csv, "");
        assert!(said.contains("the row on line 3 has more than 1048576 bytes: is a quote not closed?"), "{said}");
    }

    #[test]
    fn a_file_none_of_whose_keys_is_a_field_is_an_error_that_names_both_and_what_helps() {
        let transcript = "{\"type\":\"user\",\"sessionId\":\"s\",\"message\":{\"usage\":{\"input_tokens\":1}}}\n";
        let said = error(transcript, FileFormat::Ndjson, "");
        assert!(said.contains("the keys are message, sessionId, type; the fields are id, occurred_at"), "{said}");
        assert!(said.ends_with("--preset claude-code reads this file"), "{said}");
        let said = error("model;input_tokens\nm;1\n", FileFormat::Csv, "");
        assert!(said.ends_with("give --delimiter ';' or --delimiter tab"), "{said}");
        let said = error("{\"a\":1}\n", FileFormat::Ndjson, "");
        assert!(said.ends_with("--map FIELD=COLUMN says which one holds a field"), "{said}");
    }

    #[test]
    fn nested_keys_are_mapped_by_their_path_and_a_line_without_any_is_refused() {
        let text =
            "{\"type\":\"user\"}\n{\"message\":{\"m\":\"x\",\"usage\":{\"in\":7}}}\n{\"message.m\":\"flat\"}\n[1]\n";
        let (rows, _) =
            read(text.as_bytes(), FileFormat::Ndjson, "model=message.m,input_tokens=message.usage.in").unwrap();
        let said: Vec<_> = rows.iter().map(|(.., said)| said.as_str()).collect();
        assert_eq!(said[..3], ["no key of this line is a field, or is mapped to one: it is not a call", "x", "flat"]);
        assert!(said[3].contains("jq -c '.[]' FILE"), "{said:?}");
        let csv = b"model,details\nm,\"{\"\"usage\"\": {\"\"in\"\": 3}}\"\nn,\no,{\n";
        let (rows, _) = read(csv, FileFormat::Csv, "input_tokens=details.usage.in").unwrap();
        assert_eq!((&*rows[0].2, &*rows[1].2), ("m", "n"));
        assert!(rows[2].2.starts_with("input_tokens (column details.usage.in): not a JSON object"), "{}", rows[2].2);
        assert!(
            error("model,a\n", FileFormat::Csv, "input_tokens=b.c")
                .ends_with("there is no column b.c; the columns are model, a")
        );
    }

    #[test]
    fn a_file_that_a_spreadsheet_saved_is_read_with_its_separator_and_the_forms_that_are_given() {
        let text = "sep=;\r\nmodel;input_tokens;cost_usd;occurred_at\r\nm;1.234;0,25;1786356000\r\nn;x;;\r\n";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls.csv");
        std::fs::write(&path, text).unwrap();
        let numbers = tallyd_model::files::Numbers { thousands: Some('.'), decimal_comma: true };
        let form = super::super::row::Form { numbers, epoch: Some(tallyd_model::files::Epoch::S) };
        let mapping = Mapping { form, ..Mapping::parse(&[], &["provider=claude".to_owned()]).unwrap() };
        let mut rows = FileRows::open(&Snapshot::take(&path).unwrap(), FileFormat::Csv, mapping).unwrap();
        let row = rows.next_row().unwrap().unwrap();
        let record = row.record.unwrap();
        assert_eq!((row.line, record.input_tokens, record.cost_usd.as_deref()), (3, 1234, Some("0.25")));
        assert_eq!(record.occurred_at, Some(1_786_356_000_000_000));
        assert_eq!(rows.next_row().unwrap().unwrap().line, 4);
        assert!(rows.next_row().unwrap().is_none());
        assert_eq!(rows.bytes_read(), text.len() as u64);
        // Without its flag each of them is refused, and the error names the flag.
        for (row, flag) in
            [("m;1,234;;", "--thousands"), ("m;;0,25;", "--decimal-comma"), ("m;;;1786356000", "--epoch s")]
        {
            let text = format!("sep=;\nmodel;input_tokens;cost_usd;occurred_at\n{row}\n");
            let said = read(text.as_bytes(), FileFormat::Csv, "").unwrap().0.remove(0).2;
            assert!(said.contains(flag), "{row}: {said}");
        }
    }

    #[test]
    fn one_column_can_fill_two_fields() {
        let (rows, _) = read(b"X\n7\n", FileFormat::Csv, "model=X,input_tokens=X").unwrap();
        assert_eq!(rows, [(1, 2, "7".to_owned())]);
        let (rows, _) = read(b"{\"X\":\"7\"}\n", FileFormat::Ndjson, "model=X,input_tokens=X").unwrap();
        assert_eq!(rows, [(1, 1, "7".to_owned())]);
    }
}
