//! Budgets in the running daemon; [`tallyd_store::budgets`] has what they are.
//!
//! | module | content |
//! |---|---|
//! | [`standing`] | [`Standing`]: the board for all of the process, and what clients are told of it |
//! | `shown` | the metrics of budgets and unpriced calls |
//! | [`watch`] | the task that evaluates, reads, delivers and shows, again and again |

mod shown;
pub(crate) mod standing;
pub(crate) mod watch;

pub(crate) use standing::Standing;
