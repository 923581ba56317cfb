//! The file of an export: NDJSON, CSV or Parquet, written row by row.
//!
//! A file that breaks off must not look complete: rows go into `FILE.part`, which gets its name once it is whole.

use std::fs::File;
use std::io::{BufWriter, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;

use crate::http::csv;
use tallyd_model::{json, quote};
use tallyd_parquet::{Cell, Column, Options, Writer};

/// The form of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    /// A JSON object a line
    Ndjson,
    /// Comma-separated values with a header line
    Csv,
    /// Columns, compressed by zstd, with exact decimals
    Parquet,
}

/// The reader of standard output has gone away, which ends an export and is not a failure.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads standard output")]
struct Unread;

/// An export whose reader has gone away has ended.
pub(super) fn unless_unread(error: anyhow::Error) -> anyhow::Result<()> {
    if error.is::<Unread>() { Ok(()) } else { Err(error) }
}

type Out = BufWriter<Box<dyn Write + Send>>;

enum Body {
    Ndjson(Out),
    Csv(Out, &'static [&'static str]),
    Parquet(Box<Writer<Out>>),
}

/// Bytes of the buffer in front of the file.
const BUFFER: usize = 1 << 18;

/// A file that is being written.
pub(super) struct Export {
    body: Body,
    /// None for standard output.
    file: Option<Part>,
    rows: u64,
}

/// A file that does not have its name yet. Dropped, it is removed.
struct Part {
    part: PathBuf,
    path: PathBuf,
}

impl Part {
    fn create(path: &Path) -> anyhow::Result<(Self, File)> {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = File::create(&part).with_context(|| format!("{} cannot be written", part.display()))?;
        Ok((Self { part, path: path.to_owned() }, file))
    }

    /// Gives the file its name, once its bytes are on disk.
    fn finish(self) -> anyhow::Result<()> {
        File::open(&self.part)?.sync_all()?;
        std::fs::rename(&self.part, &self.path).with_context(|| format!("{} cannot be written", self.path.display()))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // After `finish` there is none.
        let _ = std::fs::remove_file(&self.part);
    }
}

impl Export {
    /// Begins a file; `-` is standard output.
    pub(super) fn begin(
        path: &Path,
        form: Form,
        names: &'static [&'static str],
        columns: &[Column],
    ) -> anyhow::Result<Self> {
        let (out, file): (Box<dyn Write + Send>, _) = if path == Path::new("-") {
            // Cells are data: in CSV they are not escaped for a terminal.
            let shown = form != Form::Ndjson && std::io::stdout().is_terminal();
            anyhow::ensure!(!shown, "this form is not printed on a terminal. hint: --out FILE, or a pipe");
            (Box::new(std::io::stdout()), None)
        } else {
            let (part, file) = Part::create(path)?;
            (Box::new(file), Some(part))
        };
        let mut out = BufWriter::with_capacity(BUFFER, out);
        let body = match form {
            Form::Ndjson => Body::Ndjson(out),
            Form::Csv => {
                written(out.write_all(&csv::header(names)))?;
                Body::Csv(out, names)
            }
            Form::Parquet => Body::Parquet(Box::new(Writer::new(out, columns, &Options::default())?)),
        };
        Ok(Self { body, file, rows: 0 })
    }

    /// Writes a row.
    pub(super) fn row(&mut self, row: &impl Serialize, cells: &[Cell<'_>]) -> anyhow::Result<()> {
        match &mut self.body {
            Body::Ndjson(out) => written(writeln!(out, "{}", quote::json(&json::to_string(row)?)))?,
            Body::Csv(out, names) => {
                written(out.write_all(&csv::render(names, &[json::to_string(row)?], Vec::new())))?;
            }
            Body::Parquet(writer) => writer.push(cells)?,
        }
        self.rows += 1;
        Ok(())
    }

    /// Ends the file, and gives it its name. Returns the number of rows.
    pub(super) fn finish(self) -> anyhow::Result<u64> {
        let ended = match self.body {
            Body::Ndjson(out) | Body::Csv(out, _) => Ok(out),
            Body::Parquet(writer) => writer.finish().map_err(anyhow::Error::from),
        };
        let flushed = ended.and_then(|mut out| written(out.flush()));
        match self.file {
            Some(part) => {
                flushed.with_context(|| format!("{} cannot be written", part.part.display()))?;
                part.finish()?;
            }
            None => flushed.or_else(unless_unread)?,
        }
        Ok(self.rows)
    }
}

fn written(result: std::io::Result<()>) -> anyhow::Result<()> {
    result.map_err(|error| if error.kind() == ErrorKind::BrokenPipe { Unread.into() } else { error.into() })
}
