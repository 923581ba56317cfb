//! The sums of a rollup row, and the keys of the rows.

use chrono::NaiveDate;

use crate::call::Call;
use crate::pricing::Usd;

/// The status from which on a call counts as an error.
const ERROR_STATUS: u16 = 400;

/// The sums of a rollup row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Measures {
    /// Calls.
    pub calls: i64,
    /// Calls with a status of 400 and above.
    pub errors: i64,
    /// Tokens and requests, in the order of the columns: input, output, cache read, cache write 5m and 1h, requests.
    pub units: [i64; 6],
    /// USD.
    pub cost: Usd,
    /// Unpriced calls.
    pub unpriced: i64,
}

impl Measures {
    pub(super) fn add_call(&mut self, call: &Call<'_>) {
        let tokens = &call.tokens;
        self.calls += 1;
        self.errors += i64::from(call.status >= ERROR_STATUS);
        let units = [
            tokens.input,
            tokens.output,
            tokens.cache_read,
            tokens.cache_write_5m,
            tokens.cache_write_1h,
            call.requests,
        ];
        for (sum, unit) in self.units.iter_mut().zip(units) {
            // No version has admitted counts above 10^12 (limits::TOKENS_MAX), so an overflow takes 9.2 million calls.
            // A batch has at most 18 MiB of payload, which is 1.2 million calls, because each has an id of 16 bytes.
            *sum = sum.checked_add(unit as i64).expect("a batch's counts fit 63 bits");
        }
        match call.cost.usd() {
            Some(usd) => self.add_cost(usd),
            None => self.unpriced += 1,
        }
    }

    pub(super) fn add_cost(&mut self, usd: Usd) {
        // An overflow would take a batch of records that cost 10^14 USD each.
        self.cost = self.cost.checked_add(usd).expect("a batch's cost fits 10^20 USD");
    }

    /// The sum of both; none on overflow.
    #[must_use]
    pub fn checked_add(&self, other: &Self) -> Option<Self> {
        let mut units = self.units;
        for (sum, unit) in units.iter_mut().zip(other.units) {
            *sum = sum.checked_add(unit)?;
        }
        Some(Self {
            calls: self.calls.checked_add(other.calls)?,
            errors: self.errors.checked_add(other.errors)?,
            units,
            cost: self.cost.checked_add(other.cost)?,
            unpriced: self.unpriced.checked_add(other.unpriced)?,
        })
    }

    /// Adds another row of sums of the same batch.
    ///
    /// # Panics
    /// On overflow of 63 bits or of 10^20 USD, which takes more calls than a batch has.
    pub fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.errors += other.errors;
        for (sum, unit) in self.units.iter_mut().zip(other.units) {
            // Rows of the same batch: see `add_call`.
            *sum = sum.checked_add(unit).expect("a batch's counts fit 63 bits");
        }
        self.add_cost(other.cost);
        self.unpriced += other.unpriced;
    }
}

/// A key of `daily_api_costs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CostKey<'a> {
    /// In the reporting time zone.
    pub day: NaiveDate,
    /// Provider.
    pub provider: &'a str,
    /// Model, or [`OTHER`](super::guard::OTHER).
    pub model: &'a str,
    /// Endpoint, or [`OTHER`](super::guard::OTHER).
    pub endpoint: &'a str,
}

/// A key of `daily_dimension_costs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DimensionKey<'a> {
    /// In the reporting time zone.
    pub day: NaiveDate,
    /// The dimension's name.
    pub dimension: &'a str,
    /// Its value, or [`OTHER`](super::guard::OTHER).
    pub value: &'a str,
    /// Provider.
    pub provider: &'a str,
    /// Model, or [`OTHER`](super::guard::OTHER).
    pub model: &'a str,
}

/// A key of `hourly_api_costs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HourKey<'a> {
    /// The hour's beginning by the clocks of the reporting time zone, microseconds since 1970.
    pub hour_us: i64,
    /// Provider.
    pub provider: &'a str,
    /// Model, or [`OTHER`](super::guard::OTHER).
    pub model: &'a str,
}

/// A key of `daily_user_api_costs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserKey<'a> {
    /// In the reporting time zone.
    pub day: NaiveDate,
    /// User.
    pub user_id: &'a str,
    /// Provider.
    pub provider: &'a str,
}

/// A user's sums, with the times of the first and last call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserSums {
    /// The sums.
    pub measures: Measures,
    /// Microseconds since 1970.
    pub first_us: i64,
    /// Microseconds since 1970.
    pub last_us: i64,
}

impl UserSums {
    pub(super) fn add_call(&mut self, call: &Call<'_>) {
        self.measures.add_call(call);
        self.first_us = self.first_us.min(call.occurred_at_us);
        self.last_us = self.last_us.max(call.occurred_at_us);
    }
}

impl Default for UserSums {
    fn default() -> Self {
        Self { measures: Measures::default(), first_us: i64::MAX, last_us: i64::MIN }
    }
}

/// The finest key of all rollups that are not by user: each of their keys is a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct CallKey<'a> {
    /// As in [`HourKey`]. The day follows from it.
    pub(super) hour_us: i64,
    pub(super) provider: &'a str,
    pub(super) model: &'a str,
    pub(super) endpoint: &'a str,
    pub(super) app: &'a str,
    /// As they are stored.
    pub(super) tags: &'a str,
}

impl<'a> CallKey<'a> {
    pub(super) fn of(hour_us: i64, call: &Call<'a>) -> Self {
        let Call { provider, model, endpoint, app, tags, .. } = *call;
        Self { hour_us, provider, model, endpoint, app, tags }
    }

    /// True if the names are the same slices, and therefore equal.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.hour_us == other.hour_us
            && std::ptr::eq(self.model, other.model)
            && std::ptr::eq(self.endpoint, other.endpoint)
            && std::ptr::eq(self.app, other.app)
            && std::ptr::eq(self.tags, other.tags)
            && std::ptr::eq(self.provider, other.provider)
    }
}
