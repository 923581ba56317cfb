//! Messages to people and their systems: alerts and reports, sent over the routes of the configuration.
//!
//! | module | content |
//! |---|---|
//! | [`courier`] | the task that delivers due messages, each route by itself |
//! | [`receiver`] | a route's receiver: reads its secrets, sends a message |
//! | `chat` | bodies for Slack and Microsoft Teams |
//! | `pagerduty` | events of PagerDuty |
//! | [`reports`] | the task that writes reports of finished periods |
//! | [`rules`] | the task that evaluates alert rules |
//! | `signed` | bodies and signatures of webhooks |
//! | `mail` | e-mail over SMTP |
//!
//! `crates/store/src/budgets/outbox.rs` has the queue. A message is delivered at least once.

mod chat;
pub(crate) mod courier;
mod mail;
mod pagerduty;
pub(crate) mod receiver;
pub(crate) mod reports;
pub(crate) mod rules;
mod signed;
