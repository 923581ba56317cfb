//! Changes of stored calls, added up by the rollups' keys, for the loader's statements.

use std::collections::BTreeMap;

use chrono::NaiveDate;

use super::row::LogRow;
use tallyd_model::rollup::dimensions::Dimensions;
use tallyd_model::rollup::fold::{Deltas, Names};
use tallyd_model::rollup::measures::{Measures, UserKey, UserSums};

/// The rollups' key of a call, without the user: day, hour, provider, model, endpoint, application, values of the dimensions
/// and `rollup_other`.
type CallKey = (NaiveDate, i64, [String; 5], i16);

/// Differences by the rollups' keys.
#[derive(Default)]
pub(crate) struct Sums {
    calls: BTreeMap<CallKey, Measures>,
    users: BTreeMap<(String, String, NaiveDate), UserSums>,
}

impl Sums {
    /// Adds a call's change.
    pub(crate) fn add(&mut self, (day, hour_us): (NaiveDate, i64), row: &LogRow, change: &Measures) {
        let mut picked = String::new();
        Dimensions::pack(row.values.iter().map(String::as_str), &mut picked);
        let names = [row.provider.clone(), row.model.clone(), row.endpoint.clone(), row.app.clone(), picked];
        self.calls.entry((day, hour_us, names, row.rollup_other)).or_default().add(change);
        let user = self.users.entry((row.user_id.clone(), row.provider.clone(), day)).or_default();
        user.measures.add(change);
        // The user's first and last call stay, because this call is not outside of them.
        user.first_us = user.first_us.min(row.occurred_at_us);
        user.last_us = user.last_us.max(row.occurred_at_us);
    }

    pub(crate) fn deltas<'a>(&'a self, dimensions: &'a Dimensions) -> Deltas<'a> {
        let users =
            self.users.iter().map(|((user_id, provider, day), sums)| (UserKey { day: *day, user_id, provider }, sums));
        let mut deltas = Deltas { users: users.collect(), ..Deltas::default() };
        for ((day, hour_us, [provider, model, endpoint, app, picked], other), measures) in &self.calls {
            let names = Names { provider, model, endpoint, app, picked, other: *other };
            names.add(&mut deltas, dimensions, (*day, *hour_us), measures);
        }
        deltas
    }
}
