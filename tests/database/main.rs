//! The database: the private cluster, the schema, and what is promised of both. Needs PostgreSQL's server programs.

mod embedded;
mod migrate;
mod partitions;
mod rollups;
mod source;
mod support;
mod tls;
mod upkeep;
