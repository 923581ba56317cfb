//! Reads a file that [`Writer`](crate::Writer) wrote, a row group at a time.

use std::fs::File;

use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType, FixedLenByteArray};
use parquet::file::reader::{ChunkReader, FileReader};
use parquet::file::serialized_reader::SerializedFileReader;

use crate::schema::schema;
use crate::{Cell, Column, FileError, Kind};

/// A file that is being read.
pub struct Reader<R: ChunkReader + 'static = File> {
    file: SerializedFileReader<R>,
    columns: Vec<Column>,
}

/// The values of a column in a row group.
enum List {
    Texts(Vec<ByteArray>),
    Fixed(Vec<FixedLenByteArray>),
    Ints(Vec<i32>),
    Longs(Vec<i64>),
}

struct Values {
    list: List,
    /// Empty for a column that is not nullable.
    present: Vec<i16>,
    next: usize,
}

impl<R: ChunkReader + 'static> Reader<R> {
    /// Opens a file, which has to have just these columns.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn new(file: R, columns: &[Column]) -> Result<Self, FileError> {
        let file = SerializedFileReader::new(file)?;
        let is = file.metadata().file_metadata().schema_descr().root_schema();
        if is.get_fields() != schema(columns)?.get_fields() {
            let names: Vec<_> = is.get_fields().iter().map(|field| field.name()).collect();
            return Err(FileError::Columns(names.join(", ")));
        }
        Ok(Self { file, columns: columns.to_vec() })
    }

    /// Calls `each` with every row, in the file's order.
    ///
    /// # Errors
    /// [`FileError`], and those of `each`.
    pub fn each<E: From<FileError>>(&self, mut each: impl FnMut(&[Cell<'_>]) -> Result<(), E>) -> Result<(), E> {
        for group in 0..self.file.num_row_groups() {
            let (mut columns, rows) = self.group(group)?;
            for row in 0..rows {
                let mut cells = Vec::with_capacity(columns.len());
                for (column, values) in self.columns.iter().zip(&mut columns) {
                    cells.push(values.cell(column, row).ok_or_else(|| FileError::Kind(column.name.to_owned()))?);
                }
                each(&cells)?;
            }
        }
        Ok(())
    }

    fn group(&self, group: usize) -> Result<(Vec<Values>, usize), FileError> {
        let group = self.file.get_row_group(group)?;
        // A row group of this program has few rows; a file that states more is read as far as it goes.
        let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
        let read = |(at, column): (usize, &Column)| Values::read(group.get_column_reader(at)?, column, rows);
        Ok((self.columns.iter().enumerate().map(read).collect::<Result<_, _>>()?, rows))
    }
}

impl Values {
    fn read(reader: ColumnReader, column: &Column, rows: usize) -> Result<Self, FileError> {
        let (list, present) = match reader {
            ColumnReader::ByteArrayColumnReader(reader) => {
                let (values, present) = all(reader, column, rows)?;
                (List::Texts(values), present)
            }
            ColumnReader::FixedLenByteArrayColumnReader(reader) => {
                let (values, present) = all(reader, column, rows)?;
                (List::Fixed(values), present)
            }
            ColumnReader::Int32ColumnReader(reader) => {
                let (values, present) = all(reader, column, rows)?;
                (List::Ints(values), present)
            }
            ColumnReader::Int64ColumnReader(reader) => {
                let (values, present) = all(reader, column, rows)?;
                (List::Longs(values), present)
            }
            _ => return Err(FileError::Kind(column.name.to_owned())),
        };
        Ok(Self { list, present, next: 0 })
    }

    /// The cell of a row; rows are asked for in their order. None if the file is damaged.
    fn cell(&mut self, column: &Column, row: usize) -> Option<Cell<'_>> {
        if column.nullable && *self.present.get(row)? == 0 {
            return Some(Cell::Null);
        }
        let at = self.next;
        self.next += 1;
        Some(match &self.list {
            List::Texts(values) => Cell::Text(std::str::from_utf8(values.get(at)?.data()).ok()?),
            List::Ints(values) => Cell::Int(*values.get(at)?),
            List::Longs(values) => Cell::Long(*values.get(at)?),
            List::Fixed(values) => {
                let bytes: [u8; 16] = values.get(at)?.data().try_into().ok()?;
                if column.kind == Kind::Uuid { Cell::Uuid(bytes) } else { Cell::Decimal(i128::from_be_bytes(bytes)) }
            }
        })
    }
}

/// All values of a column in a row group.
fn all<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    column: &Column,
    rows: usize,
) -> Result<(Vec<T::T>, Vec<i16>), FileError> {
    let (mut values, mut present) = (Vec::new(), Vec::new());
    let mut done = 0;
    while done < rows {
        let levels = column.nullable.then_some(&mut present);
        let (records, _, _) = reader.read_records(rows - done, levels, None, &mut values)?;
        if records == 0 {
            return Err(FileError::Kind(column.name.to_owned()));
        }
        done += records;
    }
    Ok((values, present))
}
