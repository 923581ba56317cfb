//! `[dimensions]`: tags that have a rollup.

use serde::{Deserialize, Serialize};

use super::error::Faults;
use tallyd_model::rollup::dimensions::DIMENSIONS_MAX;
use tallyd_model::tags::{APP, name_fault};

/// Tags whose costs are summed by day.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dimensions {
    /// Tags that become dimensions, such as `["team", "customer", "environment"]`: at most 11, because `app` is one too. A daemon
    /// adds those that the database does not have yet, and counts the call log's calls by them. Removing a name here changes nothing;
    /// `tallyd dimensions remove` does.
    pub names: Vec<String>,
    /// Distinct values of one dimension a day; further ones count as `(other)`. `rollup.max_apps_per_day` bounds `app`.
    pub max_values_per_day: usize,
}

impl Default for Dimensions {
    fn default() -> Self {
        Self { names: Vec::new(), max_values_per_day: 1_000 }
    }
}

impl Dimensions {
    pub(super) fn validate(&self, faults: &mut Faults) {
        faults.in_range("dimensions.max_values_per_day", self.max_values_per_day, 1..=1_000_000);
        if let Some(fault) = self.names.iter().find_map(|name| name_fault(name)) {
            faults.add("dimensions.names", fault);
        }
        let others = self.names.iter().filter(|name| *name != APP).count();
        if others >= DIMENSIONS_MAX {
            let reason =
                format!("there are {others} of them beside {APP}, and at most {} are possible", DIMENSIONS_MAX - 1);
            faults.add("dimensions.names", reason);
        }
        if let Some(name) =
            self.names.iter().enumerate().find_map(|(at, name)| self.names[..at].contains(name).then_some(name))
        {
            faults.add("dimensions.names", format!("{name:?} is there twice"));
        }
    }
}
