//! The effect of dashboards on recording: the acknowledgements of a producer at 1,000 records a second, alone and
//! beside fifty dashboards. Each dashboard sends the requests of one view of the admin page, and again after the page's
//! pause. A second case leaves the pause out, which the page never does.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::pace::{Pace, latencies};
use crate::options::Options;
use crate::report::{Goal, Report};
use crate::support::{Asker, Cluster, Daemon, quantile, send_all};

const PACE: Pace = Pace { connections: 1, frame_records: 1, frames: 10_000 };
const DASHBOARDS: usize = 50;
/// The shortest of the page's pauses, between an answer and the next request.
const PAUSE: Duration = Duration::from_secs(3);
/// The admin page's requests, by view.
const PATHS: [&str; 6] = [
    "/api/v1/overview",
    "/api/v1/costs?days=30&group_by=model",
    "/api/v1/costs?days=90&group_by=provider",
    "/api/v1/users?sort=cost",
    "/api/v1/pipeline",
    "/api/v1/budgets",
];

pub fn measure(options: &Options, report: &mut Report) {
    let cluster = Cluster::start();
    let (port, listen) = Asker::free_address();
    let daemon = Daemon::start_with(&cluster, Daemon::program(), &[("TALLYD_HTTP_LISTEN", &listen)]);
    let batch: Vec<_> = crate::support::Calls::new(500, 9).take(100_000).collect();
    send_all(&daemon, &batch);
    daemon.wait_committed(batch.len());
    let token = Asker::token(&daemon, &cluster);
    let (mut alone, mut again, mut beside, mut at_once) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        let p99 = || quantile(&mut latencies(&daemon, PACE), 0.99);
        alone.push(p99());
        let answered = dashboards(port, &token, PAUSE, || beside.push(p99()));
        let more = dashboards(port, &token, Duration::ZERO, || at_once.push(p99()));
        again.push(p99());
        println!("round {round}: {answered} questions answered meanwhile, {more} without a pause");
    }
    daemon.stop();
    let noise: Vec<f64> = again.iter().zip(&alone).map(|(again, alone)| (again / alone).max(alone / again)).collect();
    report.add("ack p99 at 1,000 records a second, nobody asks", "ms", Goal::Shown, alone.clone());
    report.add("the same again ÷ before: the noise, either way", "×", Goal::Shown, noise);
    report.add_ratio("ack p99 beside 50 dashboards ÷ nobody asks", Goal::AtMost(1.5), &beside, &alone);
    report.add_ratio("beside 50 that ask again at once ÷ nobody asks", Goal::Shown, &at_once, &alone);
}

/// Keeps the dashboards open while `measure` runs. Returns the number of answered requests.
fn dashboards(port: u16, token: &str, pause: Duration, measure: impl FnOnce()) -> usize {
    let (ready, over, answered) = (&AtomicUsize::new(0), &AtomicBool::new(false), &AtomicUsize::new(0));
    let ask = |number: usize| async move {
        // The dashboards start spread over the pause, not at once.
        tokio::time::sleep(pause * number as u32 / DASHBOARDS as u32).await;
        let mut asker = Asker::with_token(port, token).await;
        asker.ask(PATHS[number % PATHS.len()]).await;
        ready.fetch_add(1, Ordering::Relaxed);
        while !over.load(Ordering::Relaxed) {
            tokio::time::sleep(pause).await;
            asker.ask(PATHS[number % PATHS.len()]).await;
            answered.fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(futures_util::future::join_all((0..DASHBOARDS).map(ask)));
        });
        while ready.load(Ordering::Relaxed) < DASHBOARDS {
            std::thread::sleep(Duration::from_millis(10));
        }
        let before = answered.load(Ordering::Relaxed);
        measure();
        let meanwhile = answered.load(Ordering::Relaxed) - before;
        over.store(true, Ordering::Relaxed);
        meanwhile
    })
}
