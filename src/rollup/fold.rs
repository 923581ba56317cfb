//! Sums a batch by rollup key. Keys borrow from the batch's chunks: nothing is allocated a record.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use hashbrown::HashMap;

use super::day::Days;
use super::guard::{KeyGuard, OTHER, OTHER_ENDPOINT, OTHER_MODEL};
use crate::pipeline::chunk::Call;
use crate::pricing::Usd;

/// The status from which on a call counts as an error.
const ERROR_STATUS: u16 = 400;

/// What every rollup row sums.
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
    /// Calls without a known price.
    pub unpriced: i64,
}

impl Measures {
    fn add_call(&mut self, call: &Call<'_>) {
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
            // At most 10^12 a record: nine million records of that size would be needed to overflow.
            *sum += unit as i64;
        }
        match call.cost.usd() {
            Some(usd) => self.add_cost(usd),
            None => self.unpriced += 1,
        }
    }

    fn add_cost(&mut self, usd: Usd) {
        // A batch's records would have to cost 10^14 USD each to overflow.
        self.cost = self.cost.checked_add(usd).expect("a batch's cost fits 10^20 USD");
    }

    fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.errors += other.errors;
        for (sum, unit) in self.units.iter_mut().zip(other.units) {
            *sum += unit;
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
    /// Model, or [`OTHER`].
    pub model: &'a str,
    /// Endpoint, or [`OTHER`].
    pub endpoint: &'a str,
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

impl Default for UserSums {
    fn default() -> Self {
        Self { measures: Measures::default(), first_us: i64::MAX, last_us: i64::MIN }
    }
}

/// Folds one batch.
pub struct Fold<'a, 'g> {
    guard: &'g KeyGuard,
    days: Days,
    /// Sums of a key as it was sent, and what the rollup makes of the key.
    costs: HashMap<CostKey<'a>, (i16, Measures)>,
    users: HashMap<UserKey<'a>, UserSums>,
}

/// What a batch adds, sorted by key.
pub struct Deltas<'a> {
    /// To `daily_api_costs`.
    pub costs: BTreeMap<CostKey<'a>, Measures>,
    /// To `daily_user_api_costs`.
    pub users: BTreeMap<UserKey<'a>, UserSums>,
    /// To `user_api_totals`, by user and provider.
    pub totals: BTreeMap<(&'a str, &'a str), UserSums>,
}

impl<'a, 'g> Fold<'a, 'g> {
    /// An empty fold. The guard must know the days that will come.
    #[must_use]
    pub fn new(guard: &'g KeyGuard, days: Days) -> Self {
        Self { guard, days, costs: HashMap::new(), users: HashMap::new() }
    }

    /// Adds a call. Returns what its row has in `rollup_other`.
    pub fn add(&mut self, call: &Call<'a>) -> i16 {
        let day = self.days.of(call.occurred_at_us);
        let other = self.cost_entry(day, call, |measures| measures.add_call(call));
        let user = UserKey { day, user_id: call.user_id, provider: call.provider };
        let sums = self.users.entry(user).or_default();
        sums.measures.add_call(call);
        sums.first_us = sums.first_us.min(call.occurred_at_us);
        sums.last_us = sums.last_us.max(call.occurred_at_us);
        other
    }

    /// What a call's row would have in `rollup_other`, without adding the call.
    pub fn other_of(&mut self, call: &Call<'a>) -> i16 {
        let day = self.days.of(call.occurred_at_us);
        self.cost_entry(day, call, |_| ())
    }

    fn cost_entry(&mut self, day: NaiveDate, call: &Call<'a>, change: impl FnOnce(&mut Measures)) -> i16 {
        let key = CostKey { day, provider: call.provider, model: call.model, endpoint: call.endpoint };
        let guard = self.guard;
        let (other, measures) =
            self.costs.entry(key).or_insert_with(|| (guard.admit(day, call.model, call.endpoint), Measures::default()));
        change(measures);
        *other
    }

    /// The sums, sorted by key; keys that the guard has renamed fall together.
    #[must_use]
    pub fn finish(self) -> Deltas<'a> {
        let mut deltas = Deltas { costs: BTreeMap::new(), users: BTreeMap::new(), totals: BTreeMap::new() };
        for (mut key, (other, measures)) in self.costs.into_iter().filter(|(_, (_, measures))| measures.calls > 0) {
            if other & OTHER_MODEL != 0 {
                key.model = OTHER;
            }
            if other & OTHER_ENDPOINT != 0 {
                key.endpoint = OTHER;
            }
            deltas.costs.entry(key).or_default().add(&measures);
        }
        for (key, sums) in self.users {
            let total: &mut UserSums = deltas.totals.entry((key.user_id, key.provider)).or_default();
            total.measures.add(&sums.measures);
            total.first_us = total.first_us.min(sums.first_us);
            total.last_us = total.last_us.max(sums.last_us);
            deltas.users.insert(key, sums);
        }
        deltas
    }
}
