//! Budgets: their states, and who gets an alert how often, across restarts.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tallyd_client::{BudgetExceeded, CallScope, Endpoint, Record, Recorder};
use tallyd_protocol::{ClientMessage, ServerMessage, frame, message};

use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;
use crate::support::{PATIENCE, until};

/// A webhook that fails a number of times before it accepts an alert.
struct Webhook {
    url: String,
    taken: Arc<Mutex<Vec<String>>>,
}

impl Webhook {
    fn failing(mut failures: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/services/T0/B0/hidden", listener.local_addr().unwrap());
        let taken = Arc::new(Mutex::new(Vec::new()));
        let texts = Arc::clone(&taken);
        // The thread ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut line, mut bytes) = (String::new(), 0);
                while reader.read_line(&mut line).unwrap_or(0) > 2 {
                    if let Some(length) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        bytes = length.trim().parse().unwrap();
                    }
                    line.clear();
                }
                let mut body = vec![0; bytes];
                reader.read_exact(&mut body).unwrap();
                let status = if failures > 0 { "500 Oops" } else { "200 OK" };
                if failures == 0 {
                    let body: Value = serde_json::from_slice(&body).unwrap();
                    texts.lock().unwrap().push(body["text"].as_str().unwrap().to_owned());
                }
                failures = failures.saturating_sub(1);
                // The daemon may have closed the connection.
                let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            }
        });
        Self { url, taken }
    }

    fn texts(&self) -> Vec<String> {
        self.taken.lock().unwrap().clone()
    }
}

fn daemon(postgres: &Postgres, webhook: &Webhook) -> Daemon {
    Daemon::on(&postgres.url())
        .with("TALLYD_ALERTS_INTERVAL_MS", "30")
        .with("TALLYD_ALERTS_RETRY_MIN_MS", "20")
        .with("TALLYD_ALERTS_WEBHOOK_URL", &webhook.url)
}

fn set(daemon: &Daemon, arguments: &[&str]) {
    let output = daemon.run(&[&["budgets", "set"], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn spend(daemon: &Daemon, usd: &str) {
    let call = format!(r#"{{"provider":"rentcast","user_id":"u1","app":"web","cost_usd":"{usd}"}}"#);
    assert_eq!(daemon.lines(&call)[0]["ok"], true);
}

fn states(daemon: &Daemon) -> Vec<Value> {
    serde_json::from_slice(&daemon.run(&["budgets", "list", "--json"]).stdout).unwrap()
}

#[track_caller]
fn until_states(daemon: &Daemon, expected: &[(&str, &str)]) {
    until("the budgets stand so", || {
        let states = states(daemon);
        let text = |state: &Value, key: &str| state[key].as_str().unwrap().to_owned();
        let found: Vec<_> = states.iter().map(|state| (text(state, "spent_usd"), text(state, "status"))).collect();
        let is = found.iter().map(|(spent, status)| (spent.as_str(), status.as_str())).eq(expected.iter().copied());
        if is { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

#[test]
fn an_alert_is_delivered_once_though_the_webhook_fails_first_and_daemons_restart() {
    let postgres = Postgres::start();
    let webhook = Webhook::failing(3);
    let (mut first, second) = (daemon(&postgres, &webhook).start(), daemon(&postgres, &webhook).start());
    postgres.until("SELECT to_regclass('api_alerts') IS NOT NULL", "t");
    set(&first, &["10"]);
    set(&first, &["100", "--period", "month", "--for", "user=u1", "--limit", "soft"]);
    set(&first, &["1", "--for", "app=web"]);
    set(&first, &["1", "--for", "model=claude-opus-4-5"]);
    spend(&first, "8.5");
    until_states(&first, &[("8.5", "warning"), ("8.5", "normal"), ("8.5", "exceeded"), ("0", "normal")]);
    until("both alerts have arrived", || {
        if webhook.texts().len() == 2 { Ok(()) } else { Err(format!("{:?}", webhook.texts())) }
    });
    assert!(postgres.psql("SELECT max(attempts) FROM api_alerts").parse::<i32>().unwrap() >= 3);

    first.kill();
    first.up();
    spend(&second, "2");
    until_states(&first, &[("10.5", "exceeded"), ("10.5", "normal"), ("10.5", "exceeded"), ("0", "normal")]);
    until("the third has arrived", || {
        if webhook.texts().len() >= 3 { Ok(()) } else { Err(format!("{:?}", webhook.texts())) }
    });
    // In each of these rounds both daemons could repeat the alerts.
    let rounds = "SELECT evaluated_at > now() - interval '1 second' FROM tallyd_budget_evaluation";
    assert_eq!(postgres.psql(rounds), "t");
    for _ in 0..20 {
        states(&first);
    }
    let mut texts = webhook.texts();
    texts.sort();
    assert_eq!(texts.len(), 3, "{texts:?}");
    assert!(texts[2].starts_with("tallyd: daily budget (app \"web\") 850 % used: 8.50 of 1.00 USD"), "{texts:?}");
    assert!(
        texts[2].ends_with(", alert at 100 %; hard budget: clients refuse its calls; top: \"rentcast\" 8.50"),
        "{texts:?}"
    );
    assert!(texts[0].starts_with("tallyd: daily budget (all spend) 105 % used: 10.50 of 10.00 USD"), "{texts:?}");
    let top = "SELECT DISTINCT details #> '{top,0}' FROM api_alerts WHERE details -> 'scope' ? 'app'";
    assert_eq!(postgres.psql(top), r#"{"name": "rentcast", "cost_usd": "8.5"}"#);
    // Each threshold has a row, also those that needed no message any more.
    let percents = "SELECT string_agg(details ->> 'percent', ',' ORDER BY (details ->> 'percent')::int) FROM api_alerts \
        WHERE details -> 'scope' = '{}'";
    assert_eq!(postgres.psql(percents), "50,80,100");
    assert!(!first.log().contains("hidden"), "the webhook's address is a secret");
}

fn recorder(daemon: &Daemon) -> Recorder {
    let recorder = Recorder::builder(Endpoint::unix(daemon.socket())).build();
    assert!(recorder.ready(PATIENCE), "{:?}", recorder.stats());
    recorder
}

/// Whether a check refuses the call.
fn refuses(recorder: &Recorder, call: &CallScope<'_>) -> bool {
    !recorder.check(call).is_allowed()
}

/// Waits until a check refuses those of the calls that are expected.
#[track_caller]
fn until_held_back(recorder: &Recorder, calls: &[CallScope<'_>], expected: &[bool]) {
    until("the client has heard it", || {
        let found: Vec<bool> = calls.iter().map(|call| refuses(recorder, call)).collect();
        if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

/// Says hello, and reads the welcome. [`heard`] reads the daemon's later messages.
fn greeted(daemon: &Daemon) -> std::os::unix::net::UnixStream {
    let (mut stream, mut out) = (daemon.connect(), Vec::new());
    ClientMessage::Hello(crate::support::hello("of before")).write_frame(&mut out);
    stream.write_all(&out).unwrap();
    assert!(matches!(heard(&mut stream), ServerMessage::Welcome(_)));
    stream
}

fn heard(stream: &mut std::os::unix::net::UnixStream) -> ServerMessage {
    let mut prefix = [0; frame::PREFIX_BYTES];
    stream.read_exact(&mut prefix).unwrap();
    let mut body = vec![0; frame::body_bytes(prefix, 8 << 20).unwrap()];
    stream.read_exact(&mut body).unwrap();
    ServerMessage::read(&body).unwrap()
}

/// Budgets of every scope. An idle client hears when one is used up and when it no longer is, and a new client hears it
/// in the welcome. A client that did not ask for scopes hears nothing besides acknowledgements.
fn scopes_reach_clients_that_send_nothing(daemon: &Daemon) {
    let idle = recorder(daemon);
    let mut of_before = greeted(daemon);
    let scope = CallScope::default();
    let calls = [
        CallScope { provider: "RentCast", ..scope },
        CallScope { model: "claude-opus-4-5-20251101", ..scope },
        CallScope { user_id: "u1", ..scope },
        CallScope { app: "web", ..scope },
        CallScope { provider: "claude", model: "claude-opus-4", user_id: "u2", app: "cron", ..scope },
    ];
    until_held_back(&idle, &calls, &[false; 5]);
    let scopes = ["provider=rentcast", "model=claude-opus-4-5", "user=u1", "app=web"];
    let set_all = |usd: &str| scopes.iter().for_each(|scope| set(daemon, &[usd, "--for", scope]));
    set_all("0.5");
    spend(daemon, "1");
    let of_model = r#"{"provider":"claude","model":"claude-opus-4-5-20251101","cost_usd":"1"}"#;
    assert_eq!(daemon.lines(of_model)[0]["ok"], true);
    let used_up = [true, true, true, true, false];
    until_held_back(&idle, &calls, &used_up);
    let fresh = recorder(daemon);
    assert_eq!(calls.map(|call| refuses(&fresh, &call)), used_up, "the welcome says it");
    assert!(!refuses(&fresh, &CallScope::default()), "that is a call of no budget");
    let of_others = r#"{"provider":"claude","model":"claude-opus-4-1","user_id":"u2"}"#;
    let answers = daemon.lines(&format!("{of_model}\n{of_others}"));
    assert_eq!((&answers[0]["should_throttle"], &answers[1]["should_throttle"]), (&true.into(), &Value::Null));
    set_all("1000000");
    until_held_back(&idle, &calls, &[false; 5]);
    set(daemon, &["0.5"]);
    until_held_back(&idle, &calls, &[true; 5]);
    assert!(refuses(&recorder(daemon), &CallScope::default()));
    set(daemon, &["1000000"]);
    until_held_back(&idle, &calls, &[false; 5]);
    assert_eq!((idle.stats().recorded, idle.stats().reconnects), (0, 0), "it has sent nothing");
    let mut out = Vec::new();
    message::write_records_frame(&mut out, 1, &[]);
    of_before.write_all(&out).unwrap();
    assert!(matches!(heard(&mut of_before), ServerMessage::Ack(_)), "it has not asked for more");
}

#[test]
fn acknowledgements_ask_to_hold_back_once_a_budget_is_used_up() {
    let postgres = Postgres::start();
    let webhook = Webhook::failing(0);
    let daemon = daemon(&postgres, &webhook).start();
    postgres.until("SELECT to_regclass('api_alerts') IS NOT NULL", "t");
    let mut session = daemon.session("app");
    let mut seq = 0;
    let mut budget = || {
        seq += 1;
        session.send(seq, &[Record::rentcast("/avm")]).unwrap();
        session.recv_ack().unwrap().budget
    };
    assert_eq!(budget(), None, "there is no budget");
    set(&daemon, &["0.3"]);
    let told = until("acknowledgements tell the status", || match budget() {
        Some(state) if state.should_throttle => Ok(state.status),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(told, "exceeded");
    set(&daemon, &["1000000"]);
    let told = until("a larger budget lets them go on", || match budget() {
        Some(state) if !state.should_throttle => Ok(state.status),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(told, "normal");
    scopes_reach_clients_that_send_nothing(&daemon);
}

/// Two teams: the budget of one is used up. With the defaults of a daemon, but for its shortest interval: hard budgets
/// do not wait for it.
#[test]
fn a_teams_calls_are_refused_before_they_are_made_and_another_teams_are_not() {
    let postgres = Postgres::start();
    let mut daemon = Daemon::on(&postgres.url())
        .with("TALLYD_DIMENSIONS_NAMES", "team")
        .with("TALLYD_ALERTS_INTERVAL_MS", "3600000")
        .start();
    postgres.until("SELECT count(*) FROM tallyd_dimensions WHERE counted_from = '-infinity'", "2");
    for arguments in [
        &["1", "--for", "tag:team=ads"][..],
        &["1", "--for", "tag:team=search", "--for", "model=gpt-5"],
        &["10", "--for", "tag:team=search", "--for", "provider=openai"],
        &["0.5", "--for", "tag:team=search", "--limit", "soft"],
        &["9", "--for", "user=u1", "--for", "provider=openai"],
        &["9", "--for", "model=gpt-5", "--for", "provider=openai", "--period", "month"],
        &["9", "--for", "model=gpt-5", "--for", "app=web", "--period", "week"],
        &["9", "--for", "user=u1", "--for", "provider=claude"],
    ] {
        set(&daemon, arguments);
    }
    let builder = || Recorder::builder(Endpoint::unix(daemon.socket())).app("web").quiet();
    let (recorder, strict) = (builder().build(), builder().deny_unknown(true).build());
    assert!(recorder.ready(PATIENCE) && strict.ready(PATIENCE));
    let call = |team: &'static str, usd: &'static str| {
        let record = Record {
            provider: "openai".into(),
            model: "gpt-5-2026-08-07".into(),
            user_id: "u1".into(),
            cost_usd: Some(usd.into()),
            ..Record::default()
        };
        assert!(recorder.record(record.tag("team", team)));
    };
    let scope = CallScope { provider: "openai", model: "gpt-5-2026-08-07", ..CallScope::default() };
    let (ads, search) = ([("team", "ads")], [("team", "search")]);
    let (of_ads, of_search) = (CallScope { tags: &ads, ..scope }, CallScope { tags: &search, ..scope });
    call("ads", "1.25");
    call("search", "0.875");
    until_held_back(&recorder, &[of_ads, of_search, scope], &[true, false, false]);
    let spends = "SELECT string_agg(scope::text || ' ' || trim_scale(spent_usd), '; ' ORDER BY id) FROM api_budgets \
        JOIN api_budget_states ON budget_id = id WHERE amount_usd = 9";
    let expected = "{\"user\": \"u1\", \"provider\": \"openai\"} 2.125; {\"model\": \"gpt-5\", \"provider\": \"openai\"} 2.125; \
        {\"app\": \"web\", \"model\": \"gpt-5\"} 2.125; {\"user\": \"u1\", \"provider\": \"claude\"} 0";
    postgres.until(spends, expected);
    let error = recorder.check(&of_ads).into_result().unwrap_err();
    assert_eq!(error.to_string(), "the budget of tag team \"ads\" is used up");
    until("the remaining amount is known", || match recorder.check(&of_search).remaining_usd() {
        Some("0.125") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let estimated = |estimate| recorder.check(&CallScope { estimate, ..of_search });
    assert!(estimated("0.125").is_allowed());
    let error = estimated("0.126").into_result().unwrap_err();
    assert_eq!(
        error.to_string(),
        "the budget of model \"gpt-5\" and tag team \"search\" has 0.125 USD left, and the call may cost 0.126 USD"
    );
    // The last state holds while the daemon is away; one that was never told is unknown.
    daemon.kill();
    until("the daemon is missed", || if recorder.stats().connected { Err("it is there".into()) } else { Ok(()) });
    assert!(refuses(&recorder, &of_ads) && !refuses(&strict, &of_search));
    let builder = || Recorder::builder(Endpoint::unix(daemon.socket())).quiet();
    assert!(builder().build().check(&of_ads).is_allowed(), "calls are allowed by default");
    let unknown = builder().deny_unknown(true).build();
    assert_eq!(unknown.check(&of_search).into_result(), Err(BudgetExceeded::Unknown));
    // The next day: yesterday's spend does not count.
    let moved = "SET session_replication_role = replica; UPDATE daily_dimension_costs SET day = day - 1; \
        UPDATE api_budget_states SET period_start = period_start - 1, period_end = period_end - 1";
    postgres.psql(moved);
    daemon.up();
    until_held_back(&recorder, &[of_ads, of_search], &[false, false]);
    until_held_back(&unknown, &[of_search], &[false]);
}

#[test]
fn unusual_spend_is_told_once_a_day_and_a_new_user_is_not_unusual() {
    let postgres = Postgres::start();
    let webhook = Webhook::failing(0);
    // With the default factor and least amount, "large" and "small" would cause alerts, too.
    let daemon = daemon(&postgres, &webhook)
        .with("TALLYD_ALERTS_UNUSUAL_FACTOR", "10")
        .with("TALLYD_ALERTS_UNUSUAL_MIN_USD", "30")
        .start();
    postgres.until("SELECT to_regclass('api_alerts') IS NOT NULL", "t");
    for (user, usual, today) in [("large", 20, 100), ("small", 1, 20), ("steady", 2, 2), ("wild", 2, 40)] {
        postgres.psql(&format!(
            "SELECT increment_daily_cost('rentcast', user_id => '{user}', cost_usd => {usual} + 0.01 * d, \
             occurred_at => now() - interval '1 day' * d) FROM generate_series(1, 20) d; \
             SELECT increment_daily_cost('rentcast', user_id => '{user}', cost_usd => {today}); \
             SELECT increment_daily_cost('rentcast', user_id => 'new', cost_usd => 40)"
        ));
    }
    until("it is told", || if webhook.texts().is_empty() { Err("nothing".into()) } else { Ok(()) });
    postgres.psql("SELECT increment_daily_cost('rentcast', user_id => 'wild', cost_usd => 40)");
    set(&daemon, &["0.01", "--alert", "100"]);
    until("a later alert has arrived", || if webhook.texts().len() > 1 { Ok(()) } else { Err("one".into()) });
    // More than the six rounds of 30 milliseconds after which unusual spend is looked for again.
    let later = postgres.psql("SELECT clock_timestamp() + interval '1 second'");
    postgres.until(&format!("SELECT evaluated_at > '{later}' FROM tallyd_budget_evaluation"), "t");
    let texts = webhook.texts();
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(
        texts[0].starts_with("tallyd: unusual spend of the user \"wild\": 40.00 USD today, usually up to 2.1"),
        "{texts:?}"
    );
}
