//! The values of exported rows as columns and cells of a file: the kind of each type, in one place.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::whole::Whole;
use tallyd_model::json::Text;
use tallyd_model::pricing::Usd;
use tallyd_parquet::{Cell, Column, Kind};

/// A type whose values are cells.
pub(crate) trait Stored {
    /// The kind of its column.
    const KIND: Kind;
    /// True if a value may be missing.
    const NULLABLE: bool = false;

    /// The value's cell.
    fn cell(&self) -> Cell<'_>;
}

/// A column of values of this type.
pub(crate) const fn column<T: Stored>(name: &'static str) -> Column {
    Column { name, kind: T::KIND, nullable: T::NULLABLE }
}

macro_rules! stored {
    ($($type:ty, $kind:ident: |$value:ident| $cell:expr;)*) => {
        $(impl Stored for $type {
            const KIND: Kind = Kind::$kind;

            fn cell(&self) -> Cell<'_> {
                let $value = self;
                $cell
            }
        })*
    };
}

stored! {
    String, Text: |text| Cell::Text(text);
    &'static str, Text: |text| Cell::Text(text);
    Text, Json: |json| Cell::Text(json.get());
    i16, Short: |value| Cell::Int(i32::from(*value));
    i32, Int: |value| Cell::Int(*value);
    i64, Long: |value| Cell::Long(*value);
    Whole, Whole: |value| Cell::Decimal(value.0);
    Usd, Usd: |value| Cell::Decimal(value.attos());
    DateTime<Utc>, Instant: |value| Cell::Long(value.timestamp_micros());
    Uuid, Uuid: |value| Cell::Uuid(*value.as_bytes());
}

impl<T: Stored> Stored for Option<T> {
    const KIND: Kind = T::KIND;
    const NULLABLE: bool = true;

    fn cell(&self) -> Cell<'_> {
        self.as_ref().map_or(Cell::Null, Stored::cell)
    }
}
