//! Records that come over HTTP. They end in the channel that every other record goes through; 200 means durable.

pub mod gzip;
pub mod large;
pub mod records;
