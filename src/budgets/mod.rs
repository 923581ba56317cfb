//! Budgets in the running daemon; [`tallyd_store::budgets`] defines them.
//!
//! | module | content |
//! |---|---|
//! | [`standing`] | [`Standing`]: the board, and the state that clients receive |
//! | `shown` | the metrics of budgets and unpriced calls |
//! | [`watch`] | the task that evaluates, reads and shows, periodically |

mod shown;
pub(crate) mod standing;
pub(crate) mod watch;

pub(crate) use standing::Standing;
