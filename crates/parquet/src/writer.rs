//! Writes rows into a file, a row group at a time.

use std::collections::HashSet;
use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, FixedLenByteArray, FixedLenByteArrayType, Int32Type, Int64Type};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::ColumnPath;

use crate::schema::schema;
use crate::{Cell, Column, FileError, GROUP_BYTES, GROUP_ROWS, Kind};

/// How a file is written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// The level of zstd, 1 to 22; 0 stands for 3.
    pub level: i32,
    /// Columns of numbers that are often 0 and otherwise nearly all different, written without a dictionary.
    pub plain: &'a [&'a str],
    /// Columns of numbers that are nearly all different and never 0, written as differences.
    pub deltas: &'a [&'a str],
    /// The columns by which the rows are sorted, which the file then states.
    pub sorted_by: &'a [&'a str],
    /// Columns with a bloom filter for each row group.
    pub bloom: &'a [&'a str],
}

/// A file that is being written.
pub struct Writer<W: Write + Send> {
    file: SerializedFileWriter<W>,
    columns: Vec<(Column, Values)>,
    rows: usize,
    bytes: usize,
}

/// The values of a column that are not written yet.
struct Values {
    list: List,
    /// 1 for a value, 0 for a missing one. Empty for a column that is not nullable.
    present: Vec<i16>,
    /// Texts of the row group, so that equal ones share their memory.
    known: HashSet<Bytes>,
}

enum List {
    Texts(Vec<ByteArray>),
    Fixed(Vec<FixedLenByteArray>),
    Ints(Vec<i32>),
    Longs(Vec<i64>),
}

impl<W: Write + Send> Writer<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn new(out: W, columns: &[Column], options: &Options<'_>) -> Result<Self, FileError> {
        let file = SerializedFileWriter::new(out, schema(columns)?, Arc::new(properties(columns, options)?))?;
        let columns = columns.iter().map(|column| (column.clone(), Values::of(column.kind))).collect();
        Ok(Self { file, columns, rows: 0, bytes: 0 })
    }

    /// Adds a row, whose cells are in the order of the columns.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn push(&mut self, row: &[Cell<'_>]) -> Result<(), FileError> {
        if row.len() != self.columns.len() {
            return Err(FileError::Columns(format!("a row of {} cells", row.len())));
        }
        if self.rows == GROUP_ROWS || self.bytes >= GROUP_BYTES {
            self.flush()?;
        }
        for ((column, values), cell) in self.columns.iter_mut().zip(row) {
            self.bytes += values.push(column, *cell).ok_or_else(|| FileError::Kind(column.name.to_owned()))?;
        }
        self.rows += 1;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), FileError> {
        if self.rows == 0 {
            return Ok(());
        }
        let mut group = self.file.next_row_group()?;
        for (_, values) in &mut self.columns {
            let Some(writer) = group.next_column()? else { break };
            values.write(writer)?;
        }
        group.close()?;
        (self.rows, self.bytes) = (0, 0);
        Ok(())
    }

    /// Writes the last row group and the footer. Returns the file, whose buffers are not flushed.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn finish(mut self) -> Result<W, FileError> {
        self.flush()?;
        Ok(self.file.into_inner()?)
    }
}

fn properties(columns: &[Column], options: &Options<'_>) -> Result<WriterProperties, FileError> {
    let level = if options.level == 0 { 3 } else { options.level };
    let mut all = WriterProperties::builder()
        .set_created_by(concat!("tallyd ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(level)?))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .set_max_row_group_row_count(Some(GROUP_ROWS));
    for column in columns {
        let path = ColumnPath::from(column.name);
        if let Some(encoding) = encoding(column, options) {
            all = all.set_column_dictionary_enabled(path.clone(), false).set_column_encoding(path.clone(), encoding);
        }
        if options.bloom.contains(&column.name) {
            all = all.set_column_bloom_filter_enabled(path, true);
        }
    }
    let place = |name: &&str| columns.iter().position(|column| column.name == *name);
    let sorted = options.sorted_by.iter().filter_map(place).filter_map(|at| i32::try_from(at).ok());
    let sorted: Vec<_> =
        sorted.map(|column_idx| SortingColumn { column_idx, descending: false, nulls_first: false }).collect();
    Ok(all.set_sorting_columns((!sorted.is_empty()).then_some(sorted)).build())
}

/// The encoding of columns whose values are nearly all different, for which a dictionary is a waste.
fn encoding(column: &Column, options: &Options<'_>) -> Option<Encoding> {
    match column.kind {
        Kind::Instant => Some(Encoding::DELTA_BINARY_PACKED),
        // Ids of version 7 begin with their time: neighbours have some of its bytes in common.
        Kind::Uuid => Some(Encoding::DELTA_BYTE_ARRAY),
        Kind::Usd => Some(Encoding::PLAIN),
        _ if options.plain.contains(&column.name) => Some(Encoding::PLAIN),
        _ if options.deltas.contains(&column.name) => Some(Encoding::DELTA_BINARY_PACKED),
        _ => None,
    }
}

impl Values {
    fn of(kind: Kind) -> Self {
        let list = match kind {
            Kind::Text | Kind::Json => List::Texts(Vec::new()),
            Kind::Short | Kind::Int => List::Ints(Vec::new()),
            Kind::Long | Kind::Instant => List::Longs(Vec::new()),
            Kind::Whole | Kind::Usd | Kind::Uuid => List::Fixed(Vec::new()),
        };
        Self { list, present: Vec::new(), known: HashSet::new() }
    }

    /// Adds a cell. Returns its bytes of text; none if it is not of the column's kind.
    fn push(&mut self, column: &Column, cell: Cell<'_>) -> Option<usize> {
        let mut bytes = 0;
        match (&mut self.list, cell) {
            (_, Cell::Null) if column.nullable => {}
            (List::Texts(texts), Cell::Text(text)) => {
                let shared = match self.known.get(text.as_bytes()) {
                    Some(known) => known.clone(),
                    None => {
                        let new = Bytes::copy_from_slice(text.as_bytes());
                        self.known.insert(new.clone());
                        bytes = text.len();
                        new
                    }
                };
                texts.push(shared.into());
            }
            (List::Ints(ints), Cell::Int(value)) => ints.push(value),
            (List::Longs(longs), Cell::Long(value)) => longs.push(value),
            (List::Fixed(fixed), Cell::Decimal(value)) if column.kind != Kind::Uuid => {
                fixed.push(value.to_be_bytes().to_vec().into());
            }
            (List::Fixed(fixed), Cell::Uuid(value)) if column.kind == Kind::Uuid => fixed.push(value.to_vec().into()),
            _ => return None,
        }
        if column.nullable {
            self.present.push((cell != Cell::Null).into());
        }
        Some(bytes)
    }

    /// Writes the column of the row group, and empties it.
    fn write(&mut self, mut writer: SerializedColumnWriter<'_>) -> Result<(), FileError> {
        let present = (!self.present.is_empty()).then_some(&self.present[..]);
        match &mut self.list {
            List::Texts(values) => {
                writer.typed::<ByteArrayType>().write_batch(values, present, None)?;
                values.clear();
            }
            List::Fixed(values) => {
                writer.typed::<FixedLenByteArrayType>().write_batch(values, present, None)?;
                values.clear();
            }
            List::Ints(values) => {
                writer.typed::<Int32Type>().write_batch(values, present, None)?;
                values.clear();
            }
            List::Longs(values) => {
                writer.typed::<Int64Type>().write_batch(values, present, None)?;
                values.clear();
            }
        }
        writer.close()?;
        self.present.clear();
        self.known.clear();
        Ok(())
    }
}
