//! The goals, in the order in which they are measured.

mod ack;
mod backlog;
mod daemons;
mod dashboard;
mod dimensions;
mod end_to_end;
mod limits;
mod pace;
mod questions;
mod read;
mod record;
mod start;
mod user_index;
mod users;

use super::options::Options;
use super::report::Report;

type Measure = fn(&Options, &mut Report);

pub const ALL: [(&str, Measure); 13] = [
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
];
