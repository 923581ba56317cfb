//! tallyd: records every paid API call durably, prices it exactly, and loads it into PostgreSQL.

pub mod clock;
pub mod database;
pub mod http;
pub mod lock;
pub mod metrics;
pub mod pipeline;
pub mod pricing;
pub mod rollup;
pub mod shutdown;
