//! Prices that change while records arrive: every daemon applies and keeps them, and each change is audited.
//! what.

use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::postgres::{Postgres, Stop};
use crate::support::until;

const CALL: &str = r#"{"provider":"claude","model":"claude-opus-4-5","input_tokens":1000000,"service_tier":"batch"}"#;

fn add(postgres: &Postgres, from: &str, usd: &str) {
    postgres.psql(&format!(
        "INSERT INTO api_prices (provider, model, service_tier, effective_from, rates, origin) VALUES ('claude', \
         'claude-opus-4-5', 'batch', '{from}', '{{\"per_million_tokens\": {{\"input\": \"{usd}\"}}}}', 'manual')"
    ));
}

fn cost(daemon: &Daemon) -> Value {
    daemon.lines(CALL)[0]["cost_usd"].clone()
}

#[track_caller]
fn until_cost(daemon: &Daemon, usd: &str) {
    until("the new price is applied", || {
        let found = cost(daemon);
        if found == usd { Ok(()) } else { Err(found.to_string()) }
    });
}

#[track_caller]
fn until_up_to_date(daemon: &Daemon) {
    until("prices are watched", || {
        if daemon.log().contains("prices are up to date") { Ok(()) } else { Err(daemon.log()) }
    });
}

#[test]
fn a_price_that_is_added_is_applied_by_every_daemon_and_outlives_a_restart_without_the_database() {
    let mut postgres = Postgres::start();
    // The interval is far longer than the test, so that only the notification can bring the change.
    let start = || Daemon::on(&postgres.url()).with("TALLYD_PRICING_REFRESH_MS", "3600000").start();
    let (mut first, second) = (start(), start());
    until_up_to_date(&first);
    until_up_to_date(&second);
    assert_eq!(cost(&first), "2.5");
    add(&postgres, "2015-01-01", "0.7");
    until_cost(&first, "0.7");
    until_cost(&second, "0.7");
    assert_eq!(first.terminate().code(), Some(0));
    postgres.down(Stop::Fast);
    first.up();
    assert_eq!(cost(&first), "0.7", "priced before the database is there");
    postgres.up();
    postgres.until("SELECT count(*) > 3 FROM api_usage_log", "t");
    let source = "SELECT DISTINCT cost_source || price_id FROM api_usage_log WHERE cost_usd = 0.7";
    assert_eq!(postgres.psql(source), "catalog1000000");
    first.until_status("everything is loaded", |status| status["wal"]["unflushed_records"] == 0);
    first.assert_reconciled();
}

#[test]
fn a_change_is_found_by_looking_where_notifications_do_not_come_through() {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).with("TALLYD_PRICING_REFRESH_MS", "50").start();
    until_up_to_date(&daemon);
    // The trigger no longer notifies, as behind a pooler that passes no notifications; the change is still noted.
    postgres.psql(
        "CREATE OR REPLACE FUNCTION tallyd_price_changed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN \
         INSERT INTO public.api_price_changes (actor, action, price_id) VALUES ('t', 'insert', NEW.id); RETURN NULL; END $$",
    );
    add(&postgres, "2015-01-01", "0.7");
    until_cost(&daemon, "0.7");
    postgres.psql("UPDATE api_prices SET withdrawn_at = now() WHERE id = 1000000");
    until_cost(&daemon, "2.5");
}

#[test]
fn a_change_at_an_instant_prices_each_side_whatever_the_order_of_arrival() {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).start();
    until_up_to_date(&daemon);
    add(&postgres, "2026-02-01T00:00:00Z", "0.4");
    add(&postgres, "2026-03-01T00:00:00Z", "1");
    until_cost(&daemon, "1");
    let call = |at: &str| format!("{},\"occurred_at\":\"{at}\"}}\n", CALL.trim_end_matches('}'));
    let sides = [
        ("2026-03-01T00:00:00Z", "1"),
        ("2026-01-31T23:59:59.999999Z", "2.5"),
        ("2026-02-28T23:59:59.999999Z", "0.4"),
        ("2026-02-01T00:00:00Z", "0.4"),
    ];
    let mut order: Vec<usize> = (0..sides.len()).collect();
    for _ in 0..4 {
        order.rotate_left(1);
        let lines: String = order.iter().map(|side| call(sides[*side].0)).collect();
        let answers = daemon.lines(&lines);
        for (answer, side) in answers.iter().zip(&order) {
            assert_eq!(answer["cost_usd"], sides[*side].1, "{}", sides[*side].0);
        }
    }
    rates_that_are_not_named_stay_and_a_first_price_waits_for_its_instant(&postgres, &daemon);
}

fn rates_that_are_not_named_stay_and_a_first_price_waits_for_its_instant(postgres: &Postgres, daemon: &Daemon) {
    let call = |model: &str, rest: &str| {
        let line = format!("{{\"provider\":\"claude\",\"model\":\"{model}\",{rest}}}\n");
        daemon.lines(&line)[0]["cost_usd"].clone()
    };
    let cached = r#""input_tokens":1000000,"cache_read_tokens":1000000,"extra_units":{"web_search":"1"}"#;
    assert_eq!(call("claude-sonnet-5", cached), "2.21");
    assert_eq!(call("quite-new", r#""input_tokens":1000000"#), Value::Null);
    postgres.until("SELECT count(*) FROM api_usage_log WHERE model IN ('claude-sonnet-5', 'quite-new')", "2");
    let set = |words: &[&str]| {
        let done = daemon.run(&[&["prices", "set", "claude"], words, &["--by", "ada", "--json"]].concat());
        assert!(done.status.success(), "{done:?}");
        serde_json::from_slice::<Value>(&done.stdout).unwrap()
    };
    let sonnet = |more: &[&str]| {
        set(&[&["claude-sonnet-5", "--from", "now", "--rate", "input=1.80", "--rate", "output=9"], more].concat())
    };
    let first = |from: &str| set(&["quite-new", "--from", from, "--rate", "input=3"]);
    let future = first("2099-01-01");
    assert_eq!((&future["priced_before"], &future["recent_calls"]), (&false.into(), &1.into()), "{future:#}");
    // The dry run shows the rates that would be lost, and the number of calls that use them.
    let dry = sonnet(&["--replace", "--dry-run"]);
    let lost = dry["lost"].as_array().unwrap();
    assert_eq!(lost[0], serde_json::json!({"rate": "cache_read", "calls": 1}), "{dry:#}");
    assert!(lost.contains(&serde_json::json!({"rate": "web_search", "calls": 1})), "{dry:#}");
    assert_eq!(dry["without_rate"].as_array().unwrap().len(), 2, "{dry:#}");
    let done = sonnet(&[]);
    assert_eq!(
        (&done["lost"], &done["recent_calls"], &done["priced_before"]),
        (&serde_json::json!([]), &1.into(), &true.into())
    );
    assert_eq!(done["kept"], serde_json::json!(["cache_read", "cache_write_5m", "cache_write_1h", "web_search"]));
    until("the named rates are applied", || {
        let found = call("claude-sonnet-5", cached);
        // 1.8 + 0.2 of the cache + 0.01 of the search: the rates that were not named.
        if found == "2.01" { Ok(()) } else { Err(found.to_string()) }
    });
    let audited = "SELECT DISTINCT actor, action FROM tallyd_audit_log WHERE action LIKE 'price%'";
    assert_eq!(postgres.psql(audited), "ada (command line)|price.add");

    assert_eq!(
        call("quite-new", r#""input_tokens":1000000"#),
        Value::Null,
        "not before its instant, and both prices are known"
    );
    assert_eq!(first("always")["priced_before"], true);
    until("a price for all time is applied", || {
        let found = call("quite-new", r#""input_tokens":1000000,"occurred_at":"2026-01-05T00:00:00Z""#);
        if found == "3" { Ok(()) } else { Err(found.to_string()) }
    });
}

#[test]
fn a_bad_row_is_left_out_and_the_record_of_changes_cannot_be_altered() {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).start();
    until_up_to_date(&daemon);
    postgres
        .psql("INSERT INTO api_prices (provider, effective_from, rates, origin) VALUES ('x', now(), '[]', 'manual')");
    add(&postgres, "2015-01-01", "0.7");
    until_cost(&daemon, "0.7");
    until("it says so", || {
        if daemon.log().contains("a price in api_prices is not applied") { Ok(()) } else { Err(daemon.log()) }
    });
    assert_eq!(
        postgres.psql("SELECT string_agg(actor || action || price_id, ',' ORDER BY id) FROM api_price_changes WHERE price_id >= 1000000"),
        "postgresinsert1000000,postgresinsert1000001"
    );
    for forbidden in [
        "UPDATE api_price_changes SET actor = 'nobody'",
        "DELETE FROM api_price_changes",
        "TRUNCATE api_price_changes",
        "UPDATE api_prices SET rates = '{}' WHERE id = 1000001",
        "DELETE FROM api_prices WHERE id = 1000001",
        "INSERT INTO api_prices (id, provider, effective_from, rates, origin) VALUES (1999, 'x', now(), '{}', 'manual')",
    ] {
        assert!(postgres.try_psql(forbidden).is_err(), "{forbidden}");
    }
}

#[test]
fn plans_are_compared_by_their_bills_over_whole_months() {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).start();
    let call = |at: &str, requests: u32| {
        format!("{{\"provider\":\"rentcast\",\"occurred_at\":\"{at}T12:00:00Z\",\"requests\":{requests}}}\n")
    };
    daemon.lines(&[call("2026-01-31", 1_500), call("2026-02-01", 100), call("2026-02-28", 1_900)].concat());
    postgres.until_calls(3);
    let output = daemon.run(&["plans", "--from", "2026-01-01", "--to", "2026-04-01", "--json"]);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let requests: Vec<_> =
        found["months"].as_array().unwrap().iter().map(|m| m["requests"].as_i64().unwrap()).collect();
    assert_eq!(requests, [1_500, 2_000, 0]);
    let bills: Vec<_> =
        found["plans"].as_array().unwrap().iter().map(|plan| plan["bill_usd"].as_str().unwrap()).collect();
    // (1,450 + 1,950) * 0.20; 3 * 74 + (500 + 1,000) * 0.06; 3 fees alone.
    assert_eq!(bills, ["680", "312", "597", "1347"]);
    assert_eq!((&found["plans"][1]["cheapest"], &found["partial_months"]), (&true.into(), &false.into()));
    assert_eq!(found["months"][0]["marginal_usd"], "300");
}

/// Serves one request with `answer`. Returns the address.
fn serve_once(answer: String) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = std::io::BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        while std::io::BufRead::read_line(&mut head, &mut line).unwrap() > 2 {
            line.clear();
        }
        std::io::Write::write_all(&mut stream, answer.as_bytes()).unwrap();
    });
    format!("http://{address}/prices.json")
}

#[test]
fn a_list_is_imported_from_a_server_with_its_difference_first_and_a_bad_answer_changes_nothing() {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).start();
    until_up_to_date(&daemon);
    let list = r#"{"claude-opus-4-5": {"litellm_provider": "anthropic", "input_cost_per_token": 0.0000007, "output_cost_per_token": 0.000001}}"#;
    let answer = |status: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
    };
    let import = |url: &str, more: &[&str]| {
        daemon.run(&[&["prices", "import", url, "--from", "2026-01-01", "--json"], more].concat())
    };
    for (status, body) in [("404 Not Found", "{}"), ("200 OK", "<html>"), ("302 Found", "")] {
        let url = serve_once(answer(status, body));
        let output = import(&url, &["--apply"]);
        assert!(!output.status.success(), "{status} {body}: {output:?}");
        assert!(!output.stderr.is_empty());
    }
    let shown = import(&serve_once(answer("200 OK", list)), &[]);
    assert!(shown.status.success(), "{shown:?}");
    assert_eq!(
        postgres.psql("SELECT count(*) FROM api_prices WHERE origin = 'import'"),
        "0",
        "nothing without --apply"
    );
    let url = serve_once(answer("200 OK", list));
    let applied = import(&url, &["--apply", "--by", "tests"]);
    assert!(applied.status.success(), "{applied:?}");
    let kept = "SELECT model, rates #>> '{per_million_tokens,input}', source FROM api_prices WHERE origin = 'import'";
    assert_eq!(postgres.psql(kept), format!("claude-opus-4-5|0.7|{url}"));
    a_list_is_looked_at_by_itself_and_applied_by_a_person_or_by_a_setting(&postgres, &daemon);
}

fn a_list_is_looked_at_by_itself_and_applied_by_a_person_or_by_a_setting(postgres: &Postgres, daemon: &Daemon) {
    let file = daemon.data().with_file_name("list.json");
    let name = file.display().to_string();
    let list = |model: &str, usd: &str| {
        let entry = format!(
            r#"{{"{model}": {{"litellm_provider": "anthropic", "input_cost_per_token": {usd}e-06, "output_cost_per_token": 0.000001}}}}"#
        );
        std::fs::write(&file, entry).unwrap();
    };
    let sync = |words: &[&str]| {
        let done = daemon.run(&[&["prices", "sync"], words, &["--json"]].concat());
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        (done.status.success(), serde_json::from_slice::<Value>(&done.stdout).unwrap_or_default(), said)
    };
    let million = r#"{"provider":"claude","model":"claude-opus-4-5","input_tokens":1000000}"#;
    assert_eq!(daemon.lines(million)[0]["cost_usd"], "0.7");
    postgres.until("SELECT count(*) FROM api_usage_log WHERE model = 'claude-opus-4-5'", "1");
    list("claude-opus-4-5", "0.9");
    let mut scheduled = Daemon::on(&postgres.url()).with("TALLYD_PRICE_SYNC_LIST", &name).start();
    // The proposal is there, with its effect on last week's call.
    postgres.until("SELECT count(*) FROM tallyd_price_proposals WHERE state = 'open'", "1");
    let (_, shown, _) = sync(&[]);
    let proposal = &shown["state"]["proposal"];
    assert_eq!((proposal["changes"].as_array().unwrap().len(), &proposal["list"]), (1, &Value::from(&*name)));
    let until_metric = |daemon: &Daemon, metric: &str| {
        until(metric, || {
            daemon.metrics().lines().any(|line| line == metric).then_some(()).ok_or_else(|| daemon.metrics())
        });
    };
    until_metric(&scheduled, "tallyd_price_list_changes_waiting 1");
    until_metric(&scheduled, "tallyd_price_list_failing 0");
    let model = &proposal["preview"]["models"][0];
    let found = [&model["model"], &model["calls"], &model["old_usd"], &model["new_usd"], &model["difference_usd"]];
    let expected: [Value; 5] = ["claude-opus-4-5".into(), 1.into(), "0.7".into(), "0.9".into(), "0.2".into()];
    assert_eq!(found.map(Value::clone), expected, "{shown:#}");
    let said = String::from_utf8(daemon.run(&["prices", "sync"]).stdout).unwrap();
    assert!(said.contains("claude-opus-4-5: 1 call, 0.90 USD, was 0.70 USD; "), "{said}");
    let of_lists = || postgres.psql("SELECT count(*) FROM api_prices WHERE origin = 'sync'");
    assert_eq!(of_lists(), "0", "nothing is applied by a look");
    // The list may not change a person's price, and an earlier proposal is not applied over it.
    let set = ["prices", "set", "claude", "claude-opus-4-5", "--from", "now", "--rate", "input=0.8"];
    assert!(daemon.run(&set).status.success());
    let (done, _, said) = sync(&["--apply", "--from", "now"]);
    assert!(!done && said.contains("claude-opus-4-5") && said.contains("changed"), "{said}");
    let (done, looked, said) = sync(&[&name]);
    assert!(done && looked["state"]["proposal"].is_null(), "{looked:#} {said}");
    assert_eq!(postgres.psql("SELECT string_agg(state, ',') FROM tallyd_price_proposals"), "superseded");
    // A file that is not a list changes nothing and gives an error.
    std::fs::write(&file, "<html>").unwrap();
    let (done, _, said) = sync(&[&name]);
    assert!(!done && said.contains("not JSON"), "{said}");
    std::fs::write(&file, "{}").unwrap();
    assert!(sync(&[&name]).2.contains("no price"), "an empty list");
    let (done, _, said) = sync(&["--apply"]);
    assert!(!done && said.contains("no proposal is open"), "{said}");
    // Applied by a person.
    list("claude-haiku-4-5", "1.5");
    let (done, applied, said) = sync(&[&name, "--apply", "--by", "ada"]);
    assert!(done && applied["decided"].is_i64(), "{said}");
    let haiku =
        r#"{"provider":"claude","model":"claude-haiku-4-5","input_tokens":1000000,"cache_read_tokens":1000000}"#;
    until("the list's price is applied, and its silence takes no rate away", || {
        let found = daemon.lines(haiku)[0]["cost_usd"].clone();
        if found == "1.6" { Ok(()) } else { Err(found.to_string()) }
    });
    let audited = "SELECT actor FROM tallyd_audit_log WHERE action = 'price.sync_apply' ORDER BY id DESC LIMIT 1";
    assert_eq!(postgres.psql(audited), "ada (command line)");
    // Applied by the setting.
    list("claude-haiku-4-5", "1.7");
    postgres.psql("UPDATE tallyd_price_sync SET tried_at = '-infinity'");
    scheduled.terminate();
    scheduled.set("TALLYD_PRICE_SYNC_APPLY", "true");
    scheduled.up();
    until("the list is applied", || if of_lists() == "2" { Ok(()) } else { Err(of_lists()) });
    assert_eq!(postgres.psql(audited), "price_sync.apply");
    assert_eq!(postgres.psql("SELECT count(*) FROM tallyd_price_proposals WHERE state = 'open'"), "0");
    // A failed look is reported.
    postgres.psql("UPDATE tallyd_price_sync SET tried_at = '-infinity'");
    std::fs::remove_file(&file).unwrap();
    scheduled.terminate();
    scheduled.up();
    postgres.until("SELECT error LIKE '%cannot be read%' FROM tallyd_price_sync", "t");
    until_metric(&scheduled, "tallyd_price_list_failing 1");
}

#[test]
fn a_name_that_a_person_sets_stands_for_a_model_until_it_is_taken_back_and_outlives_a_restart_without_the_database() {
    let mut postgres = Postgres::start();
    let mut daemon = Daemon::on(&postgres.url()).with("TALLYD_PRICING_REFRESH_MS", "3600000").start();
    until_up_to_date(&daemon);
    const ARN: &str = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc";
    let cost = |daemon: &Daemon, platform: &str| {
        let line = format!(
            "{{\"provider\":\"claude\",\"platform\":\"{platform}\",\"model\":\"{ARN}\",\"input_tokens\":1000000}}"
        );
        daemon.lines(&line)[0]["cost_usd"].clone()
    };
    let until_cost = |daemon: &Daemon, expected: Value| {
        until("the name is applied", || {
            let found = cost(daemon, "AWS");
            if found == expected { Ok(()) } else { Err(found.to_string()) }
        });
    };
    let prices = |daemon: &Daemon, arguments: &[&str]| {
        let done = daemon.run(&[&["prices"], arguments].concat());
        (done.status.success(), String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned())
    };
    assert_eq!(cost(&daemon, "AWS"), Value::Null, "an ARN names no model");
    postgres.until("SELECT sum(unpriced_calls) FROM daily_api_costs", "1");
    let (_, said) = prices(&daemon, &["check"]);
    assert!(said.contains(ARN) && said.contains("prices alias"), "{said}");
    let (done, said) = prices(&daemon, &["alias", "aws.bedrock", ARN, "no-such-model"]);
    assert!(!done && said.contains("no-such-model"), "{said}");
    let model = "us.anthropic.claude-opus-4-6-v1";
    let (done, said) = prices(&daemon, &["alias", "aws.bedrock", ARN, model, "--by", "ada"]);
    assert!(done, "{said}");
    until_cost(&daemon, "5.5".into());
    assert_eq!(cost(&daemon, ""), Value::Null, "the name is Bedrock's alone");
    assert!(prices(&daemon, &["alias", "--list"]).1.contains(model));
    assert_eq!(postgres.psql("SELECT actor || provider FROM tallyd_model_aliases"), "ada (command line)bedrock");
    assert_eq!(daemon.terminate().code(), Some(0));
    postgres.down(Stop::Fast);
    daemon.up();
    assert_eq!(cost(&daemon, "bedrock"), "5.5", "priced before the database is there");
    postgres.up();
    until_up_to_date(&daemon);
    let (done, said) = prices(&daemon, &["alias", "bedrock", &ARN.to_uppercase(), "--remove", "--yes"]);
    assert!(done, "{said}");
    until_cost(&daemon, Value::Null);
    let (done, _) = prices(&daemon, &["alias", "bedrock", ARN, "--remove", "--yes"]);
    assert!(!done, "it is taken back already");
    postgres.until("SELECT count(*) >= 4 FROM api_usage_log WHERE platform = 'bedrock'", "t");
    daemon.until_status("everything is loaded", |status| status["wal"]["unflushed_records"] == 0);
    daemon.assert_reconciled();
}
