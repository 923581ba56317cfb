//! Records over HTTP: durable when answered, refused one by one, and counted once with a key.

use std::io::Write;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::client::{Answer, Api};
use tallyd_client::{Record, SessionError};

const PATH: &str = "/api/v1/records";
const THREE: &str = r#"[{"provider":"rentcast","endpoint":"/a","cost_usd":0.1},
    {"provider":"claude","model":"claude-sonnet-4-5","input_tokens":1000,"output_tokens":101},
    {"provider":"rentcast","endpoint":"/b","cost_usd":0.2}]"#;

fn post(api: &Api, token: &str, key: &str, body: &str) -> Answer {
    let headers = [("authorization", token), ("idempotency-key", key), ("content-type", "application/json")];
    api.send("POST", PATH, &headers, body.as_bytes())
}

#[test]
fn one_an_array_and_lines_are_recorded_and_a_broken_one_is_refused_alone() {
    let api = Api::with(&[("TALLYD_ALERTS_INTERVAL_MS", "100")]);
    let token = api.token("ingest");
    let one =
        post(&api, &token, "", r#"{"provider":"anthropic","model":"claude-sonnet-4-5","input_tokens":1000}"#).ok();
    assert_eq!((&one["accepted"], &one["results"][0]["cost_usd"]), (&1.into(), &json!("0.003")));
    assert_eq!(post(&api, &token, "", THREE).ok()["accepted"], 3);
    let lines = "{\"provider\":\"rentcast\"}\n{\"provider\":\"\"}\n{broken\n{\"provider\":\"acme\"}\n";
    let mixed = post(&api, &token, "", lines).ok();
    assert_eq!((&mixed["accepted"], &mixed["refused"]), (&2.into(), &2.into()));
    let codes: Vec<_> = mixed["results"].as_array().unwrap().iter().map(|result| &result["error"]["code"]).collect();
    assert_eq!(codes, [&json!(null), &json!("missing"), &json!("format"), &json!(null)]);
    let refused = post(&api, &token, "", r#"{"provider":7}"#);
    assert_eq!((refused.status, &refused.json()["refused"]), (422, &1.into()));
    assert_eq!(post(&api, &token, "", "[{").code(), "invalid_body");
    assert_eq!(post(&api, &token, "", "[]").ok()["accepted"], 0);
    api.postgres.until_calls(6);
    api.postgres.until("SELECT count(*) FROM dead_letters", "3");
    api.daemon.assert_reconciled();
    for (role, status) in [("read", 403), ("admin", 200)] {
        assert_eq!(post(&api, &api.token(role), "", "[]").status, status, "{role}");
    }
    assert_eq!(api.get(PATH, &token).status, 403, "who sends may not ask");
    let two = r#"[{"provider":"rentcast","user_id":"u-1","cost_usd":1},{"provider":"rentcast","user_id":"u-2"}]"#;
    assert_eq!(post(&api, &token, "", two).ok()["results"][0]["should_throttle"], json!(null), "there is no budget");
    assert!(api.daemon.run(&["budgets", "set", "0.5", "--for", "user=u-1"]).status.success());
    crate::support::until("a record's answer tells that its user's budget is used up", || {
        let results = &post(&api, &token, "", two).ok()["results"];
        assert_eq!(results[1]["should_throttle"], json!(null), "another user's is not");
        if results[0]["should_throttle"] == true { Ok(()) } else { Err(results.to_string()) }
    });
}

#[test]
fn a_call_that_states_who_it_is_counts_once_on_every_way_in_and_over_a_kill() {
    let mut api = Api::start();
    let token = api.token("ingest");
    let id = "44444444-4444-4444-8444-444444444444";
    let avm = json!({"id": id, "provider": "rentcast", "endpoint": "/avm", "cost_usd": "0.2"}).to_string();
    let told = |answer: &Value| answer["duplicate"] == true;
    // Twice in one request, then alone: the first one counts.
    let both = post(&api, &token, "k-1", &format!("[{avm},{avm}]")).ok();
    assert_eq!((&both["accepted"], &both["duplicates"]), (&2.into(), &1.into()));
    assert_eq!((told(&both["results"][0]), told(&both["results"][1])), (false, true));
    assert_eq!(post(&api, &token, "k-2", &avm).ok()["duplicates"], 1, "another request, the same call");
    let line = &api.daemon.lines(&format!("{avm}\n"))[0];
    assert!(line["ok"] == true && told(line), "{line}");
    // In frames a stated id is looked up; an id that the library made is not, nor is a missing one.
    let mut session = api.daemon.session("stated");
    let bytes = uuid::Uuid::parse_str(id).unwrap().into_bytes();
    let record = |id, made_id| Record { id, made_id, ..Record::rentcast("/frame") };
    let other = Some([7; 16]);
    session
        .send(1, &[record(Some(bytes), false), record(other, false), record(Some([8; 16]), true), record(None, false)])
        .unwrap();
    assert_eq!(session.recv_ack().unwrap().duplicates, [1]);
    session.send(5, &[record(other, false)]).unwrap();
    assert_eq!(session.recv_ack().unwrap().duplicates, [5]);
    drop(session);
    // A vendor's id of a response, with its provider. A stated id takes precedence; a product's own id does not count.
    let response = |more: Value| {
        let mut record = json!({"provider": "openai", "model": "gpt-4o", "input_tokens": 5, "request_id": "chatcmpl-B9MBs8CjcvOU2jLn"});
        record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        told(&api.daemon.lines(&format!("{record}\n"))[0])
    };
    assert_eq!([response(json!({})), response(json!({}))], [false, true]);
    assert!(!response(json!({"provider": "groq"})), "another provider's");
    assert!(!response(json!({"id": "55555555-4444-4444-8444-444444444444"})), "another call, by its id");
    assert_eq!([(); 2].map(|()| response(json!({"request_id": "our-request-7"}))), [false; 2]);
    // With the default of `TALLYD_WAL_SEGMENT_BYTES`, the segment has no seal when the daemon is killed.
    for _ in 0..2 {
        api.daemon.kill();
        api.daemon.up();
        let line = &api.daemon.lines(&format!("{avm}\n"))[0];
        assert!(line["ok"] == true && told(line), "after a kill: {line}");
        assert!(told(&api.daemon.lines("{\"provider\":\"openai\",\"request_id\":\"chatcmpl-B9MBs8CjcvOU2jLn\"}\n")[0]));
    }
    let status = api.daemon.status().unwrap();
    let identities = &status["wal"]["identities"];
    assert_eq!((&identities["duplicates"], &identities["known"]), (&2.into(), &5.into()), "{identities}");
    let said = api.daemon.run(&["status"]).stdout;
    assert!(String::from_utf8_lossy(&said).contains("5 known; 2 records were duplicates"));
    api.postgres.until_calls(9);
    assert_eq!(api.postgres.psql(&format!("SELECT count(*) FROM api_usage_log WHERE id = '{id}'")), "1");
    api.daemon.assert_reconciled();
    doubles_are_found_and_dropped(&api, id);
}

/// Doubles outside the window: by SQL, as another daemon's would be.
fn doubles_are_found_and_dropped(api: &Api, id: &str) {
    let response = "provider => 'claude', model => 'm', cost_usd => 1, request_id => 'msg_01XFDUDYJgAACzvnptvVoYEL'";
    api.postgres.psql(&format!(
        "SELECT increment_daily_cost({response}, user_id => 'u-3', occurred_at => now() - interval '40 days')"
    ));
    let once = api.postgres.psql(SUMS);
    // Calls of other users, later and dearer; and a response that another user has on another day.
    for (user, seconds, cost) in [("u-2", 60, "0.3"), ("u-2", 90, "0.3"), ("", 120, "NULL")] {
        api.postgres.psql(&format!(
            "SELECT increment_daily_cost(provider => 'rentcast', endpoint => '/avm', user_id => '{user}', cost_usd => {cost}, \
                 occurred_at => now() + {seconds} * interval '1 s', id => '{id}')"
        ));
    }
    api.postgres.psql(&format!(
        "SELECT increment_daily_cost({response}, user_id => 'u-4', occurred_at => now() - interval '39 days')"
    ));
    api.daemon.assert_reconciled();

    let tallyd = |words: &[&str]| {
        let output = api.daemon.run(&[&["duplicates"], words].concat());
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let to = &api.postgres.psql("SELECT (now() + interval '90 days')::date");
    let found: Value = serde_json::from_str(&tallyd(&["list", "--to", to, "--from", "2020-01-01", "--json"])).unwrap();
    let found = &found.as_array().unwrap()[..];
    let [double] = found else { panic!("{found:?}") };
    assert_eq!((&double["key"], &double["rows"], &double["differs"]), (&id.into(), &4.into(), &true.into()));
    assert_eq!(double["extra_usd"], "0.6");
    let told = tallyd(&["drop", "--to", to, "--from", "2020-01-01", "--dry-run"]);
    assert!(told.contains("3 rows too many"), "{told}");
    assert_eq!(api.postgres.psql("SELECT count(*) FROM api_usage_log"), "14", "nothing was changed");
    // A period with only one of them has no doubles.
    assert!(tallyd(&["drop", "--from", to, "--to", "2999-01-01", "--yes"]).starts_with("dropped 0 rows"));
    let dropped = tallyd(&["drop", "--to", to, "--from", "2020-01-01", "--yes", "--by", "tester"]);
    assert!(dropped.starts_with("dropped 3 rows, 0.6"), "{dropped}");
    api.daemon.assert_reconciled();
    // Today's rows are not dropped: the call log does not show that two of them have stated ids.
    let to = &api.postgres.psql("SELECT (now() - interval '20 days')::date");
    assert!(
        tallyd(&["drop", "--same", "response", "--from", "2020-01-01", "--to", to, "--yes"])
            .starts_with("dropped 1 row, 1")
    );
    api.daemon.assert_reconciled();
    assert_eq!(api.postgres.psql(SUMS), once, "what is left is what was there, first and last calls included");
    assert_eq!(api.postgres.psql(&format!("SELECT cost_usd FROM api_usage_log WHERE id = '{id}'")), "0.2");
    assert_eq!(api.postgres.psql("SELECT count(*) FROM user_api_totals WHERE user_id IN ('u-2', 'u-4')"), "0");
    let noted = "SELECT string_agg(actor || ' ' || (old_value ->> 'rows'), ',' ORDER BY id) FROM tallyd_audit_log \
        WHERE action = 'duplicates.drop' AND object <> ''";
    assert!(api.postgres.psql(noted).starts_with("tester (command line) 3,"));
}

/// All rollups, without their times of writing.
const SUMS: &str =
    "SELECT string_agg((to_jsonb(t) - 'updated_at')::text, ';' ORDER BY to_jsonb(t)::text COLLATE \"C\") FROM (
    SELECT 1 AS n, to_jsonb(d) - 'updated_at' AS row FROM daily_api_costs AS d
    UNION ALL SELECT 2, to_jsonb(d) - 'updated_at' FROM daily_user_api_costs AS d
    UNION ALL SELECT 3, to_jsonb(d) - 'updated_at' FROM user_api_totals AS d) AS t";

#[test]
fn a_request_with_a_key_counts_once_also_over_a_kill_and_another_body_is_found_out() {
    let mut api = Api::start();
    let (token, other) = (api.token("ingest"), api.token("ingest"));
    let first = post(&api, &token, "k-1", THREE).ok();
    assert_eq!((&first["accepted"], &first["duplicates"]), (&3.into(), &0.into()));
    for round in 0..2 {
        let again = post(&api, &token, "k-1", THREE).ok();
        assert_eq!((&again["accepted"], &again["duplicates"]), (&3.into(), &3.into()), "{round}");
        for at in 0..3 {
            assert_eq!(again["results"][at]["id"], first["results"][at]["id"], "{round}");
        }
        api.daemon.kill();
        api.daemon.up();
        // The daemon has read the tokens again.
        crate::support::until("the token is known", || match post(&api, &token, "", "[]").status {
            200 => Ok(()),
            other => Err(other.to_string()),
        });
    }
    let reused = post(&api, &token, "k-1", r#"{"provider":"rentcast"}"#);
    assert_eq!((reused.status, reused.code().as_str()), (422, "idempotency_key_reused"));
    assert_eq!(post(&api, &other, "k-1", THREE).ok()["duplicates"], 0, "a key is its sender's own");
    assert_eq!(post(&api, &token, "k-2", THREE).ok()["duplicates"], 0, "another key is another request");
    for key in ["two words", &"k".repeat(256)] {
        assert_eq!(post(&api, &token, key, THREE).code(), "invalid_parameter", "{key}");
    }
    api.postgres.until_calls(9);
    api.daemon.assert_reconciled();
}

#[test]
fn a_request_counts_once_also_after_its_key_was_forgotten_for_others() {
    let api = Api::with(&[("TALLYD_WAL_MAX_PRODUCERS", "16")]);
    let token = api.token("ingest");
    assert_eq!(post(&api, &token, "first", THREE).ok()["duplicates"], 0);
    for number in 0..40 {
        assert_eq!(post(&api, &token, &format!("k-{number}"), r#"{"provider":"rentcast"}"#).ok()["duplicates"], 0);
    }
    assert_eq!(post(&api, &token, "first", THREE).ok()["duplicates"], 3, "a repetition counts again");
    api.postgres.until_calls(43);
    api.daemon.assert_reconciled();
}

#[test]
fn bodies_are_bounded_before_and_after_decompression() {
    let api = Api::with(&[("TALLYD_HTTP_MAX_BODY_BYTES", "10000")]);
    let token = api.token("ingest");
    let gzip = |body: &str, encoding: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(body.as_bytes()).unwrap();
        let headers = [("authorization", token.as_str()), ("content-encoding", encoding)];
        api.send("POST", PATH, &headers, &encoder.finish().unwrap())
    };
    assert_eq!(gzip(THREE, "gzip").ok()["accepted"], 3);
    assert_eq!(gzip(&" ".repeat(1_000_000), "gzip").code(), "too_large");
    assert_eq!(post(&api, &token, "", &" ".repeat(20_000)).code(), "too_large");
    // Two members, as `cat a.gz b.gz` makes them, are one text. Trailing bytes that are not gzip are an error.
    let member = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let headers =
        [("authorization", token.as_str()), ("content-encoding", "gzip"), ("content-type", "application/x-ndjson")];
    let line = "{\"provider\":\"rentcast\"}\n";
    let two = [member(line), member(""), member(line)].concat();
    assert_eq!(api.send("POST", PATH, &headers, &two).ok()["accepted"], 2);
    assert_eq!(api.send("POST", PATH, &headers, &[member(line), b"and more".to_vec()].concat()).code(), "invalid_body");
    assert_eq!(api.send("POST", PATH, &headers, &member(line)[..20]).code(), "invalid_body");
    assert_eq!(gzip(THREE, "compress").status, 415);
    let broken = [("authorization", token.as_str()), ("content-encoding", "gzip")];
    assert_eq!(api.send("POST", PATH, &broken, b"no gzip").code(), "invalid_body");
}

#[test]
fn records_are_taken_while_the_database_is_down() {
    let mut api = Api::start();
    let token = api.token("ingest");
    api.postgres.down(crate::support::postgres::Stop::Fast);
    assert_eq!(post(&api, &token, "k", THREE).ok()["accepted"], 3);
    assert_eq!(post(&api, &token, "k", THREE).ok()["duplicates"], 3);
    api.postgres.up();
    api.postgres.until_calls(3);
    api.daemon.assert_reconciled();
}

#[test]
fn a_key_is_of_one_token_and_no_neighbour_on_the_socket_can_use_it_up() {
    let api = Api::start();
    let (one, two) = (api.token("ingest"), api.token("ingest"));
    // The producer of the first token's key, as anybody could compute it.
    let scope = "token:1 test";
    let digest =
        Sha256::new().chain_update((scope.len() as u64).to_be_bytes()).chain_update(scope).chain_update("key-1");
    let hex: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let refused = api.daemon.try_session(&format!("request:{hex}"));
    assert!(matches!(&refused, Err(SessionError::Refused { code, .. }) if code == "reserved_name"), "{refused:?}");
    for (token, endpoint) in [(&one, "/one"), (&two, "/two")] {
        let body = format!(r#"{{"provider":"rentcast","endpoint":"{endpoint}"}}"#);
        for duplicates in [0, 1] {
            assert_eq!(post(&api, token, "key-1", &body).ok()["duplicates"], duplicates);
        }
    }
    api.postgres.until_calls(2);
}

#[test]
fn usage_that_is_not_understood_is_unpriced_named_and_stays_so() {
    let api = Api::start();
    let (token, reader) = (api.token("ingest"), api.token("read"));
    let call = |metadata: Value| json!({"provider": "claude", "model": "claude-sonnet-4-5", "input_tokens": 1000, "metadata": metadata});
    let marked = call(json!({"tallyd.not_understood": "some_new_tokens", "a": 1}));
    let mut stated = marked.clone();
    stated["cost_usd"] = "0.5".into();
    let results = api.post("/api/v1/records", &token, &json!([marked, call(json!({"b": 2})), stated]).to_string()).ok();
    let costs: Vec<&Value> = (0..3).map(|at| &results["results"][at]["cost_usd"]).collect();
    assert_eq!(costs, [&json!(null), &json!("0.003"), &json!("0.5")], "{results}");
    // By the socket, too.
    let answer = &api.daemon.lines(&format!("{marked}\n"))[0];
    assert_eq!((&answer["ok"], &answer["cost_usd"]), (&json!(true), &json!(null)));
    api.postgres.until_calls(4);
    let unpriced =
        "SELECT count(*), min(metadata ->> 'tallyd.not_understood') FROM api_usage_log WHERE cost_usd IS NULL";
    assert_eq!(api.postgres.psql(unpriced), "2|some_new_tokens");
    // The catalog has a price for the model, but not for these calls.
    let reprice = ["reprice", "--from", "2020-01-01", "--to", "2100-01-01", "--yes", "--json"];
    assert!(api.daemon.run(&reprice).status.success());
    assert_eq!(api.postgres.psql(unpriced), "2|some_new_tokens");
    assert_eq!(api.metric("tallyd_not_understood_total{what=\"some_new_tokens\"}"), 3.0);
    let named = json!([{"what": "some_new_tokens", "count": 3}]);
    assert_eq!(api.get("/api/v1/unpriced", &reader).ok()["stood_out"]["not_understood"], named);
    assert_eq!(api.daemon.status().unwrap()["stood_out"]["not_understood"], named);
    let shown = String::from_utf8(api.daemon.run(&["status"]).stdout).unwrap();
    assert!(shown.contains("not read      3 × some_new_tokens"), "{shown}");
    api.daemon.assert_reconciled();
}

#[test]
fn a_tier_without_a_price_is_named() {
    let api = Api::start();
    let record = r#"{"provider":"claude","model":"claude-sonnet-4-5","input_tokens":1,"service_tier":"warp"}"#;
    assert_eq!(api.daemon.lines(record)[0]["cost_usd"], json!(null));
    assert_eq!(api.metric("tallyd_not_understood_total{what=\"service_tier warp\"}"), 1.0);
}

#[test]
fn stated_costs_that_differ_are_counted_by_model() {
    let api = Api::start();
    let record = |cost: &str| {
        format!(r#"{{"provider":"claude","model":"claude-sonnet-4-5","input_tokens":100000,"cost_usd":"{cost}"}}"#)
    };
    for cost in ["0.3", "0.302", "0.35", "0.25"] {
        assert_eq!(api.daemon.lines(&record(cost))[0]["cost_usd"], cost);
    }
    api.daemon.lines(r#"{"provider":"somebody","model":"no-such","cost_usd":"7"}"#);
    assert_eq!(api.metric("tallyd_stated_cost_differs_total{what=\"claude/claude-sonnet-4-5\"}"), 2.0);
    let differs = json!([{"what": "claude/claude-sonnet-4-5", "count": 2}]);
    assert_eq!(api.daemon.status().unwrap()["stood_out"]["stated_cost_differs"], differs);
}
