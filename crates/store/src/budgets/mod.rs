//! Budgets: limits on the costs of a day, a week or a month, by scope, and the alerts about them.
//!
//! | module | content |
//! |---|---|
//! | [`budget`] | [`Budget`], and the days of its current period |
//! | [`board`] | [`Board`]: the state of every budget; answers whether to hold a call back |
//! | [`store`] | budgets as rows: listed, set, removed |
//! | [`evaluate`] | computes the states and forecasts, and raises alerts |
//! | `unusual` | costs of a user or a model that its own history does not explain |
//! | [`inbox`] | alerts: raised, listed as people see them, acknowledged |
//! | [`outbox`] | messages that are due: claimed, noted |
//! | [`slack`] | names and text in messages |
//!
//! *One daemon evaluates, all read.* Every `alerts.interval_ms` each daemon tries a lock
//! ([`Lock::Budgets`](crate::locks::Lock)). The holder computes the states from the rollups and stores them. All
//! daemons read the states into a [`Board`], which connections use for their answers; connected clients are informed
//! when the set of used up budgets changes. So a daemon throttles on the costs of all daemons up to a few seconds ago.
//!
//! *Once.* An alert's key names its subject (this budget, this amount, this period, this threshold), and the table has
//! each key once: neither a restart nor another daemon repeats it. Delivery is at least once: a receiver that accepted
//! an alert and then failed to answer gets it again.
//!
//! *Fees are not costs of calls.* A RentCast plan's monthly fee is not in any budget, because records have marginal
//! costs.

pub mod board;
pub mod budget;
pub mod evaluate;
mod explain;
pub mod inbox;
pub mod outbox;
pub mod slack;
pub mod store;
mod unusual;

pub use board::{Board, BudgetStanding, BudgetState};
pub use budget::{Budget, BudgetScope, Period};
pub use store::NewBudget;
pub use tallyd_protocol::CallScope;
