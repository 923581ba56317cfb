//! Whether a crowd of questions holds up recording: the acknowledgements of a producer at 1,000 records a second, alone and
//! beside 1,000 questions asked at once, again and again.
//!
//! The crowd is on this machine, and its thousand connections take their part of its two processors whoever is asked. So the
//! same crowd also asks a server that is not tallyd ([`super::elsewhere`]): what its questions do to acknowledgements beyond that is
//! tallyd's answering.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::elsewhere::Elsewhere;
use super::pace::{Pace, latencies};
use crate::options::Options;
use crate::report::{Goal, Report};
use crate::support::{Asker, Cluster, Daemon, quantile, send_all};

const PACE: Pace = Pace { connections: 1, frame_records: 1, frames: 10_000 };
const QUESTIONS: usize = 1_000;
/// What the admin page asks, view by view.
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
    let (_server, other_port) = Elsewhere::start(&lengths(port, &token));
    let (mut alone, mut again, mut beside, mut elsewhere) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        let p99 = || quantile(&mut latencies(&daemon, PACE), 0.99);
        alone.push(p99());
        let answered = crowd(port, &token, || beside.push(p99()));
        let other = crowd(other_port, &token, || elsewhere.push(p99()));
        again.push(p99());
        println!("round {round}: {answered} questions answered meanwhile, {other} elsewhere");
    }
    daemon.stop();
    let noise: Vec<f64> = again.iter().zip(&alone).map(|(again, alone)| (again / alone).max(alone / again)).collect();
    let widest = noise.iter().copied().fold(1.0, f64::max);
    report.add("ack p99 at 1,000 records a second, nobody asks", "ms", Goal::Shown, alone.clone());
    report.add("the same again ÷ before: the noise, either way", "×", Goal::Shown, noise);
    report.add_ratio("ack p99 beside 1,000 questions at once ÷ nobody asks", Goal::Shown, &beside, &alone);
    report.add_ratio("the same crowd at another server ÷ nobody asks", Goal::Shown, &elsewhere, &alone);
    let name = "ack p99 beside 1,000 questions ÷ beside as many at another server";
    report.add_ratio(name, Goal::AtMost(widest), &beside, &elsewhere);
}

/// How long each answer is.
fn lengths(port: u16, token: &str) -> Vec<(&'static str, usize)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut asker = Asker::with_token(port, token).await;
        let mut lengths = Vec::new();
        for path in PATHS {
            lengths.push((path, asker.ask(path).await));
        }
        lengths
    })
}

/// Keeps so many questions under way while `measure` runs. Returns how many were answered.
///
/// Whoever asks has processors of their own elsewhere. Here the crowd is a process that gets what all others leave
/// (`SCHED_IDLE`).
fn crowd(port: u16, token: &str, measure: impl FnOnce()) -> usize {
    let this = std::env::current_exe().expect("this program");
    let mut command = Command::new("chrt");
    command.args(["--idle", "0"]).arg(this).args([FLAG, &port.to_string(), token]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("chrt, of util-linux");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut line = || lines.next().expect("the crowd says it").expect("a line");
    assert_eq!(line(), READY);
    measure();
    drop(child.stdin.take());
    let answered = line().parse().expect("a number");
    assert!(child.wait().expect("its end").success());
    answered
}

/// How this program is told to be the crowd.
const FLAG: &str = "--crowd";
/// What the crowd says once each of it has had an answer.
const READY: &str = "ready";

/// Is the crowd, if this program was started for that.
pub fn be_the_crowd() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, flag, port, token] = arguments.as_slice() else { return };
    if flag != FLAG {
        return;
    }
    let port = port.parse().expect("a port");
    let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let told = Arc::clone(&over);
    std::thread::spawn(move || {
        // Until whoever started it has closed it.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        told.store(true, Ordering::Relaxed);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut askers = tokio::task::JoinSet::new();
        for number in 0..QUESTIONS {
            let path = PATHS[number % PATHS.len()];
            let (over, answered, token) = (Arc::clone(&over), Arc::clone(&answered), token.clone());
            askers.spawn(async move {
                let mut asker = Asker::with_token(port, &token).await;
                while !over.load(Ordering::Relaxed) {
                    asker.ask(path).await;
                    if answered.fetch_add(1, Ordering::Relaxed) + 1 == QUESTIONS {
                        println!("{READY}");
                    }
                }
            });
        }
        askers.join_all().await;
    });
    println!("{}", answered.load(Ordering::Relaxed));
    std::process::exit(0);
}
