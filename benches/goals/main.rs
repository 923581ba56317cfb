//! tallyd's goals for speed and size: each figure beside its goal and beside the alternatives.
//!
//! Every comparison measures its sides in turn, within one run, on one private PostgreSQL cluster, at least five times;
//! a figure is the median of its rounds. The clock of a round of loading runs from the first frame that a client sends
//! until the last record is committed, with the WAL synced, every record priced and all rollups updated. A round ends with
//! `tallyd reconcile`, and a run whose rollups are not the sum of the call log fails.
//!
//! | module | content |
//! |---|---|
//! | `options` | the command line |
//! | `goal` | one file a goal, or a few that are measured together |
//! | `side` | the alternatives to tallyd: COPY, calls one by one, unnest, rsyslog |
//! | `report` | figures, the table, `report.json` |
//! | `plot` | the picture |
//!
//! `cargo bench --bench goals -- --help` lists the flags.

#[path = "../support/mod.rs"]
mod support;

mod goal;
mod options;
mod plot;
mod report;
mod side;

use options::Options;
use report::Report;

fn main() {
    let options = Options::from_arguments();
    let mut report = Report::new(&options);
    println!("{}\n", report.machine());
    for (name, measure) in goal::ALL {
        if options.wants(name) {
            println!("== {name}");
            measure(&options, &mut report);
            report.write(&options);
            plot::write(&options, &report);
            println!();
        }
    }
    print!("{}", report.table());
    println!("\nwritten to {}", options.json.display());
}
