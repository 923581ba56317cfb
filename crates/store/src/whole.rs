//! A sum of counts, read from PostgreSQL without a bound of 64 bits.
//!
//! PostgreSQL's `sum()` over `int8` is `numeric`, and is not cast: a cast to `int8` fails for the sum of two rollup
//! rows near 2^63. (Sums of columns that count 1 for each call, `calls`, `errors` and `unpriced_calls`, may be cast:
//! 2^63 calls are out of reach.) 127 bits are enough: 1.8 * 10^19 rows at 2^63 would fill them.

use std::iter::Sum;
use std::ops::{Add, AddAssign};

use serde::{Deserialize, Serialize};
use tokio_postgres::types::{FromSql, Type};
use utoipa::ToSchema;

use tallyd_model::pricing::pg_numeric;

/// An integer that `int8`, and any sum of `int8`, can have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = i128)]
pub struct Whole(pub i128);

impl Whole {
    /// As 64 bits; larger values become the largest one.
    #[must_use]
    pub fn to_u64(self) -> u64 {
        u64::try_from(self.0.max(0)).unwrap_or(u64::MAX)
    }
}

impl From<i64> for Whole {
    fn from(value: i64) -> Self {
        Self(value.into())
    }
}

impl Add for Whole {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        // Saturation does not happen for sums of stored rows: see the head of this file.
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Whole {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Whole {
    fn sum<I: Iterator<Item = Self>>(values: I) -> Self {
        values.fold(Self::default(), Add::add)
    }
}

impl std::fmt::Display for Whole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl<'a> FromSql<'a> for Whole {
    fn from_sql(kind: &Type, bytes: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        if *kind == Type::INT8 {
            i64::from_sql(kind, bytes).map(Self::from)
        } else {
            Ok(Self(pg_numeric::decode_whole(bytes)?))
        }
    }

    fn accepts(kind: &Type) -> bool {
        matches!(*kind, Type::INT8 | Type::NUMERIC)
    }
}
