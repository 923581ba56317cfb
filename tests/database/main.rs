//! The database: the private cluster, the schema, and their promises. Needs PostgreSQL's server programs.

mod access;
mod adopt;
mod citus;
mod dearest;
mod deltas;
mod dimensions;
mod embedded;
mod forget;
mod former;
mod list;
mod migrate;
mod partitions;
mod people;
mod retention;
mod rollups;
mod source;
mod supabase;
mod support;
mod tls;
mod upkeep;
