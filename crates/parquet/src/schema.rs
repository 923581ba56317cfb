//! Columns, their kinds, and the cells of a row.

use std::sync::Arc;

use parquet::basic::{LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::schema::types::{Type, TypePtr};

use crate::FileError;

/// The type of a column's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8 text.
    Text,
    /// The text of a JSON value.
    Json,
    /// 16 bits.
    Short,
    /// 32 bits.
    Int,
    /// 64 bits.
    Long,
    /// An integer of up to 38 digits.
    Whole,
    /// USD, as an integer of 10⁻¹⁸.
    Usd,
    /// Microseconds since 1970 in UTC.
    Instant,
    /// 16 bytes.
    Uuid,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// The type of its values.
    pub kind: Kind,
    /// True if values may be missing.
    pub nullable: bool,
}

/// A value of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell<'a> {
    /// No value.
    Null,
    /// Of [`Kind::Text`] and [`Kind::Json`].
    Text(&'a str),
    /// Of [`Kind::Short`] and [`Kind::Int`].
    Int(i32),
    /// Of [`Kind::Long`] and [`Kind::Instant`].
    Long(i64),
    /// Of [`Kind::Whole`] and [`Kind::Usd`].
    Decimal(i128),
    /// Of [`Kind::Uuid`].
    Uuid([u8; 16]),
}

/// Digits of a decimal.
const DIGITS: i32 = 38;
/// Decimals of USD.
const USD_SCALE: i32 = 18;

impl Kind {
    pub(crate) const fn is_fixed(self) -> bool {
        matches!(self, Self::Whole | Self::Usd | Self::Uuid)
    }

    fn types(self) -> (Physical, Option<LogicalType>) {
        match self {
            Self::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Self::Json => (Physical::BYTE_ARRAY, Some(LogicalType::Json)),
            Self::Short | Self::Int => (Physical::INT32, None),
            Self::Long => (Physical::INT64, None),
            Self::Whole => (Physical::FIXED_LEN_BYTE_ARRAY, Some(LogicalType::decimal(0, DIGITS))),
            Self::Usd => (Physical::FIXED_LEN_BYTE_ARRAY, Some(LogicalType::decimal(USD_SCALE, DIGITS))),
            Self::Instant => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MICROS))),
            Self::Uuid => (Physical::FIXED_LEN_BYTE_ARRAY, Some(LogicalType::Uuid)),
        }
    }
}

impl Column {
    fn to_type(&self) -> Result<TypePtr, FileError> {
        let (physical, logical) = self.kind.types();
        let repetition = if self.nullable { Repetition::OPTIONAL } else { Repetition::REQUIRED };
        let mut builder = Type::primitive_type_builder(self.name, physical)
            .with_repetition(repetition)
            .with_logical_type(logical)
            .with_length(if self.kind.is_fixed() { 16 } else { -1 });
        if matches!(self.kind, Kind::Whole | Kind::Usd) {
            let scale = if self.kind == Kind::Usd { USD_SCALE } else { 0 };
            builder = builder.with_precision(DIGITS).with_scale(scale);
        }
        Ok(Arc::new(builder.build()?))
    }
}

/// The schema of a file with these columns.
pub(crate) fn schema(columns: &[Column]) -> Result<TypePtr, FileError> {
    let fields = columns.iter().map(Column::to_type).collect::<Result<_, _>>()?;
    Ok(Arc::new(Type::group_type_builder("calls").with_fields(fields).build()?))
}
