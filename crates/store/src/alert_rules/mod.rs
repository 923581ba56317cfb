//! Alert rules: conditions on sums of the rollups. One daemon evaluates all of them, once a minute.
//!
//! | module | content |
//! |---|---|
//! | [`rule`] | [`AlertRule`]: metric, calls, window, thresholds; checked |
//! | [`store`] | rules as rows: listed, set, removed |
//! | `measure` | the sums of all rules, in a statement for each rollup |
//! | `value` | a metric's value, and the level that it is at |
//! | [`evaluate`](mod@evaluate) | compares, changes the states, raises alerts |
//! | `explain` | the largest parts and calls of an alert |
//!
//! *Windows.* A window is the running hour or day and those before it. A rule leaves its level only if the window with
//! one hour or day more is below the threshold, too: otherwise each full hour would end the alert and begin another.
//!
//! *Once.* A rule's state changes in the transaction that writes the alert about it. An alert's key has the rule, how often
//! the rule has left `normal`, and the level. A level only rises until the rule is back to normal.

pub mod evaluate;
mod explain;
mod measure;
pub mod rule;
pub mod store;
mod value;

pub use rule::{AlertRule, Metric, NewRule, RuleError, Window};
pub use value::Level;
