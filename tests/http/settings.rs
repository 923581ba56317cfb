//! Settings that no other test changes. Each must have an effect. `tests/house/settings.rs` has the list of all keys.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tallyd_base::clock::{Clock, SystemClock};
use tallyd_client::{Endpoint, HelloOptions, Session};

use crate::client::{Api, free_address};
use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;
use crate::support::{PATIENCE, secret, until};

/// `md5('1')::uuid`.
const USER: &str = "c4ca4238-a0b9-2382-0dcc-509a6f75849b";
const TOKEN: &str = "a-token-that-nobody-guesses";

const SETTINGS: &[(&str, &str)] = &[
    ("TALLYD_LISTEN_SOCKET_MODE", "0600"),
    ("TALLYD_LISTEN_TCP_TOKENS", TOKEN),
    ("TALLYD_LISTEN_MAX_STRANGERS", "4"),
    ("TALLYD_LISTEN_MAX_FRAME_BYTES", "4096"),
    ("TALLYD_LISTEN_MAX_FRAME_RECORDS", "2"),
    ("TALLYD_LISTEN_MAX_LINE_BYTES", "1024"),
    ("TALLYD_LISTEN_HELLO_TIMEOUT_MS", "2000"),
    ("TALLYD_LIMITS_TEXT_BYTES", "80"),
    ("TALLYD_LIMITS_METADATA_BYTES", "256"),
    ("TALLYD_LIMITS_EXTRA_UNITS", "1"),
    ("TALLYD_LIMITS_OCCURRED_AT_MIN", "2020-01-01T00:00:00Z"),
    ("TALLYD_LIMITS_AHEAD_MS", "172800000"),
    ("TALLYD_LIMITS_STRIP_QUERY", "false"),
    ("TALLYD_LIMITS_STATED_COST_MAX_USD", "5"),
    ("TALLYD_WAL_MAX_IDENTITIES", "1000"),
    ("TALLYD_ROLLUP_MAX_ENDPOINTS_PER_DAY", "1"),
    ("TALLYD_ROLLUP_MAX_APPS_PER_DAY", "1"),
    ("TALLYD_LOG_TABLE_PARTITIONS_AHEAD", "7"),
    ("TALLYD_DEAD_LETTERS_BYTES_PER_DAY", "60000"),
    ("TALLYD_DEAD_LETTERS_TOTAL_BYTES_PER_DAY", "90000"),
    ("TALLYD_USERS_TABLE", "public.people"),
    ("TALLYD_USERS_ID_COLUMN", "uid"),
    ("TALLYD_USERS_COLUMNS", "nick"),
    ("TALLYD_USERS_TIER_COLUMN", "plan"),
    ("TALLYD_USERS_SESSION_MAX_IDLE_MINUTES", "20"),
    ("TALLYD_USERS_SESSION_MAX_AGE_MINUTES", "60"),
    ("TALLYD_HTTP_ANALYSIS_ENDPOINT", "/analyse"),
    ("TALLYD_HTTP_MAX_CONNECTIONS_PER_ADDRESS", "4"),
    ("TALLYD_HTTP_STATEMENT_TIMEOUT_MS", "3000"),
    ("TALLYD_OTLP_INPUT_INCLUDES_CACHED", "false"),
    ("TALLYD_PRICING_RENTCAST_PLAN", "scale"),
    ("TALLYD_PRICE_SYNC_PROVIDERS", "openai"),
    ("TALLYD_PRICE_SYNC_INTERVAL_HOURS", "2"),
    ("TALLYD_LOG_FORMAT", "json"),
];

/// A daemon with few settings at their defaults.
struct Changed {
    api: Api,
    socket: PathBuf,
    tcp: String,
    admin: String,
    _home: tempfile::TempDir,
}

impl Changed {
    fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let (socket, list, file) =
            (home.path().join("other.sock"), home.path().join("list.json"), home.path().join("config.toml"));
        let entry = |provider: &str| json!({"litellm_provider": provider, "input_cost_per_token": 9e-7, "output_cost_per_token": 1e-6});
        let prices = json!({"claude-opus-4-5": entry("anthropic"), "gpt-4o": entry("openai")});
        std::fs::write(&list, prices.to_string()).unwrap();
        let pricing = "[pricing]\nprices = [{ provider = \"acme\", model = \"m\", per_million = { input = \"2\" } }]\n\
            aliases = [{ provider = \"acme\", name = \"my-deployment\", model = \"m\" }]\n";
        std::fs::write(&file, format!("{pricing}[price_sync]\nlist = \"{}\"\n", list.display())).unwrap();
        let tcp = free_address();
        let (socket_path, file_path) = (socket.display().to_string(), file.display().to_string());
        let mut settings = SETTINGS.to_vec();
        settings.extend([
            ("TALLYD_CONFIG", file_path.as_str()),
            ("TALLYD_LISTEN_SOCKET", &socket_path),
            ("TALLYD_LISTEN_TCP", &tcp),
        ]);
        let api = Api::with(&settings);
        let admin = api.token("admin");
        Self { api, socket, tcp, admin, _home: home }
    }

    /// Sends lines, and returns the answers.
    fn lines(&self, lines: &[Value]) -> Vec<Value> {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(lines.iter().map(|line| format!("{line}\n")).collect::<String>().as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        BufReader::new(stream).lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
    }

    fn get(&self, path: &str) -> Value {
        self.api.get(path, &self.admin).ok()
    }
}

#[test]
fn a_daemon_with_other_settings_does_otherwise() {
    let mut changed = Changed::start();
    listeners(&changed);
    records(&changed);
    tables(&changed);
    letters(&changed);
    users(&changed);
    answers(&changed);
    prices(&mut changed);
}

fn listeners(changed: &Changed) {
    assert_eq!(std::fs::metadata(&changed.socket).unwrap().permissions().mode() & 0o777, 0o600);
    let options = HelloOptions { secret: secret("p"), read_timeout: Some(PATIENCE), ..HelloOptions::new("p") };
    let session = Session::connect(&Endpoint::unix(&changed.socket), options).unwrap();
    assert_eq!((session.welcome().max_frame_bytes, session.welcome().max_records), (4096, 2));
    // A silent connection is closed before the default's ten seconds.
    let (mut silent, asked) = (UnixStream::connect(&changed.socket).unwrap(), Instant::now());
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
    assert!(asked.elapsed() < Duration::from_secs(9), "{:?}", asked.elapsed());
    // Past the bound of one address, a connection that has sent nothing for a moment is displaced. The default bound is
    // higher than the number of these connections.
    for (address, code) in [(&changed.tcp, "displaced"), (&changed.api.address, "http_displaced")] {
        let line = format!("tallyd_protocol_errors_total{{code=\"{code}\"}} ");
        let mut crowd = Vec::new();
        until("the one that was waited for is gone", || {
            if crowd.len() == 40 {
                crowd.clear();
            }
            crowd.push(TcpStream::connect(address).unwrap());
            let metrics = changed.api.daemon.metrics();
            if metrics.lines().any(|found| found.starts_with(&line)) { Ok(()) } else { Err(metrics) }
        });
    }
    let log = changed.api.daemon.log();
    assert!(log.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{log}");
}

fn records(changed: &Changed) {
    let tomorrow = chrono::DateTime::from_timestamp_micros(SystemClock.now_us() + 86_400_000_000).unwrap().to_rfc3339();
    for (record, field) in [
        (json!({"provider": "acme", "model": "x".repeat(81)}), "model"),
        (json!({"provider": "acme", "metadata": {"text": "x".repeat(260)}}), "metadata"),
        (json!({"provider": "acme", "extra_units": {"a": 1, "b": 2}}), "extra_units"),
        (json!({"provider": "acme", "occurred_at": "2019-06-01T00:00:00Z"}), "occurred_at"),
        (json!({"provider": "acme", "cost_usd": "6"}), "cost_usd"),
        (json!({"provider": "acme", "occurred_at": tomorrow}), ""),
        (json!({"provider": "acme", "model": "x".repeat(80)}), ""),
    ] {
        let answer = &changed.lines(std::slice::from_ref(&record))[0];
        assert_eq!(answer["error"]["field"].as_str().unwrap_or_default(), field, "{record}: {answer}");
    }
    let long = &changed.lines(&[json!({"provider": "x".repeat(1100)})])[0];
    assert!(long["error"]["message"].as_str().unwrap().contains("1024"), "{long}");
    let stated: Vec<_> = (0..1_500)
        .map(|n| json!({"id": format!("44444444-4444-4444-8444-44444444{n:04}"), "provider": "acme", "cost_usd": "0"}))
        .collect();
    assert!(changed.lines(&stated).iter().all(|answer| answer["ok"] == true));
    let status = changed.api.daemon.status().unwrap();
    assert!(status["wal"]["identities"]["forgotten_early"].as_u64().unwrap() > 0, "{status:#}");
}

fn tables(changed: &Changed) {
    let postgres = &changed.api.postgres;
    for (endpoint, app, calls) in [("/a?x=1", "web", 1), ("/b", "cron", 2)] {
        changed.lines(&[json!({"provider": "rentcast", "endpoint": endpoint, "user_id": USER, "app": app})]);
        postgres.until("SELECT count(*) FROM api_usage_log WHERE provider = 'rentcast'", &calls.to_string());
    }
    let endpoints = |table: &str| {
        postgres.psql(&format!(
            "SELECT string_agg(endpoint, ' ' ORDER BY endpoint COLLATE \"C\") FROM {table} WHERE provider = 'rentcast'"
        ))
    };
    assert_eq!(endpoints("api_usage_log"), "/a?x=1 /b");
    assert_eq!(endpoints("daily_api_costs"), "(other) /a?x=1");
    let apps = "SELECT string_agg(value, ' ' ORDER BY value COLLATE \"C\") FROM daily_dimension_costs WHERE dimension = 'app' AND provider = 'rentcast'";
    assert_eq!(postgres.psql(apps), "(other) web");
    let ahead = "SELECT count(*) >= 8 FROM pg_inherits WHERE inhparent = 'api_usage_log'::regclass";
    postgres.until(ahead, "t");
}

/// One sender's refusals are kept up to its bound, and those of all senders up to theirs.
fn letters(changed: &Changed) {
    let wrong = |n: usize| json!({"provider": "acme", "colour": format!("{n:0900}")});
    let lines: Vec<_> = (0..100).map(wrong).collect();
    changed.lines(&lines);
    let body = json!(lines).to_string();
    assert_eq!(changed.api.post("/api/v1/records", &changed.admin, &body).status, 422);
    let postgres = &changed.api.postgres;
    postgres.until("SELECT sum(refused) >= 200 FROM tallyd_refusals", "t");
    let kept = |which: &str| {
        let sql = format!("SELECT sum(octet_length(payload)) FROM dead_letters WHERE {which}");
        postgres.psql(&sql).parse::<i64>().unwrap()
    };
    let (own, all) = (kept("producer = ''"), kept("true"));
    assert!((59_000..=60_000).contains(&own), "{own}");
    assert!((89_000..=90_000).contains(&all), "{all}");
}

fn users(changed: &Changed) {
    changed.api.postgres.psql(
        "CREATE TABLE public.people (uid uuid, nick text, plan text); \
         INSERT INTO public.people VALUES (md5('1')::uuid, 'Ada', 'pro'); \
         CREATE SCHEMA auth; \
         CREATE TABLE auth.users (id uuid, email text, created_at timestamptz, last_sign_in_at timestamptz, \
             deleted_at timestamptz, banned_until timestamptz); \
         CREATE TABLE auth.sessions (user_id uuid, created_at timestamptz, refreshed_at timestamp, not_after timestamptz); \
         INSERT INTO auth.users (id) VALUES (md5('1')::uuid); \
         INSERT INTO auth.sessions VALUES (md5('1')::uuid, now(), NULL, NULL), \
             (md5('1')::uuid, now() - interval '30 minutes', NULL, NULL), \
             (md5('1')::uuid, now() - interval '2 hours', now() AT TIME ZONE 'UTC', NULL)",
    );
    changed.lines(&[json!({"provider": "claude", "endpoint": "/analyse", "user_id": USER})]);
    changed.api.postgres.until("SELECT count(*) FROM api_usage_log WHERE endpoint = '/analyse'", "1");
    let found = changed.get("/api/v1/users");
    assert_eq!((&found["joined"], &found["users"][0]["shown"]), (&json!(true), &json!("Ada")), "{found}");
    let stats = changed.get("/api/admin/user-stats");
    assert_eq!(stats[0]["analysisCalls"], 1, "{stats}");
    let metrics = changed.get("/api/admin/metrics");
    assert_eq!(metrics["activeSessions"], 1, "one is idle for too long, one is too old: {metrics}");
    assert!(metrics["sessions"]["byTier"]["pro"].is_i64(), "{metrics}");
}

fn answers(changed: &Changed) {
    let mut other = changed.api.postgres.session();
    other.run("BEGIN; LOCK TABLE daily_api_costs IN ACCESS EXCLUSIVE MODE");
    let asked = Instant::now();
    let answer = changed.api.get("/api/v1/costs", &changed.admin);
    assert_eq!((answer.status, answer.code().as_str()), (503, "too_slow"));
    assert!(asked.elapsed() < Duration::from_secs(14), "the default is 15 s: {:?}", asked.elapsed());
    drop(other);
    let text = |value: &str| json!({"stringValue": value});
    let attributes: Vec<_> = [
        ("gen_ai.operation.name", text("chat")),
        ("gen_ai.provider.name", text("anthropic")),
        ("gen_ai.request.model", text("claude-sonnet-4-5")),
        ("gen_ai.usage.input_tokens", json!({"intValue": 1000})),
        ("gen_ai.usage.output_tokens", json!({"intValue": 5})),
        ("gen_ai.usage.cache_read.input_tokens", json!({"intValue": 400})),
    ]
    .into_iter()
    .map(|(key, value)| json!({"key": key, "value": value}))
    .collect();
    let now = format!("{}000", SystemClock.now_us());
    let span = json!({"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b101", "kind": 3, "name": "chat",
        "startTimeUnixNano": now, "endTimeUnixNano": now, "attributes": attributes});
    let body = json!({"resourceSpans": [{"scopeSpans": [{"scope": {"name": "test"}, "spans": [span]}]}]});
    assert_eq!(changed.api.post("/v1/traces", &changed.admin, &body.to_string()).ok(), json!({}));
    changed.api.postgres.until("SELECT input_tokens FROM api_usage_log WHERE cache_read_tokens = 400", "1000");
}

fn prices(changed: &mut Changed) {
    let pricing = changed.get("/api/admin/pricing");
    assert_eq!(pricing["rentcast"]["costPerRequest"], pricing["rentcast"]["plans"]["scale"]["overage"]);
    for model in ["m", "my-deployment"] {
        let answer = &changed.lines(&[json!({"provider": "acme", "model": model, "input_tokens": 1_000_000})])[0];
        assert_eq!(answer["cost_usd"], "2", "{model}: {answer}");
    }
    let postgres = &changed.api.postgres;
    postgres.until("SELECT count(*) FROM tallyd_price_proposals WHERE state = 'open'", "1");
    let proposal = changed.get("/api/v1/prices/proposal");
    let changes = proposal["proposal"]["changes"].as_array().unwrap_or_else(|| panic!("{proposal}"));
    assert!(!changes.is_empty() && changes.iter().all(|change| change["provider"] == "openai"), "{proposal}");
    // By the default it would not be due for a day.
    postgres.psql("UPDATE tallyd_price_sync SET tried_at = now() - interval '3 hours'");
    changed.api.daemon.kill();
    changed.api.daemon.up();
    changed.api.postgres.until("SELECT tried_at > now() - interval '1 hour' FROM tallyd_price_sync", "t");
}

/// Syncs of the WAL from the daemon's start to its end, with one group of records after the other.
fn syncs(folder: &Path, settings: &[(&str, &str)]) -> usize {
    let trace = folder.join(settings.len().to_string());
    let mut daemon = Daemon::on(&Postgres::stopped().url());
    settings.iter().for_each(|(name, value)| daemon.set(name, value));
    let words = ["strace", "-D", "-f", "-qq", "-e", "trace=fdatasync,fsync", "-o"];
    daemon.wrap(words.into_iter().map(Into::into).chain([trace.display().to_string()]).collect());
    let mut daemon = daemon.start();
    for _ in 0..40 {
        assert_eq!(daemon.lines(r#"{"provider":"acme","cost_usd":"1"}"#)[0]["ok"], true);
    }
    daemon.kill();
    std::fs::read_to_string(trace).unwrap().lines().filter(|line| line.contains("sync(")).count()
}

#[test]
fn the_log_is_synced_as_often_as_the_setting_says() {
    let folder = tempfile::tempdir().unwrap();
    let always = syncs(folder.path(), &[]);
    let never = syncs(folder.path(), &[("TALLYD_WAL_SYNC", "os")]);
    let seldom = syncs(folder.path(), &[("TALLYD_WAL_SYNC", "interval"), ("TALLYD_WAL_INTERVAL_MS", "60000")]);
    assert!(always >= never + 40, "{always} syncs, {never} without");
    assert!(always >= seldom + 35, "{always} syncs, {seldom} once a minute");
}

#[test]
fn the_private_clusters_programs_are_looked_for_where_the_setting_says() {
    let mut daemon = Daemon::embedded().with("TALLYD_DATABASE_EMBEDDED_BIN_DIR", "/nowhere/at/all");
    daemon.spawn();
    until(
        "it is not found there",
        || {
            if daemon.log().contains("/nowhere/at/all") { Ok(()) } else { Err(daemon.log()) }
        },
    );
}
