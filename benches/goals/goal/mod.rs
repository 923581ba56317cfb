//! The goals, in the order in which they are measured.

mod ack;
mod backlog;
mod daemons;
mod dashboard;
mod elsewhere;
mod end_to_end;
mod pace;
mod read;
mod record;
mod user_index;

use super::options::Options;
use super::report::Report;

type Measure = fn(&Options, &mut Report);

pub use dashboard::be_the_crowd;
pub use elsewhere::be_elsewhere;

pub const ALL: [(&str, Measure); 8] = [
    ("end-to-end", end_to_end::measure),
    ("user-index", user_index::measure),
    ("daemons", daemons::measure),
    ("record", record::measure),
    ("ack", ack::measure),
    ("dashboard", dashboard::measure),
    ("backlog", backlog::measure),
    ("read", read::measure),
];
