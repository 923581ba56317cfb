//! The API proper. Names are in snake case, amounts are decimal text, each list has a bound, each export is a stream.

pub(crate) mod alert_rules;
pub(crate) mod alerts;
pub(crate) mod aliases;
pub(crate) mod audit;
pub(crate) mod bounds;
pub(crate) mod budgets;
pub(crate) mod change;
pub(crate) mod closings;
pub(crate) mod costs;
pub(crate) mod dead_letters;
pub(crate) mod decisions;
pub(crate) mod deploys;
pub(crate) mod dimensions;
pub(crate) mod forecast;
pub(crate) mod latency;
pub(crate) mod overview;
pub(crate) mod price_changes;
pub(crate) mod price_sync;
pub(crate) mod prices;
pub(crate) mod records;
pub(crate) mod report;
pub(crate) mod reprice;
pub(crate) mod sessions;
pub(crate) mod tokens;
pub(crate) mod units;
pub(crate) mod users;
