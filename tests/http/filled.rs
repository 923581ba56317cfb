//! Each documented field of an answer is filled somewhere: one daemon with data of every kind gets every request.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tallyd_base::clock::{Clock, SystemClock};

use crate::client::Api;
use crate::support::citus::{taken, written_down};
use crate::support::postgres::Stop;
use crate::support::until;

/// Fields that no answer here fills, and why.
const UNFILLED: &[(&str, &str)] = &[
    ("Between.models_left_off", "it takes 200 models; crates/store/src/reprice/between.rs counts them"),
    ("CostBounds.reasons_left_off", "it takes 200 models; the same list is cut in crates/store/src/queries/bounds.rs"),
    ("Costs.as_of", "it takes many deltas that wait; tests/database/dearest.rs sees it"),
    ("DroppedMany.next", "it takes 5,000 letters"),
    ("LaneStatus.hold", "it takes a failure that only a person can mend; tests/it/holds.rs sees it"),
    ("ModelDifference.newly_unpriced", "a list takes no rate away"),
    ("PipelineGlance.message", "the overview needs the database, whose absence is the message here"),
    ("PipelineGlance.oldest_unflushed_seconds", "the overview needs the database, which loads at once"),
    ("PipelineGlance.unflushed_records", "the overview needs the database, which loads at once"),
    ("Preview.inexact", "only adopted calls have more than 18 decimals; tests/it/reprice.rs sees them"),
    ("RepricePlan.days_left_off", "it takes 1,000 rows of days and models"),
    ("SyncState.error", "it takes a list that cannot be read; tests/it/prices.rs sees it"),
    ("Users.as_of", "it takes many deltas that wait; tests/database/list.rs sees it"),
    ("WalStatus.channel_bytes", "records wait there for microseconds"),
    ("WalStatus.damaged", "it takes a damaged segment; tests/it/damage.rs sees it"),
    ("WindowStatus.forgotten_early", "it takes 1,000 ids; settings.rs sees it"),
];

/// The fields that the OpenAPI document names, and those that answers had.
struct Fields {
    document: Value,
    /// Paths that were requested with GET.
    asked: BTreeSet<String>,
    documented: BTreeSet<String>,
    filled: BTreeSet<String>,
}

impl Fields {
    fn of(document: Value) -> Self {
        let mut fields =
            Self { document, asked: BTreeSet::new(), documented: BTreeSet::new(), filled: BTreeSet::new() };
        let document = fields.document.clone();
        for operation in document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap()) {
            for (status, response) in operation.1["responses"].as_object().unwrap() {
                // Errors have one shape, which client.rs checks in each.
                if !status.starts_with('2') {
                    continue;
                }
                let schema = &response["content"]["application/json"]["schema"];
                let title = operation.1["operationId"].as_str().unwrap();
                fields.walk(schema, None, title, &mut Vec::new());
            }
        }
        fields
    }

    /// Notes the fields that an answer fills.
    fn note(&mut self, template: &str, method: &str, status: u16, answer: &Value) {
        if method == "GET" && (200..300).contains(&status) {
            self.asked.insert(template.to_owned());
        }
        let operation = &self.document["paths"][template][method.to_lowercase()];
        let schema = operation["responses"][status.to_string()]["content"]["application/json"]["schema"].clone();
        let title = operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {template}")).to_owned();
        self.walk(&schema, Some(answer), &title, &mut Vec::new());
    }

    /// Collects the fields that `answer` fills, or without one all fields. `open` has the enclosing schemas.
    fn walk(&mut self, schema: &Value, answer: Option<&Value>, at: &str, open: &mut Vec<String>) {
        if let Some(reference) = schema["$ref"].as_str() {
            let name = reference.rsplit('/').next().unwrap().to_owned();
            if answer.is_none() && open.contains(&name) {
                return;
            }
            let named = self.document["components"]["schemas"][&name].clone();
            open.push(name.clone());
            self.walk(&named, answer, &name, open);
            open.pop();
        }
        for part in ["allOf", "oneOf", "anyOf"].iter().flat_map(|kind| schema[kind].as_array().into_iter().flatten()) {
            self.walk(part, answer, at, open);
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let field = format!("{at}.{name}");
            match answer {
                None => drop(self.documented.insert(field.clone())),
                Some(answer) if is_filled(&answer[name]) => drop(self.filled.insert(field.clone())),
                Some(_) => continue,
            }
            self.walk(property, answer.map(|answer| &answer[name]), &field, open);
        }
        for kind in ["items", "additionalProperties"].into_iter().filter(|kind| schema[kind].is_object()) {
            match answer {
                None => self.walk(&schema[kind], None, at, open),
                Some(Value::Array(items)) => {
                    items.iter().for_each(|item| self.walk(&schema[kind], Some(item), at, open));
                }
                Some(Value::Object(items)) => {
                    items.values().for_each(|item| self.walk(&schema[kind], Some(item), at, open));
                }
                Some(_) => {}
            }
        }
    }
}

/// A default counts as unfilled, because a field that is never written has it, too.
fn is_filled(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) => true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty() && text != "0",
        Value::Array(items) => !items.is_empty(),
        Value::Object(items) => !items.is_empty(),
    }
}

/// A daemon and the fields of its answers.
struct Asked {
    api: Api,
    admin: String,
    fields: Fields,
}

impl Asked {
    /// Sends a request and returns the answer. `path` is `template` with its parameters filled in.
    fn ask(&mut self, method: &str, template: &str, path: &str, body: &Value) -> Value {
        let headers = [("authorization", self.admin.as_str()), ("content-type", "application/json")];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.api.send(method, path, &headers, body.as_bytes());
        assert!(answer.status < 500 || path == "/readyz", "{method} {path}: {}", answer.text());
        let value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        self.fields.note(template, method, answer.status, &value);
        value
    }

    fn get(&mut self, path: &str) -> Value {
        self.ask("GET", path.split('?').next().unwrap(), path, &Value::Null)
    }

    fn post(&mut self, path: &str, body: Value) -> Value {
        self.ask("POST", path, path, &body)
    }
}

/// A call with a stated id.
const ID: &str = "44444444-4444-4444-8444-444444444444";

const USERS: &str = "CREATE SCHEMA auth; \
    CREATE TABLE auth.users (id uuid PRIMARY KEY, email text, tier text, raw_app_meta_data jsonb, created_at timestamptz, \
        last_sign_in_at timestamptz, banned_until timestamptz, deleted_at timestamptz); \
    CREATE TABLE auth.sessions (id uuid, user_id uuid, created_at timestamptz, updated_at timestamptz, refreshed_at timestamp, \
        not_after timestamptz); \
    INSERT INTO auth.users VALUES (md5('1')::uuid, 'ada@example.com', 'pro', '{}', now(), now(), NULL, NULL); \
    INSERT INTO auth.sessions VALUES (md5('s')::uuid, md5('1')::uuid, now(), now(), now() AT TIME ZONE 'UTC', NULL)";

/// Data of a bad day.
fn record(api: &Api) {
    let demo = ["demo", "--backfill", "75", "--rate", "0", "--seconds", "1", "--users", "20", "--seed", "7"];
    let output = api.daemon.run(&demo);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let user = "c4ca4238-a0b9-2382-0dcc-509a6f75849b";
    let lines = [
        json!({"provider": "claude", "model": "claude-sonnet-4-5", "endpoint": "/api/claude/analysis", "user_id": user, "app": "web",
            "input_tokens": 100_000, "output_tokens": 3, "cache_read_tokens": 5, "cache_write_5m_tokens": 6,
            "cache_write_1h_tokens": 7, "latency_ms": 8, "status": 529, "service_tier": "standard", "metadata": {"a": 1},
            "request_id": "req-1", "platform": "bedrock", "id": ID, "extra_units": {"web_search": 2}, "tags": {"team": "search"}}),
        json!({"provider": "claude", "model": "claude-opus-4-5", "user_id": user, "app": "web", "input_tokens": 1_000_000, "tags": {"team": "ads"}}),
        json!({"provider": "claude", "model": "claude-sonnet-4-5", "input_tokens": 100_000, "cost_usd": "700"}),
        json!({"provider": "rentcast", "endpoint": "/avm/value", "user_id": user}),
        json!({"provider": "acme", "model": "new", "user_id": user, "input_tokens": 1_000, "output_tokens": 10}),
        json!({"provider": "openai", "model": "gpt-of-the-list", "input_tokens": 1_000}),
        json!({"provider": "late", "model": "priced", "input_tokens": 1_000}),
        json!({"provider": "claude", "model": "claude-sonnet-4-5", "input_tokens": 1, "metadata": {"tallyd.not_understood": "x"}}),
        json!({"provider": "claude", "input_tokens": -5, "occurred_at": "2026-03-01T00:00:00Z"}),
        json!({"provider": "claude", "input_tokens": -6}),
        json!({"id": ID, "provider": "rentcast", "endpoint": "/again"}),
    ];
    let wrong = (0..600).map(|n| json!({"provider": "acme", "colour": n}));
    let lines: Vec<_> = lines.into_iter().chain(wrong).collect();
    api.daemon.lines(&lines.iter().map(|line| format!("{line}\n")).collect::<String>());
    until("everything is loaded", || match api.daemon.status() {
        Some(status) if status["wal"]["unflushed_records"] == 0 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    api.postgres.until("SELECT count(*) FROM dead_letters", "500");
    // As if calls had been dropped before sums by application existed.
    api.postgres.psql("UPDATE tallyd_dimensions SET whole_from = current_date WHERE name = 'app'");
    // A day with unusual spend.
    api.postgres.psql("UPDATE daily_api_costs SET cost_usd = cost_usd * 90 + 500 WHERE day = current_date - 3");
}

#[test]
fn every_documented_field_is_filled_by_some_answer() {
    let home = tempfile::tempdir().unwrap();
    let list = home.path().join("list.json");
    let entry = json!({"litellm_provider": "anthropic", "input_cost_per_token": 9e-7, "output_cost_per_token": 1e-6});
    let unknown = json!({"litellm_provider": "openai", "input_cost_per_token": 9e-7, "output_cost_per_token": 1e-6});
    let prices = json!({"claude-opus-4-5": entry, "claude-haiku-4-5": entry, "gpt-of-the-list": unknown});
    std::fs::write(&list, prices.to_string()).unwrap();
    let config = home.path().join("config.toml");
    let aliases = "aliases = [{ provider = \"azure\", name = \"my-deployment\", model = \"gpt-4o\" }]";
    std::fs::write(&config, format!("[pricing]\n{aliases}\n")).unwrap();
    let settings = [
        ("TALLYD_CONFIG", config.to_str().unwrap()),
        ("TALLYD_ALERTS_INTERVAL_MS", "100"),
        // An address without a listener.
        ("TALLYD_ALERTS_WEBHOOK_URL", "http://127.0.0.1:9/hook"),
        ("TALLYD_DEAD_LETTERS_ROWS_PER_DAY", "500"),
        ("TALLYD_HTTP_STATEMENT_TIMEOUT_MS", "60000"),
        ("TALLYD_DIMENSIONS_NAMES", "team"),
        ("TALLYD_DIMENSIONS_MAX_VALUES_PER_DAY", "1"),
    ];
    let api = Api::on(written_down(), &settings);
    api.postgres.psql(USERS);
    record(&api);
    // A person's price of another model holds the list's price back.
    for words in [
        &["set", "claude", "claude-haiku-4-5", "--from", "now", "--rate", "input=0.8"][..],
        &["sync", list.to_str().unwrap()],
    ] {
        let output = api.daemon.run(&[&["prices"], words].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let admin = api.token("admin");
    let fields = Fields::of(api.get("/api/openapi.json", "").ok());
    let mut asked = Asked { api, admin, fields };
    change(&mut asked);
    ask_everything(&mut asked);
    // That has sent every statement of the API.
    assert!(taken(&asked.api.postgres).len() > 100);
    let Fields { document, asked, documented, filled } = &asked.fields;
    let paths = document["paths"].as_object().unwrap().iter();
    let unasked: Vec<_> = paths
        .filter(|(path, methods)| methods["get"].is_object() && *path != "/metrics" && !asked.contains(*path))
        .map(|(path, _)| path)
        .collect();
    assert!(unasked.is_empty(), "no answer to GET of {unasked:?}: ask it in ask_everything, with its parameters");
    assert!(documented.len() > 300, "only {} fields were found", documented.len());
    let excepted: BTreeSet<String> = UNFILLED.iter().map(|(field, _)| (*field).to_owned()).collect();
    let missing: Vec<_> = documented.difference(filled).filter(|field| !excepted.contains(*field)).collect();
    assert!(
        missing.is_empty(),
        "{} of {} documented fields are filled by no answer: {missing:#?}\nhint: ask for them in change or ask_everything, or \
         say in UNFILLED which other test sees them",
        missing.len(),
        documented.len()
    );
    let needless: Vec<_> =
        excepted.iter().filter(|field| filled.contains(*field) || !documented.contains(*field)).collect();
    assert!(needless.is_empty(), "take these out of UNFILLED, they are filled or no longer there: {needless:?}");
}

/// Makes one of everything that an admin can make.
fn change(asked: &mut Asked) {
    let budgets = "/api/v1/budgets";
    for amount in ["20", "10"] {
        asked.ask("PUT", budgets, budgets, &json!({"period": "day", "amount_usd": amount, "limit": "hard"}));
    }
    let scoped = json!({"scope": {"provider": "claude"}, "period": "month", "amount_usd": "10"});
    asked.ask("PUT", budgets, budgets, &scoped);
    let slip = json!({"scope": {"model": "gpt-of-no-list"}, "period": "month", "amount_usd": "10"});
    asked.ask("PUT", budgets, budgets, &slip);
    asked.api.postgres.until("SELECT count(*) >= 2 FROM api_budget_states", "t");
    asked.api.postgres.until("SELECT count(*) >= 2 FROM api_alerts WHERE attempts > 0", "t");
    // The day's budget is used up.
    let throttles = |found: Value| if found["should_throttle"] == true { Ok(()) } else { Err(found.to_string()) };
    until("the budget is seen to be used up", || throttles(asked.get("/api/v1/budgets")));
    asked.get("/api/admin/costs");
    let alerts = asked.get("/api/v1/alerts");
    asked.post("/api/v1/alerts/acknowledge", json!({"ids": [alerts["alerts"][0]["id"]]}));
    let today = chrono::DateTime::from_timestamp_micros(SystemClock.now_us()).unwrap().date_naive();
    let units =
        json!([{"day": today, "dimension": "app", "value": "web", "unit": "order", "quantity": 3, "revenue_usd": "9"}]);
    // Stated twice, then another quantity.
    for quantity in [3, 3, 4] {
        let mut units = units.clone();
        units[0]["quantity"] = json!(quantity);
        asked.ask("PUT", "/api/v1/units", "/api/v1/units", &json!({"units": units}));
    }
    alert_rules(asked);
    tokens(asked);
    let deploy = json!({"app": "web", "version": "1.4.2", "by": "ada"});
    asked.post("/api/v1/deploys", deploy);
    let price = json!({"provider": "acme", "model": "new", "effective_from": "2026-01-01", "per_million": {"input": "3", "output": "7"},
        "note": "from their page", "source": "https://example.com"});
    asked.post("/api/v1/prices/preview", price.clone());
    let id = asked.post("/api/v1/prices", price)["id"].clone();
    reprice(asked);
    let known = json!({"provider": "claude", "model": "claude-sonnet-4-5", "effective_from": "2025-01-01", "per_million": {"input": "4"}});
    asked.post("/api/v1/prices/preview", known);
    let less = json!({"provider": "acme", "model": "new", "effective_from": "2026-02-01", "per_million": {"output": "8"}, "replace": true});
    asked.post("/api/v1/prices/preview", less);
    asked.ask("DELETE", "/api/v1/prices/{id}", &format!("/api/v1/prices/{id}"), &Value::Null);
    let alias = json!({"provider": "azure", "name": "other", "model": "gpt-4o"});
    asked.ask("PUT", "/api/v1/prices/aliases", "/api/v1/prices/aliases", &alias);
    asked.api.postgres.until("SELECT count(*) FROM tallyd_price_proposals WHERE state = 'open'", "1");
    asked.get("/api/v1/prices/proposal");
    asked.post("/api/v1/prices/proposal/apply", json!({}));
    for budget in [40, 1_000_000] {
        asked.post("/api/admin/budget", json!({"budget": budget}));
    }
    asked.post("/api/admin/rentcast-cost", json!({"costPerRequest": 0.15}));
    let record = json!({"provider": "claude", "model": "claude-sonnet-4-5", "input_tokens": 9});
    asked.post("/api/v1/records", json!([record, {"provider": ""}, {"id": ID, "provider": "rentcast"}]));
    let attributes = json!([{"key": "gen_ai.operation.name", "value": {"stringValue": "invoke_agent"}},
        {"key": "gen_ai.usage.input_tokens", "value": {"intValue": 5}}]);
    let span = json!({"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b101", "kind": 3, "name": "agent",
        "startTimeUnixNano": "1790000000000000000", "endTimeUnixNano": "1790000001250000000", "attributes": attributes});
    asked.post("/v1/traces", json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}));
    closings(asked);
    // A call with everything is amended, and a priced one is voided.
    let correction = json!({"output_tokens": 4, "cost_usd": "0.5", "reason": "counted twice"});
    asked.ask("POST", "/api/v1/calls/{id}/amend", &format!("/api/v1/calls/{ID}/amend"), &correction);
    let priced = asked.api.postgres.psql(
        "SELECT id FROM api_usage_log WHERE price_id IS NOT NULL AND model = 'claude-opus-4-5' ORDER BY occurred_at DESC LIMIT 1",
    );
    let void = format!("/api/v1/calls/{priced}/void");
    asked.ask("POST", "/api/v1/calls/{id}/void", &void, &json!({"reason": "a load test"}));
    asked.ask(
        "POST",
        "/api/v1/calls/{id}/amend",
        &format!("/api/v1/calls/{priced}/amend"),
        &json!({"reason": "it was none"}),
    );
    asked.ask("POST", "/api/v1/calls/{id}/void", &void, &json!({"reason": "it was one"}));
    for id in [ID, &priced] {
        asked.get(&format!("/api/v1/records?id={id}"));
        let path = format!("/api/v1/calls/{id}/amendments?limit=1");
        asked.ask("GET", "/api/v1/calls/{id}/amendments", &path, &Value::Null);
    }
    let letters = asked.get("/api/v1/dead-letters?limit=1000")["dead_letters"].clone();
    let letter = |code: &str| {
        let found = letters.as_array().unwrap().iter().find(|letter| letter["code"] == code);
        found.unwrap_or_else(|| panic!("no {code} in {letters:#}"))["id"].to_string()
    };
    let retry = "/api/v1/dead-letters/{id}/retry";
    let all = "/api/v1/dead-letters/retry";
    for (code, corrections) in [("unknown_field", json!({"unset": ["colour"]})), ("range", json!({}))] {
        let id = letter(code);
        asked.ask("POST", retry, &retry.replace("{id}", &id), &corrections);
        asked.ask("GET", "/api/v1/dead-letters/{id}", &format!("/api/v1/dead-letters/{id}"), &Value::Null);
        asked.post(all, json!({"letters": {"code": code}, "corrections": corrections}));
    }
    asked.post("/api/v1/dead-letters/drop", json!({"code": "range"}));
}

/// Closed days of January 2026, one of each state, and a look that has failed. The daemon has no admin key.
fn closings(asked: &mut Asked) {
    let residue = json!([{"kind": "tier", "model": "m", "workspace": "w", "difference_usd": "1", "note": "n"}]);
    for (number, state, cause) in [(1, "differs", "NULL"), (2, "matched", "NULL"), (3, "open", "'late_calls'")] {
        asked.api.postgres.psql(&format!(
            "INSERT INTO tallyd_vendor_closings VALUES ({number}, 'anthropic', '2026-01-1{number}', '{state}', {cause}, 3, 1, 2, 1, \
             '{residue}', 'ab', '{{1}}', '3 1 2', '2026-01-20Z', 'cd', 'ef{number}')"
        ));
    }
    asked.api.postgres.psql("UPDATE tallyd_vendor_fetches SET tried_at = now(), read_at = now(), error = 'away'");
    asked.get("/api/v1/closings?vendor=anthropic&from=2026-01-01&to=2026-01-31");
}

/// A token with everything that one can have, and a revoked one.
fn tokens(asked: &mut Asked) {
    let path = "/api/v1/tokens";
    let token = json!({"name": "ci", "role": "ingest", "expires_days": 9, "stated_costs": "refuse"});
    let id = asked.post(path, token)["id"].clone();
    asked.ask("DELETE", "/api/v1/tokens/{id}", &format!("{path}/{id}"), &Value::Null);
    asked.get(&format!("{path}?limit=1"));
}

/// A repricing that was begun before, over a period with dropped calls.
fn reprice(asked: &mut Asked) {
    asked.api.postgres.psql(
        "INSERT INTO tallyd_dropped_partitions (partition_name, from_at, to_at, calls, cost_usd, unpriced_calls, actor) \
         VALUES ('p', '2020-01-01Z', '2020-02-01Z', 3, 2, 1, 't')",
    );
    let price =
        json!({"provider": "late", "model": "priced", "effective_from": "2020-01-01", "per_million": {"input": "3"}});
    asked.post("/api/v1/prices", price);
    let scope = json!({"from": "2020-01-01", "to": "2027-12-31", "provider": "late", "skip_dropped": true});
    asked.post("/api/v1/reprice/plan", scope.clone());
    while asked.post("/api/v1/reprice", scope.clone())["done"] != true {}
    asked.api.postgres.psql("UPDATE reprice_jobs SET state = 'running', position = from_at");
    asked.post("/api/v1/reprice", scope);
}

/// Rules of each rollup, one with everything that a rule can have.
fn alert_rules(asked: &mut Asked) {
    let rules = "/api/v1/alert-rules";
    let budgets = asked.get("/api/v1/budgets");
    let budget = budgets["budgets"][0]["id"].clone();
    let rule = |name: &str, filter: Value, window: &str| {
        json!({"name": name, "metric": "cost", "filter": filter, "window": window, "warning": "0.000001", "alert": "1000000",
            "no_data": true, "owner": "platform", "quiet": "22:00-07:00"})
    };
    let burn = json!({"name": "burn", "metric": "burn_rate", "budget_id": budget, "window": "6h", "short_window": "1h", "alert": 6});
    for (name, filter, window) in [
        ("all", json!({}), "24h"),
        ("days", json!({"provider": "claude", "model": "claude-sonnet-4-5"}), "7d"),
        ("team", json!({"tag:team": "search"}), "7d"),
        ("user", json!({"user": "u1", "provider": "claude"}), "7d"),
        ("all", json!({}), "24h"),
    ] {
        asked.ask("PUT", rules, rules, &rule(name, filter, window));
    }
    for _ in 0..2 {
        asked.ask("PUT", rules, rules, &burn);
    }
    let refused = json!({"name": "refused", "metric": "cost", "window": "1h", "alert": 1, "route": "nowhere"});
    assert!(
        asked.ask("PUT", rules, rules, &refused).to_string().contains("none of this name"),
        "an unknown route is refused"
    );
    let is_evaluated =
        "SELECT count(*) = 5 AND count(value) >= 4 AND bool_or(level = 'warning') FROM tallyd_alert_rule_states";
    asked.api.postgres.until(is_evaluated, "t");
    let mut paused = burn;
    paused["paused"] = json!(true);
    asked.ask("PUT", rules, rules, &paused);
    let found = asked.get(rules);
    let gone = found["rules"][1]["id"].to_string();
    asked.ask("DELETE", "/api/v1/alert-rules/{id}", &format!("{rules}/{gone}"), &Value::Null);
}

/// Requests every path without parameters, then those with them.
fn ask_everything(asked: &mut Asked) {
    asked.api.postgres.psql(
        "INSERT INTO tallyd_session_samples SELECT date_trunc('hour', now(), 'UTC'), 4, 3, 2, 1 ON CONFLICT DO NOTHING",
    );
    // One that is not whole yet: the daemon looks for such once a minute.
    asked
        .api
        .postgres
        .psql("INSERT INTO tallyd_dimensions (name, place, counted_from) VALUES ('late', 9, current_date)");
    let paths: Vec<String> = asked.fields.document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(path, methods)| !path.contains('{') && methods["get"].is_object() && *path != "/metrics")
        .map(|(path, _)| path.clone())
        .collect();
    // Today has unpriced calls; the week before may have none.
    let today = chrono::DateTime::from_timestamp_micros(SystemClock.now_us()).unwrap().date_naive();
    asked.get(&format!("/api/v1/report?period=day&of={today}"));
    // Behind many deltas the list of users is as old as its last refresh.
    let waiting = "SELECT count(*) < 1000 FROM (SELECT FROM tallyd_user_deltas_0 UNION ALL SELECT FROM tallyd_user_deltas_1 \
        UNION ALL SELECT FROM tallyd_user_list_due) AS w";
    asked.api.postgres.until(waiting, "t");
    for path in &paths {
        asked.get(path);
    }
    for path in [
        "/api/v1/costs?days=75&group_by=provider,model,endpoint&limit=1",
        "/api/v1/costs?days=75&group_by=user&limit=1",
        "/api/v1/costs?days=30&group_by=app&limit=1",
        "/api/v1/costs/change?app=web",
        "/api/v1/costs/bounds?app=web",
        "/api/v1/costs/bounds?provider=openai",
        "/api/v1/costs/bounds?provider=nobody",
        "/api/v1/units?group_by=app&bucket=day&limit=1",
        "/api/v1/units?group_by=app",
        "/api/v1/records?limit=1",
        "/api/v1/records?request_id=req-1",
        "/api/v1/records?model=gpt-of-no-list",
        "/api/v1/dead-letters?limit=1",
        "/api/v1/audit?limit=1",
        "/api/v1/alerts?limit=1",
        "/api/v1/report?period=month&of=2026-01-31",
        "/api/v1/report?period=day&of=1",
        "/api/v1/users?limit=1",
        "/api/v1/sessions/history?days=90",
        "/api/v1/prices?limit=1",
        "/api/admin/cost-history?days=75",
        "/api/v1/costs?group_by=colour",
    ] {
        asked.get(path);
    }
    let user = "/api/v1/users/{id}";
    asked.ask("GET", user, "/api/v1/users/c4ca4238-a0b9-2382-0dcc-509a6f75849b?days=75", &Value::Null);
    let letter = asked.get("/api/v1/dead-letters?limit=1")["dead_letters"][0]["id"].to_string();
    asked.ask("GET", "/api/v1/dead-letters/{id}", &format!("/api/v1/dead-letters/{letter}"), &Value::Null);
    // Without the database.
    asked.api.postgres.down(Stop::Fast);
    asked.api.daemon.lines(r#"{"provider":"acme","cost_usd":"1"}"#);
    until("the lane has noticed", || match asked.get("/api/v1/pipeline") {
        status
            if status["database"]["lanes"].as_array().unwrap().iter().any(|lane| !lane["trouble"].is_null())
                && status["wal"]["oldest_unflushed_seconds"].as_f64() > Some(0.0)
                && status["health"]["flusher"]["message"].is_string() =>
        {
            Ok(())
        }
        status => Err(status.to_string()),
    });
    asked.get("/readyz");
}
