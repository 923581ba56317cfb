//! Budgets: limits on the costs of a day, a week or a month, by scope, and the alerts about them.
//!
//! | module | content |
//! |---|---|
//! | [`budget`] | [`Budget`], and the days of its current period |
//! | [`scope`] | [`BudgetScope`]: up to two dimensions, and the rollup that tells them apart |
//! | [`board`] | [`Board`]: the state of every budget; answers whether to hold a call back |
//! | [`store`] | budgets as rows: listed, set, removed |
//! | [`evaluate`] | computes and stores the states |
//! | `spent` | the spend of all budgets, one statement a rollup |
//! | `thresholds`, `explain` | the alerts that are due, with the forecast and the largest parts of the spend |
//! | [`estimates`] | forecasts of budgets |
//! | `unusual` | costs of a user or a model that its own history does not explain |
//! | [`inbox`] | alerts: raised, listed as people see them, acknowledged |
//! | [`outbox`] | messages that are due: claimed, noted |
//! | [`slack`] | names and text in messages |
//!
//! *One daemon evaluates, all read.* Every `alerts.interval_ms` each daemon tries a lock
//! ([`Lock::Budgets`](crate::locks::Lock)). The holder computes the states from the rollups and stores those that have
//! changed. All daemons read the states into a [`Board`], which connections use for their answers; connected clients are
//! informed when the board changes for them. Between these rounds a daemon that has loaded calls evaluates the hard
//! budgets that are not used up, so that clients hear of a spend within a second
//! ([`Round::Hard`](evaluate::Round::Hard)). Evaluations of all daemons together take at most a fixed share of the time.
//!
//! *Once.* An alert's key names its subject (this budget, this amount, this period, this threshold), and the table has
//! each key once: neither a restart nor another daemon repeats it. Delivery is at least once: a receiver that accepted
//! an alert and then failed to answer gets it again.
//!
//! *Fees are not costs of calls.* A RentCast plan's monthly fee is not in any budget, because records have marginal
//! costs.

pub mod board;
pub mod budget;
pub mod estimates;
pub mod evaluate;
mod explain;
pub mod inbox;
pub mod outbox;
pub mod scope;
pub mod slack;
mod spent;
pub mod store;
mod thresholds;
mod unusual;

pub use board::{Board, BudgetStanding, BudgetState};
pub use budget::{Budget, Limit, Period};
pub use scope::BudgetScope;
pub use store::NewBudget;
pub use tallyd_protocol::CallScope;
