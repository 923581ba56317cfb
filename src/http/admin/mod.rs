//! The endpoints of the system that tallyd replaces, so that its front end works unchanged.
//!
//! Names are in camel case, amounts are JSON numbers with every digit, days are in the reporting time zone. New
//! endpoints belong in [`super::v1`].

pub(crate) mod cost_history;
pub(crate) mod costs;
pub(crate) mod metrics;
pub(crate) mod pricing;
pub(crate) mod users;
