//! Records that come over HTTP. They end in the channel that every other record goes through; 200 means durable.

pub(crate) mod gzip;
pub(crate) mod large;
pub(crate) mod records;
