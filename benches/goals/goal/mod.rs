//! The goals, in the order in which they are measured.

mod ack;
mod backlog;
mod bloat;
mod daemons;
mod dashboard;
mod dimensions;
mod end_to_end;
mod limits;
mod pace;
mod questions;
mod read;
mod rebuild;
mod record;
mod start;
mod user_index;
mod users;

use super::options::Options;
use super::report::Report;

type Measure = fn(&Options, &mut Report);

pub const ALL: [(&str, Measure); 15] = [
    ("end-to-end", end_to_end::measure),
    ("users", users::measure),
    ("user-index", user_index::measure),
    ("dimensions", dimensions::measure),
    ("daemons", daemons::measure),
    ("record", record::measure),
    ("limits", limits::measure),
    ("ack", ack::measure),
    ("dashboard", dashboard::measure),
    ("start", start::measure),
    ("backlog", backlog::measure),
    ("read", read::measure),
    ("questions", questions::measure),
    ("rebuild", rebuild::measure),
    ("bloat", bloat::measure),
];

/// True for a goal that takes longer than all others together. It is measured only if it is named.
pub fn is_long(name: &str) -> bool {
    name == "bloat"
}
