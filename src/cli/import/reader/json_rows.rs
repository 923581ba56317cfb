//! A JSON object a line.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use anyhow::bail;
use tallyd_protocol::record::FIELDS;

use super::super::json::{Object, at, scalar};
use super::super::mapping::Mapping;
use super::super::row::{RowError, set_json};
use super::super::snapshot::Snapshot;
use super::{ROW_BYTES, Read as RowRead, RowDraft, not_of, nothing_known};
use tallyd_model::files::Utf8;
use tallyd_model::json::Value;

/// The most ignored keys that a note names. A file may have any number of them.
const NAMED_KEYS: usize = 20;

pub(super) struct JsonRows {
    lines: Lines,
    mapping: Mapping,
    ignored: BTreeSet<String>,
}

impl JsonRows {
    /// Checks that every mapped key exists, which mostly takes no more than the first line.
    pub(super) fn open(snapshot: &Snapshot, mapping: Mapping) -> anyhow::Result<Self> {
        check_keys(&mut Lines::new(snapshot.reader()?), &mapping)?;
        Ok(Self { lines: Lines::new(snapshot.reader()?), mapping, ignored: BTreeSet::new() })
    }

    pub(super) const fn bytes_read(&self) -> u64 {
        self.lines.bytes
    }

    /// Reads the next row into the draft. Adds a note for each ignored key when it first occurs.
    pub(super) fn next(&mut self, draft: &mut RowDraft, notes: &mut Vec<String>) -> anyhow::Result<Option<RowRead>> {
        let Some(line) = self.lines.next()? else { return Ok(None) };
        let (mapping, ignored) = (&self.mapping, &mut self.ignored);
        let read = match mapping.preset {
            Some(preset) => line.and_then(tree).and_then(|row| draft.fill(preset, &row, mapping)),
            None => line.and_then(object).and_then(|object| fill(draft, &object, mapping, ignored, notes)),
        };
        Ok(Some((self.lines.number, read)))
    }
}

fn object(line: &str) -> Result<Object<'_>, RowError> {
    if line.starts_with('[') {
        return Err(RowError::row("an array, where each line is an object: `jq -c '.[]' FILE` makes lines of it"));
    }
    Object::read(line).map_err(RowError::row)
}

fn tree(line: &str) -> Result<Value, RowError> {
    // For its error messages.
    object(line)?;
    let read =
        Value::read_all(line).map_err(|error| RowError::row(format!("not a JSON object: {}", error.message())))?;
    read.into_iter().next().ok_or_else(|| RowError::row("not a JSON object"))
}

fn fill(
    draft: &mut RowDraft,
    object: &Object<'_>,
    mapping: &Mapping,
    ignored: &mut BTreeSet<String>,
    notes: &mut Vec<String>,
) -> Result<(), RowError> {
    let mut filled = 0u32;
    for (key, value) in &object.0 {
        let mut is_used = mapping.named().any(|name| starts_path(name, key));
        for field in mapping.fields_of(key) {
            is_used = true;
            // A bit for each field of the record; 32 bits suffice.
            let bit = 1 << FIELDS.iter().position(|name| *name == field).unwrap_or_default();
            if filled & bit != 0 {
                return Err(RowError::field(field, "there is more than one value").in_column(key));
            }
            filled |= bit;
            set_json(&mut draft.record, field, *value, mapping.form).map_err(|error| error.in_column(key))?;
        }
        let is_known = is_used || ignored.len() >= NAMED_KEYS || ignored.contains(key);
        if !is_known {
            ignored.insert(key.clone());
            let more = if ignored.len() == NAMED_KEYS { "; more are not named" } else { "" };
            notes.push(format!("a key that is not imported: {key}{more}"));
        }
    }
    let is_nested = |name: &&str| name.contains('.') && !object.0.iter().any(|(key, _)| key == name);
    for (field, path) in mapping.columns.iter().filter(|(_, path)| is_nested(&path.as_str())) {
        if let Some(value) = at(object, path) {
            filled |= 1 << FIELDS.iter().position(|name| name == field).unwrap_or_default();
            set_json(&mut draft.record, field, value, mapping.form).map_err(|error| error.in_column(path))?;
        }
    }
    if filled == 0 {
        return Err(RowError::row("no key of this line is a field, or is mapped to one: it is not a call"));
    }
    let key = mapping.key.as_deref().and_then(|path| scalar(at(object, path)?)?);
    draft.key = key.filter(|key| !key.is_empty());
    Ok(())
}

/// True if the path is the key, or begins with it.
fn starts_path(path: &str, key: &str) -> bool {
    path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Looks for every key that the command line names, and for one that is a field. This mostly takes no more than the
/// first line.
fn check_keys(lines: &mut Lines, mapping: &Mapping) -> anyhow::Result<()> {
    let mut missing: BTreeSet<&str> = mapping.named().collect();
    let (mut seen, mut is_any_known) = (BTreeSet::new(), false);
    while !missing.is_empty() || !is_any_known {
        let Some(line) = lines.next()? else { break };
        // The fault is reported when the row is read.
        let Ok(object) = line.and_then(object) else { continue };
        missing.retain(|path| at(&object, path).is_none());
        let keys = || object.0.iter().map(|(key, _)| key.as_str());
        is_any_known |= match mapping.preset {
            Some(preset) => preset.missing(keys()).is_empty(),
            None => !mapping.columns.is_empty() || keys().any(|key| mapping.fields_of(key).next().is_some()),
        };
        for key in keys() {
            if seen.len() < NAMED_KEYS && !seen.contains(key) {
                seen.insert(key.to_owned());
            }
        }
    }
    if seen.is_empty() {
        return Ok(());
    }
    let keys: Vec<_> = seen.iter().map(String::as_str).collect();
    match (mapping.preset, missing.first()) {
        (Some(preset), _) if !is_any_known => bail!(not_of(preset, &preset.missing(keys.iter().copied()), &keys)),
        (_, Some(key)) => bail!("no line has the key {key}; the keys are {}", keys.join(", ")),
        _ if !is_any_known => bail!(nothing_known("key", &keys)),
        _ => Ok(()),
    }
}

/// Lines of bounded length; empty ones are skipped.
struct Lines {
    reader: BufReader<Utf8<File>>,
    line: Vec<u8>,
    number: u64,
    bytes: u64,
}

impl Lines {
    fn new(file: File) -> Self {
        Self { reader: BufReader::with_capacity(1 << 16, Utf8::new(file)), line: Vec::new(), number: 0, bytes: 0 }
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

    /// Skips the rest of a line. Returns whether there was any.
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
