//! Records that come over HTTP. They end in the channel that every other record goes through; 200 means durable.

pub(crate) mod body;
pub(crate) mod records;
