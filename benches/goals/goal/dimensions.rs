//! Loading with six dimensions in use, `app` and five tags, beside the same calls if the tags are stored alone. Calls
//! without tags are shown as well: PostgreSQL's reading of the tags' JSON takes most of the difference.

use std::time::{Duration, Instant};

use tallyd_client::Record;

use super::end_to_end::round;
use crate::options::Options;
use crate::report::{Goal, Report};
use crate::side::copy::Rows;
use crate::support::{Calls, Cluster, Daemon};

/// The tags, and the number of each one's values.
const TAGS: [(&str, usize); 5] = [("team", 10), ("customer", 100), ("feature", 20), ("environment", 3), ("region", 5)];
const NAMES: (&str, &str) = ("TALLYD_DIMENSIONS_NAMES", "team,customer,feature,environment,region");

pub fn measure(options: &Options, report: &mut Report) {
    let (plain, counted) = (Cluster::start(), Cluster::start());
    add(&counted);
    let users = options.users[0];
    let batch: Vec<Record> = Calls::new(users, 0).take(options.records).collect();
    let tags = |(index, record): (usize, &Record)| {
        TAGS.iter()
            .fold(record.clone(), |record, (name, values)| record.tag(*name, format!("{name}-{}", index % values)))
    };
    let tagged: Vec<Record> = batch.iter().enumerate().map(tags).collect();
    let (mut with, mut without, mut bare, mut copy) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut cpu_with, mut cpu_without) = (Vec::new(), Vec::new());
    for index in 1..=options.rounds {
        bare.push(round(&plain, &batch, &[]).rate);
        let round_without = round(&plain, &tagged, &[]);
        let round_with = round(&counted, &tagged, &[NAMES]);
        let psql = Rows::dump(&counted, tagged.len()).by_psql(&counted);
        println!(
            "round {index}: with {:.0}, without {:.0}, calls without tags {:.0}, `\\copy` {psql:.0} a second",
            round_with.rate,
            round_without.rate,
            bare[index - 1],
        );
        with.push(round_with.rate);
        without.push(round_without.rate);
        cpu_with.push(round_with.cpu_us);
        cpu_without.push(round_without.cpu_us);
        copy.push(psql);
    }
    let name = |what: &str| format!("six dimensions: {what}, {users} users");
    report.add_ratio(name("end to end with them ÷ the same calls without them"), Goal::AtLeast(0.9), &with, &without);
    report.add_ratio(name("end to end with them ÷ `\\copy` BINARY of the same rows"), Goal::Shown, &with, &copy);
    report.add_ratio(name("end to end with them ÷ calls without tags"), Goal::Shown, &with, &bare);
    report.add(name("daemon CPU a record with them"), "µs", Goal::Shown, cpu_with);
    report.add(name("daemon CPU a record without them"), "µs", Goal::Shown, cpu_without);
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
