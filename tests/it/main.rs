//! The daemon's promises, tested on the real program and real PostgreSQL servers.
//!
//! Each test runs the built `tallyd` as a child process on a data folder of its own, against a private cluster of its
//! own (or the daemon's embedded one), and breaks one of the two. The tests share nothing, so they run in parallel;
//! they wait for conditions, never for time. There is a file per promise; [`support`] has the shared parts.
//!
//! PostgreSQL's server programs must be installed (`pg_config --bindir` names their folder).
//!
//! After every fault the same two things are checked: that each acknowledged record is there exactly once
//! ([`support::load::Sent::assert_in`]), and that every rollup equals the call log
//! ([`support::daemon::Daemon::assert_reconciled`]).

mod support;

mod adopt;
mod alerts;
mod amend;
mod archive;
mod backup;
mod beside;
mod bill;
mod budgets;
mod citus;
mod closings;
mod crash;
mod crowd;
mod damage;
mod dead_letters;
mod dimensions;
mod doctor;
mod documents;
mod embedded;
mod exports;
mod failover;
mod forget;
mod holds;
mod hostile;
mod import;
mod init;
mod outage;
mod partitions;
mod password;
mod pooler;
mod prices;
mod records;
mod refused;
mod reprice;
mod retention;
mod roles;
mod rollups;
mod sessions;
mod shutdown;
mod slots;
mod tls;
mod top;
mod upgrade;
mod vectors;
mod zone;
