//! tallyd: records every paid API call durably, prices it exactly, and loads it into PostgreSQL.

pub mod database;
