use std::time::{Duration, Instant};

use serde_json::json;

use super::super::sample::Counters;
use super::super::view::Action;
use super::*;

fn sample(at: Instant, acked: f64, committed: f64) -> Sample {
    let status = json!({
        "version": "0.1.0", "uptime_seconds": 11_520, "pid": 4711, "data_dir": "/d", "socket": "/d/tallyd.sock",
        "health": {"status": "ok", "ingest": {"status": "ok"}, "wal": {"status": "ok"}, "flusher": {"status": "ok"}},
        "wal": {"unflushed_records": 1_234, "oldest_unflushed_seconds": 0.84, "bytes": 65_536, "segments": 2,
            "durable_key": 9, "channel_bytes": 0, "damaged": false},
        "database": {"url": "postgresql://db/app", "connected": true, "committed_records": 98_765, "committed_since_start": 1,
            "lanes": [{"committed_key": 1, "hold": false, "trouble": null}, {"committed_key": 2, "hold": false, "trouble": null}]},
    });
    let model = |name: &str, calls: i64, tokens: i64, cost: &str, unpriced: i64| {
        json!({"provider": "claude", "model": name, "calls": calls, "errors": 0, "input_tokens": tokens,
            "output_tokens": 5_200, "cost_usd": cost, "unpriced_calls": unpriced})
    };
    let today = json!({
        "day": "2026-11-23", "time_zone": "UTC", "calls": 1_607, "cost_usd": "12.345678",
        "models": [model("claude-sonnet-4-5", 1_200, 1_250_000, "12.3", 0), model("claude-opus-4-5", 7, 20_400, "0.045678", 0),
            model("someones-model", 400, 12, "0", 400)],
        "budgets": [{"name": "all / month", "amount_usd": "3200", "used_percent": "12.5", "status": "normal"},
            {"name": "model claude-opus-4-5 / day", "amount_usd": "0.05", "used_percent": "91.35", "status": "warning"}],
    });
    let counters = Counters {
        acked,
        committed,
        wal_max_bytes: 8_589_934_592.0,
        commits: vec![(0.001, acked / 20.0), (0.002, acked / 10.0), (f64::INFINITY, acked / 10.0)],
        ..Counters::default()
    };
    let (status, today) = (serde_json::from_value(status).unwrap(), serde_json::from_value(today).unwrap());
    Sample { at, status, today: Some(today), counters }
}

fn view() -> View {
    // Only the time between two samples matters, not the clock.
    let (began, mut view) = (Instant::now(), View::default());
    for (second, (acked, committed)) in
        [(0.0, 0.0), (100.0, 50.0), (300.0, 200.0), (1_500.0, 600.0)].into_iter().enumerate()
    {
        view.hear(Ok(sample(began + Duration::from_secs(second as u64), acked, committed)));
    }
    view
}

#[test]
fn a_terminal_of_eighty_columns_has_everything() {
    let expected = "\
tallyd 0.1.0  ok  up 3 h 12 min  process 4711
┌ Records a second ────────────────────┐┌ Write-ahead log ─────────────────────┐
│acked         1,200  ▁▂█              ││not loaded  1,234  oldest 0.8 s       │
│committed       400  ▁▃█              ││size        64.0 KiB of 8.0 GiB  █··· │
│refused           0                   ││segments    2  2 lanes                │
│disk sync  p50 1.0 ms  p99 2.0 ms     ││committed   98,765  dead letters 0    │
└──────────────────────────────────────┘└──────────────────────────────────────┘
┌ 2026-11-23 (UTC): 12.35 USD, 1,607 calls ────────────────────────────────────┐
│model                               calls         in        out          USD ▼│
│claude-sonnet-4-5                   1,200      1.2 M      5,200          12.30│
│claude-opus-4-5                         7     20.4 k      5,200           0.05│
│someones-model                        400         12      5,200       unpriced│
│                                                                              │
└──────────────────────────────────────────────────────────────────────────────┘
budget model claude-opus-4-5 / day: 91.35 % of 0.05 USD
budget all / month: 12.5 % of 3,200.00 USD
q quit  p pause  Tab sort  ? help
";
    assert_eq!(text(&view(), 80, 17), expected);
}

#[test]
fn a_narrow_one_leaves_columns_out_and_stacks_the_panels() {
    let drawn = text(&view(), 40, 24);
    assert!(drawn.lines().all(|line| line.chars().count() <= 40), "{drawn}");
    assert!(drawn.contains("model") && drawn.contains("12.30") && !drawn.contains("1.2 M"), "{drawn}");
    let (rates, log) = (drawn.find("Records a second"), drawn.find("Write-ahead log"));
    assert!(rates < log, "{drawn}");
    // Any size can be drawn.
    for (width, height) in [(1, 1), (20, 3), (300, 100)] {
        text(&view(), width, height);
    }
}

#[test]
fn a_daemon_that_is_gone_or_ill_is_told() {
    let mut view = view();
    view.hear(Err("no daemon is running on the data folder /d".into()));
    let drawn = text(&view, 80, 24);
    assert!(
        drawn.contains("GONE") && drawn.contains("no daemon is running on the data folder /d (looking again)"),
        "{drawn}"
    );
    let mut ill = sample(Instant::now(), 0.0, 0.0);
    ill.status.health.status = Health::Failing;
    ill.status.health.flusher =
        serde_json::from_value(json!({"status": "failing", "message": "the table is of another type"})).unwrap();
    ill.status.database.lanes[0].hold = true;
    ill.today = None;
    view.hear(Ok(ill));
    let drawn = text(&view, 80, 24);
    for part in ["FAILING", "the table is of another type", "1 of 2 lanes HOLD", "the database does not answer"] {
        assert!(drawn.contains(part), "{part}: {drawn}");
    }
}

#[test]
fn keys_change_the_picture() {
    let mut view = view();
    view.act(Action::SortNext);
    let drawn = text(&view, 80, 24);
    let place = |name: &str| drawn.find(name).unwrap();
    assert!(drawn.contains("calls ▼") && place("someones-model") < place("claude-opus-4-5"), "{drawn}");
    view.act(Action::Down);
    assert!(!text(&view, 80, 24).contains("claude-sonnet-4-5"));
    view.act(Action::Help);
    view.act(Action::Pause);
    let drawn = text(&view, 80, 24);
    assert!(drawn.contains("sort by another column") && drawn.contains("PAUSED"), "{drawn}");
}
