//! Limits before the call: the cost of `Recorder::check()` for its caller, and how far spend passes a hard budget.
//!
//! The check is timed with 450 budgets of users and 450 of pairs of a team and a model used up, for calls that are
//! allowed and for calls that are refused.
//!
//! The overshoot is measured by a runaway loop: it checks each call and records it, at a fixed rate, until it is refused.
//! The latency is the time from the record of the call that used the budget up to the refusal; the calls in that time
//! are the overshoot. Each run has a budget and a team of its own.
//!
//! In the end the daemon has budgets of single users alone, and the mean time of an evaluation is read from its metrics.

use std::hint::{black_box, spin_loop};
use std::time::{Duration, Instant};

use tallyd_client::{CallScope, Record, Recorder};

use crate::options::Options;
use crate::report::{Goal, Report};
use crate::support::{Cluster, Daemon, quantile};

const CHECKS: usize = 100_000;
const SCOPES: usize = 450;
/// Budgets of single users whose evaluation is timed.
const USER_BUDGETS: [usize; 2] = [1_000, 10_000];
const EVALUATIONS: f64 = 20.0;
/// Calls a second of the runaway loop.
const RATES: [u32; 3] = [100, 1_000, 10_000];
/// Runs of each rate.
const RUNS: usize = 40;
/// The budget of a run lasts so long.
const LASTS: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(60);

pub fn measure(options: &Options, report: &mut Report) {
    let cluster = Cluster::start();
    let settings = [("TALLYD_DIMENSIONS_NAMES", "team"), ("TALLYD_DIMENSIONS_MAX_VALUES_PER_DAY", "1000")];
    let daemon = Daemon::start_with(&cluster, Daemon::program(), &settings);
    let recorder = Recorder::builder(daemon.endpoint()).app("limits").build();
    assert!(recorder.ready(PATIENCE), "the daemon answers");
    overshoot(&cluster, &recorder, report);
    checks(options, &cluster, &recorder, report);
    USER_BUDGETS.into_iter().for_each(|count| evaluation(&cluster, &daemon, &recorder, report, count));
    drop(recorder);
    daemon.stop();
}

/// Sets budgets of one USD a call, as `tallyd budgets set` does, and waits until they are evaluated.
fn set(cluster: &Cluster, scopes_and_amounts: &str, count: usize) {
    let note = "UPDATE tallyd_budget_evaluation SET changes = changes + 1, rests_until = to_timestamp(0)";
    cluster.sql(&format!("INSERT INTO api_budgets (scope, amount_usd) {scopes_and_amounts}; {note}"));
    wait(|| cluster.sql("SELECT count(*) FROM api_budget_states") == count.to_string());
}

fn wait(mut is_done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_done() {
        assert!(begun.elapsed() < PATIENCE, "the daemon does not get there");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn overshoot(cluster: &Cluster, recorder: &Recorder, report: &mut Report) {
    let calls = |rate: u32| (f64::from(rate) * LASTS.as_secs_f64()).round() as usize;
    let budgets: Vec<String> = RATES
        .into_iter()
        .flat_map(|rate| {
            (0..RUNS).map(move |run| format!("('{{\"tag:team\": \"{rate}-{run}\"}}'::jsonb, {})", calls(rate)))
        })
        .collect();
    set(cluster, &format!("VALUES {}", budgets.join(", ")), budgets.len());
    for rate in RATES {
        let (mut latencies, mut over) = (Vec::new(), Vec::new());
        for run in 0..RUNS {
            let (latency, passed) = runaway(recorder, &format!("{rate}-{run}"), rate, calls(rate));
            latencies.push(latency.as_secs_f64() * 1e3);
            over.push(passed as f64);
        }
        let name = |what: &str| format!("limits: {what}, {rate} calls a second");
        report.add(name("record to refusal p50"), "ms", Goal::AtMost(1_000.0), vec![quantile(&mut latencies, 0.5)]);
        report.add(name("record to refusal p99"), "ms", Goal::AtMost(1_000.0), vec![quantile(&mut latencies, 0.99)]);
        report.add(name("calls beyond the budget p50"), "", Goal::Shown, vec![quantile(&mut over, 0.5)]);
        report.add(name("calls beyond the budget p99"), "", Goal::Shown, vec![quantile(&mut over, 0.99)]);
    }
}

/// Checks and records calls until one is refused. Returns the time since the budget was used up, and the calls since then.
fn runaway(recorder: &Recorder, team: &str, rate: u32, budget: usize) -> (Duration, usize) {
    let tags = [("team", team)];
    let call = CallScope { provider: "acme", model: "m", tags: &tags, ..CallScope::default() };
    let (begun, mut made, mut used_up) = (Instant::now(), 0, None);
    while recorder.check(&call).is_allowed() {
        let record =
            Record { provider: "acme".into(), model: "m".into(), cost_usd: Some("1".into()), ..Record::default() };
        if recorder.record(record.tag("team", team.to_owned())) {
            made += 1;
        } else {
            std::thread::sleep(Duration::from_millis(1));
        }
        if made == budget && used_up.is_none() {
            used_up = Some(Instant::now());
        }
        let due = Duration::from_secs(1) * u32::try_from(made).unwrap_or(u32::MAX) / rate;
        assert!(due < PATIENCE, "the budget is never used up");
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
    }
    (used_up.map_or(Duration::ZERO, |at| at.elapsed()), made.saturating_sub(budget))
}

fn checks(options: &Options, cluster: &Cluster, recorder: &Recorder, report: &mut Report) {
    let before = RATES.len() * RUNS;
    let users = format!("SELECT jsonb_build_object('user', 'u-' || n), 0.5 FROM generate_series(1, {SCOPES}) AS n");
    let pairs = format!(
        "SELECT jsonb_build_object('tag:team', 'search', 'model', 'm-' || n), 0.5 FROM generate_series(1, {SCOPES}) AS n"
    );
    set(cluster, &format!("{users} UNION ALL {pairs}"), before + 2 * SCOPES);
    for n in 1..=SCOPES {
        let record = |model: String, user: String| Record {
            provider: "acme".into(),
            model: model.into(),
            user_id: user.into(),
            cost_usd: Some("1".into()),
            ..Record::default()
        };
        recorder.record(record(format!("m-{n}"), format!("u-{n}")).tag("team", "search"));
    }
    let (of_search, of_ads) = ([("team", "search"), ("customer", "c-1")], [("team", "ads"), ("customer", "c-1")]);
    let call = CallScope { provider: "acme", model: "m-7-20260101", user_id: "u", app: "web", ..CallScope::default() };
    let (refused, allowed) = (CallScope { tags: &of_search, ..call }, CallScope { tags: &of_ads, ..call });
    wait(|| !recorder.check(&refused).is_allowed());
    wait(|| {
        cluster.sql("SELECT count(*) FROM api_budget_states WHERE status = 'exceeded'")
            == (before + 2 * SCOPES).to_string()
    });
    for (name, call) in [("allowed", allowed), ("refused", refused)] {
        let (mut p50, mut p99) = (Vec::new(), Vec::new());
        for _ in 0..options.rounds {
            let clock = quantile(&mut time(|| ()), 0.5);
            let mut times = time(|| {
                black_box(recorder.check(black_box(&call)).is_allowed());
            });
            p50.push(quantile(&mut times, 0.5) - clock);
            p99.push(quantile(&mut times, 0.99) - clock);
        }
        let goal = if name == "allowed" { Goal::AtMost(200.0) } else { Goal::Shown };
        report.add(format!("`check()` p50, {name}, 1,020 scopes used up"), "ns", goal, p50);
        report.add(format!("`check()` p99, {name}, 1,020 scopes used up"), "ns", Goal::Shown, p99);
    }
}

/// The time of one evaluation of `count` budgets of single users, and of no other, while calls of these users are loaded.
fn evaluation(cluster: &Cluster, daemon: &Daemon, recorder: &Recorder, report: &mut Report, count: usize) {
    cluster.sql("DELETE FROM api_budgets");
    let users = format!("SELECT jsonb_build_object('user', 'e-' || n), 1000000 FROM generate_series(1, {count}) AS n");
    set(cluster, &users, count);
    let of = |part: &str| daemon.metric(&format!("tallyd_budgets_evaluation_seconds_{part}")).unwrap_or_default();
    let (sum, runs) = (of("sum"), of("count"));
    let mut n = 0;
    wait(|| {
        for _ in 0..100 {
            n = n % count + 1;
            recorder.record(Record { user_id: format!("e-{n}").into(), provider: "acme".into(), ..Record::default() });
        }
        of("count") >= runs + EVALUATIONS
    });
    let took = (of("sum") - sum) / (of("count") - runs) * 1e3;
    report.add(format!("limits: one evaluation of {count} budgets of users, mean"), "ms", Goal::Shown, vec![took]);
}

/// Nanoseconds of each call.
fn time(mut call: impl FnMut()) -> Vec<f64> {
    let mut times = Vec::with_capacity(CHECKS);
    for _ in 0..CHECKS {
        let begun = Instant::now();
        call();
        times.push(begun.elapsed().as_nanos() as f64);
        spin_loop();
    }
    times
}
