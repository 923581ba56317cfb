//! The endpoints of the system that tallyd replaces, so that its front end works unchanged.
//!
//! Names are in camel case, amounts are JSON numbers (with every digit), days are in the reporting time zone. New things
//! belong into [`super::v1`].

pub mod cost_history;
pub mod costs;
pub mod metrics;
pub mod pricing;
pub mod users;
