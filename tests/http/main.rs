//! The HTTP API, used as its users do: the real program, real PostgreSQL servers, a stand-in for the issuer of JWTs.
//!
//! The tests share nothing, so they run in parallel; they wait for conditions, never for time.

#[path = "../it/support/mod.rs"]
mod support;

mod acks;
mod administered;
mod bounds;
mod changes;
mod client;
mod connections;
mod dimensions;
mod docs;
mod filled;
mod grpc;
mod issuer;

mod jwt;
mod legacy;
mod letters;
mod openapi;
mod otlp;
mod page;
mod password;
mod questions;
mod records;
mod sessions;
mod settings;
mod socket;
mod spend;
mod stub;
mod tls;
mod tokens;
mod v1;
