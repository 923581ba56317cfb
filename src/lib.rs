//! tallyd: records every paid API call durably, prices it exactly, and loads it into PostgreSQL.
//!
//! The modules, in the order in which data flows; `ARCHITECTURE.md` has the picture and the promises. Calls, money and prices are in
//! `crates/model`, which is pure; chunks, the channel and the write-ahead log in `crates/wal`; the clock, the metrics' names and fail points
//! in `crates/base`.
//!
//! | module | what it holds |
//! |---|---|
//! | [`cli`] | the command line, one file a command |
//! | [`config`] | the configuration, one file a section |
//! | [`app`] | the wiring: builds the stages, owns their handles, ends them in order |
//! | [`pipeline`] | the data plane: listener, connection, intake, flusher |
//! | [`budget`] | budgets and alerts: where they stand, who is told |
//! | [`database`] | PostgreSQL: found or started, connected to, migrated, reconciled |
//! | [`dead_letters`] | what was refused: looked at, corrected, retried once, dropped |
//! | [`replay`](mod@replay) | what is readable in a damaged segment, loaded once |
//! | [`outbound`] | the little that tallyd asks of other servers over HTTP |
//! | [`http`] | the control plane: health, metrics, status |
//! | [`metrics`] | every metric, a documented line each |
//! | [`seats`] | places on listeners that strangers can reach |
//! | [`scheduling`] | whose turn it is at a processor: acknowledgements before answers |
//! | `fuzzing` | what reads bytes from outside, as fuzzers and tests call it |

pub mod app;
pub mod budget;
pub mod cli;
pub mod config;
pub mod database;
pub mod dead_letters;
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
pub mod lock;
mod log_lines;
pub mod metrics;
pub mod outbound;
pub mod pipeline;
pub mod replay;
pub mod scheduling;
pub mod seats;
pub mod shutdown;

pub use app::App;
pub use pipeline::recorder::Recorder;
