//! Hostile neighbours: each test plays an attacker who wants to stop the daemon, get in, or reach others' records.
//!
//! The tests use the real program, real PostgreSQL servers and real clients. Each asserts three things: the attack is
//! refused with a clear error; the daemon's memory and time stay within SECURITY.md's bound; and the honest clients
//! beside the attacker lose nothing and double nothing. There is a file per point of attack.

#[path = "../http/client.rs"]
#[allow(dead_code, reason = "the tests of the HTTP API share it")]
mod client;
#[path = "../it/support/mod.rs"]
mod support;

mod answers;
mod bytes;
mod dead_letters;
mod listeners;
mod otlp;
mod page;
mod producers;
mod sql;
mod stated_costs;
mod terminal;
