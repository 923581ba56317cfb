//! A JSON object a line.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use anyhow::bail;
use tallyd_protocol::Record;
use tallyd_protocol::record::FIELDS;

use super::super::json::{Object, set_json};
use super::super::mapping::Mapping;
use super::super::row::RowError;
use super::super::snapshot::Snapshot;
use super::{ROW_BYTES, Read as RowRead};

/// Ignored keys that are named. A file may have any number of them.
const NAMED_KEYS: usize = 20;

/// The rows of an NDJSON file.
pub struct JsonRows {
    lines: Lines,
    mapping: Mapping,
    ignored: BTreeSet<String>,
}

impl JsonRows {
    /// Makes sure that every mapped key is there, which mostly takes no more than the first line.
    pub fn open(snapshot: &Snapshot, mapping: Mapping) -> anyhow::Result<Self> {
        check_keys(&mut Lines::new(snapshot.reader()?), &mapping)?;
        Ok(Self { lines: Lines::new(snapshot.reader()?), mapping, ignored: BTreeSet::new() })
    }

    /// Bytes of the file that the rows so far take.
    pub const fn bytes_read(&self) -> u64 {
        self.lines.bytes
    }

    /// Reads the next row into the record. Notes each key that is ignored when it is first seen.
    pub fn next(&mut self, record: &mut Record, notes: &mut Vec<String>) -> anyhow::Result<Option<RowRead>> {
        let Some(line) = self.lines.next()? else { return Ok(None) };
        let (mapping, ignored) = (&self.mapping, &mut self.ignored);
        let read = line.and_then(Object::read).and_then(|object| fill(record, &object, mapping, ignored, notes));
        Ok(Some((self.lines.number, read)))
    }
}

fn fill(
    record: &mut Record,
    object: &Object<'_>,
    mapping: &Mapping,
    ignored: &mut BTreeSet<String>,
    notes: &mut Vec<String>,
) -> Result<(), RowError> {
    let mut filled = 0u32;
    for (key, value) in &object.0 {
        let mut is_used = false;
        for field in mapping.fields_of(key) {
            is_used = true;
            // Twenty fields have room in 32 bits.
            let bit = 1 << FIELDS.iter().position(|name| *name == field).unwrap_or_default();
            if filled & bit != 0 {
                return Err(RowError::field(field, "there is more than one value").in_column(key));
            }
            filled |= bit;
            set_json(record, field, *value).map_err(|error| error.in_column(key))?;
        }
        let is_known = is_used || ignored.len() >= NAMED_KEYS || ignored.contains(key);
        if !is_known {
            ignored.insert(key.clone());
            let more = if ignored.len() == NAMED_KEYS { "; more are not named" } else { "" };
            notes.push(format!("a key that is not imported: {key}{more}"));
        }
    }
    Ok(())
}

fn check_keys(lines: &mut Lines, mapping: &Mapping) -> anyhow::Result<()> {
    let mut missing: BTreeSet<&str> = mapping.columns.iter().map(|(_, key)| key.as_str()).collect();
    let mut seen = BTreeSet::new();
    while !missing.is_empty() {
        let Some(line) = lines.next()? else { break };
        // What is wrong with a line is told when it is its turn.
        for (key, _) in line.and_then(Object::read).map_or_else(|_| Vec::new(), |object| object.0) {
            missing.remove(key.as_str());
            if seen.len() < NAMED_KEYS {
                seen.insert(key);
            }
        }
    }
    if let (Some(key), false) = (missing.first(), seen.is_empty()) {
        let seen: Vec<_> = seen.iter().map(String::as_str).collect();
        bail!("no line has the key {key}; the keys are {}", seen.join(", "));
    }
    Ok(())
}

/// Lines of bounded length; empty ones are passed over.
struct Lines {
    reader: BufReader<File>,
    line: Vec<u8>,
    number: u64,
    bytes: u64,
}

impl Lines {
    fn new(file: File) -> Self {
        Self { reader: BufReader::with_capacity(1 << 16, file), line: Vec::new(), number: 0, bytes: 0 }
    }

    fn next(&mut self) -> std::io::Result<Option<Result<&str, RowError>>> {
        loop {
            self.line.clear();
            let read = (&mut self.reader).take(ROW_BYTES as u64).read_until(b'\n', &mut self.line)?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            self.bytes += read as u64;
            if read == ROW_BYTES && !self.line.ends_with(b"\n") && self.skip_line()? {
                let problem = format!("the line has more than {ROW_BYTES} bytes");
                return Ok(Some(Err(RowError::row(problem))));
            }
            if !self.line.iter().all(u8::is_ascii_whitespace) {
                break;
            }
        }
        let mark = if self.number == 1 { "\u{feff}".as_bytes() } else { b"" };
        let line = self.line.strip_prefix(mark).unwrap_or(&self.line).trim_ascii_end();
        Ok(Some(std::str::from_utf8(line).map_err(|_| RowError::row("the line is not UTF-8"))))
    }

    /// Passes over what is left of a line. Returns whether anything was left.
    fn skip_line(&mut self) -> std::io::Result<bool> {
        let mut skipped = 0;
        loop {
            let buffer = self.reader.fill_buf()?;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(buffer.len(), |at| at + 1);
            let at_end = end.is_some() || used == 0;
            self.reader.consume(used);
            skipped += used as u64;
            if at_end {
                self.bytes += skipped;
                return Ok(skipped > 0);
            }
        }
    }
}
