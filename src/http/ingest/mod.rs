//! Records over HTTP. They go through the same channel as every other record; 200 means durable.

pub(crate) mod body;
pub(crate) mod records;
