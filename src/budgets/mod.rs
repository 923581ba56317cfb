//! Budgets in the running daemon; [`tallyd_store::budgets`] defines them.
//!
//! | module | content |
//! |---|---|
//! | `shown` | the metrics of budgets and unpriced calls |
//! | [`watch`] | the task that evaluates, reads and shows, periodically |

mod shown;
pub(crate) mod watch;
