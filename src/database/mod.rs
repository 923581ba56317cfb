//! PostgreSQL: where it is, how it is reached, and what is in it.

pub mod embedded;
