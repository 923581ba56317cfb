//! Budgets: how much may be spent in a day, a week or a month, by whom or for what, and who is told when it is.
//!
//! | module | content |
//! |---|---|
//! | [`budget`] | [`Budget`], and the days of its current period |
//! | [`board`] | [`Board`]: where every budget stands; answers whether to hold back |
//! | [`store`] | budgets as rows: listed, set, removed |
//! | [`evaluate`] | computes where they stand and will end, and raises alerts |
//! | `unusual` | spend of a user or a model that its own history does not explain |
//! | [`inbox`] | alerts as people see them: listed, acknowledged |
//! | [`outbox`] | alerts on their way to the webhook |
//!
//! *One evaluates, all read.* Every `alerts.interval_ms` each daemon tries a lock ([`Lock::Budgets`](crate::locks::Lock)); who
//! gets it computes the states
//! from the rollups and writes them. All daemons read the states into a [`Board`], which connections look at when they
//! answer; connected clients are told when the set of used up budgets changes. So a daemon throttles on all daemons' spend of a
//! few seconds ago.
//!
//! *Once.* An alert's key names its subject (this budget, this amount, this period, this threshold), and the table
//! holds each key once: neither a restart nor another daemon repeats it. Delivery is at least once: a webhook that took an
//! alert and then failed to say so gets it again.
//!
//! *Fees are not spend.* A RentCast plan's monthly fee is not in any budget: records carry marginal costs.

pub mod board;
pub mod budget;
pub mod evaluate;
mod explain;
pub mod inbox;
pub mod outbox;
mod slack;
pub mod store;
mod unusual;

pub use board::{Board, BudgetStanding, BudgetState};
pub use budget::{Budget, BudgetScope, Period};
pub use store::NewBudget;
pub use tallyd_protocol::CallScope;
