//! tallyd: records every paid API call durably, prices it exactly, and loads it into PostgreSQL.
//!
//! The table lists the modules in the order in which data flows; `ARCHITECTURE.md` has the picture and the promises.
//! Code that must be pure, or usable alone, is in crates of its own:
//!
//! * `crates/model`: calls, money, prices, sums;
//! * `crates/intake`: reads and admits foreign bytes;
//! * `crates/wal`: chunks, the channel, the WAL;
//! * `crates/store`: PostgreSQL and all SQL;
//! * `crates/pipeline`: the data plane: listeners, connections, lanes;
//! * `crates/config`: the configuration;
//! * `crates/base`: the clock, the metrics' names, fail points.
//!
//! | module | content |
//! |---|---|
//! | [`cli`] | the command line, one file a command |
//! | [`app`] | the wiring: builds the stages, owns their handles, ends them in order |
//! | [`budgets`] | budgets in the running daemon: evaluated and shown |
//! | [`alerts`] | messages to people and their systems: alerts, reports |
//! | [`retry`] | a dead letter's record, admitted again |
//! | [`outbound`] | tallyd's own requests to other servers |
//! | [`http`] | the control plane: health, metrics, status |
//! | [`metrics`] | the metrics' recorder, and sums by provider and model |

#![warn(unreachable_pub)]

mod alerts;
mod app;
mod budgets;
mod cli;
mod http;
mod lock;
mod log_lines;
mod metrics;
mod outbound;
mod retry;
mod shutdown;
mod vendors;

pub use cli::{command, main};
pub use http::router::document;
pub use http::socket;
