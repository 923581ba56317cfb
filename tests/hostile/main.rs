//! Hostile neighbours: each test plays somebody who wants the daemon down, in, or at others' records.
//!
//! The real program, real PostgreSQL servers and real clients. A test asserts three things: the attack is refused with a
//! clear error; the daemon's memory and time stay within the bound that SECURITY.md states; and the honest clients beside
//! the attacker lose nothing and double nothing. A file per door.

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
