//! The alternatives to tallyd, each on the cluster that tallyd has just loaded into.

pub mod copy;
pub mod per_call;
pub mod rsyslog;
pub mod unnest;
