//! Loading with six dimensions in use, `app` and five tags, beside the same calls without tags.

use std::time::{Duration, Instant};

use tallyd_client::Record;

use super::end_to_end::round;
use crate::options::Options;
use crate::report::{Goal, Report};
use crate::support::{Calls, Cluster, Daemon};

/// The tags, and the number of each one's values.
const TAGS: [(&str, usize); 5] = [("team", 10), ("customer", 100), ("feature", 20), ("environment", 3), ("region", 5)];
const NAMES: (&str, &str) = ("TALLYD_DIMENSIONS_NAMES", "team,customer,feature,environment,region");

pub fn measure(options: &Options, report: &mut Report) {
    let (plain, tagged) = (Cluster::start(), Cluster::start());
    add(&tagged);
    let users = options.users[0];
    let batch: Vec<Record> = Calls::new(users, 0).take(options.records).collect();
    let tags = |(index, record): (usize, &Record)| {
        TAGS.iter()
            .fold(record.clone(), |record, (name, values)| record.tag(*name, format!("{name}-{}", index % values)))
    };
    let with_tags: Vec<Record> = batch.iter().enumerate().map(tags).collect();
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for index in 1..=options.rounds {
        without.push(round(&plain, &batch, &[]).rate);
        with.push(round(&tagged, &with_tags, &[NAMES]).rate);
        println!("round {index}: with {:.0}, without {:.0} a second", with[index - 1], without[index - 1]);
    }
    let name = format!("end to end with 6 dimensions in use ÷ without, {users} users");
    report.add_ratio(name, Goal::AtLeast(0.9), &with, &without);
}

/// Waits until the daemon counts the dimensions, whose call log is empty.
fn add(cluster: &Cluster) {
    let daemon = Daemon::start_with(cluster, cluster.program(), &[NAMES]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while cluster.sql("SELECT count(*) FROM tallyd_dimensions WHERE counted_from = '-infinity'") != "6" {
        assert!(Instant::now() < deadline, "the daemon did not add the dimensions");
        std::thread::sleep(Duration::from_millis(50));
    }
    daemon.stop();
}
