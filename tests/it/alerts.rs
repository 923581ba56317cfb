//! Alert rules and reports: the messages of each kind of receiver, and their number.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::network::Authority;
use crate::support::postgres::Postgres;
use crate::support::{bound_to_us, until};

/// A request that a receiver has taken.
#[derive(Clone)]
struct Taken {
    path: String,
    headers: BTreeMap<String, String>,
    text: String,
}

impl Taken {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }
}

/// Webhooks of each kind, by path. It answers 202, but for `/hangs`, which never answers, and `/refuses`.
struct Receivers {
    url: String,
    taken: Arc<Mutex<Vec<Taken>>>,
}

impl Receivers {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let taken = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&taken);
        // The threads end with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (kept, mut stream) = (Arc::clone(&kept), stream.unwrap());
                std::thread::spawn(move || {
                    let found = read(BufReader::new(stream.try_clone().unwrap()));
                    if found.path == "/hangs" {
                        loop {
                            std::thread::park();
                        }
                    }
                    let status = if found.path == "/refuses" { "500 Oops" } else { "202 Accepted" };
                    kept.lock().unwrap().push(found);
                    // The daemon may have been killed.
                    let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                });
            }
        });
        Self { url, taken }
    }

    fn at(&self, path: &str) -> Vec<Taken> {
        self.taken.lock().unwrap().iter().filter(|taken| taken.path == path).cloned().collect()
    }
}

fn read(mut reader: impl BufRead) -> Taken {
    let (mut line, mut headers) = (String::new(), BTreeMap::new());
    reader.read_line(&mut line).unwrap();
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    line.clear();
    while reader.read_line(&mut line).unwrap_or(0) > 2 {
        if let Some((name, value)) = line.split_once(':') {
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        line.clear();
    }
    let bytes = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; bytes];
    reader.read_exact(&mut body).unwrap();
    Taken { path, headers, text: String::from_utf8(body).unwrap() }
}

/// Real mail servers: `tests/it/smtp_server.py`.
struct Mail {
    child: Child,
    ports: Value,
    folder: tempfile::TempDir,
}

impl Mail {
    fn start(authority: &Authority) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = Command::new(root.join("scripts/need-smtp")).stderr(Stdio::inherit()).output().unwrap();
        assert!(python.status.success(), "scripts/need-smtp");
        let folder = tempfile::Builder::new().prefix("tallyd-it-").tempdir().unwrap();
        let (key, certificate) = authority.sign("localhost", "20200101000000Z", "20400101000000Z");
        let file = |name: &str| folder.path().join(name);
        std::fs::write(file("key"), key).unwrap();
        std::fs::write(file("certificate"), certificate).unwrap();
        std::fs::write(file("mails"), "").unwrap();
        let mut command = bound_to_us(String::from_utf8(python.stdout).unwrap().trim());
        command.arg(root.join("tests/it/smtp_server.py")).args([file("mails"), file("certificate"), file("key")]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ports = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        Self { child, ports, folder }
    }

    fn taken(&self, server: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("mails")).unwrap();
        let mails = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        mails.filter(|mail| mail["server"] == server).collect()
    }
}

impl Drop for Mail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The key behind it is 24 bytes.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn set(daemon: &Daemon, arguments: &[&str]) {
    let output = daemon.run(&[&["rules", "set"], arguments].concat());
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[track_caller]
fn until_taken<T>(what: &str, count: usize, taken: impl Fn() -> Vec<T>) -> Vec<T> {
    until(what, || match taken() {
        // At least once: a daemon that waits too long for its answer sends a message again.
        taken if taken.len() >= count => Ok(taken),
        taken => Err(format!("{} of {count}", taken.len())),
    })
}

fn verify(taken: &Taken) {
    let header = |name: &str| taken.headers[name].as_str();
    let signed = format!("{}.{}.{}", header("webhook-id"), header("webhook-timestamp"), taken.text);
    let key = STANDARD.decode(SECRET.strip_prefix("whsec_").unwrap()).unwrap();
    let tag = STANDARD.decode(header("webhook-signature").strip_prefix("v1,").unwrap()).unwrap();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key);
    ring::hmac::verify(&key, signed.as_bytes(), &tag).expect("the signature is of this text");
}

/// The configuration file of both daemons.
fn configured(folder: &Path, receivers: &Receivers, mail: &Mail, authority: &Authority, quiet: &str) -> String {
    std::fs::write(folder.join("hook-key"), format!("{SECRET}\n")).unwrap();
    let (url, file) = (&receivers.url, folder.display());
    let mails = |name: &str| {
        format!(
            "{{ name = \"{name}\", kind = \"email\", url = \"{name}://bot@example.com@localhost:{}\", secret = \"env:MAIL_PASSWORD\", \
             ca_file = \"{}\", from = \"tallyd <bot@example.com>\", to = [\"Ada <ada@example.com>\", \"b@example.com\"] }}",
            mail.ports[name],
            authority.certificate().display()
        )
    };
    let text = format!(
        "[alerts]\nwebhook_url = \"{url}/slack\"\nroutes = [\n\
         {{ name = \"teams\", kind = \"teams\", url = \"{url}/teams\" }},\n\
         {{ name = \"pager\", kind = \"pagerduty\", url = \"{url}/pager\", secret = \"a routing key\" }},\n\
         {{ name = \"hook\", kind = \"webhook\", url = \"{url}/hook\", secret = \"file:{file}/hook-key\" }},\n\
         {{ name = \"hangs\", kind = \"slack\", url = \"{url}/hangs\" }},\n\
         {{ name = \"refuses\", kind = \"slack\", url = \"{url}/refuses\" }},\n\
         {{ name = \"quiet\", kind = \"slack\", url = \"{url}/quiet\", quiet = \"{quiet}\" }},\n{},\n{}]\n\
         [reports]\ndaily = [\"hook\", \"smtp\"]\nweekly = [\"quiet\"]\nmonthly = [\"quiet\"]\nat = \"00:00\"\n",
        mails("smtp"),
        mails("smtps")
    );
    let path = folder.join("config.toml");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn each_receiver_is_told_once_of_a_rule_and_of_its_end_and_a_report_has_the_rollups_sums() {
    let (postgres, receivers, authority) = (Postgres::start(), Receivers::start(), Authority::new());
    let mail = Mail::start(&authority);
    let home = tempfile::Builder::new().prefix("tallyd-it-").tempdir().unwrap();
    // Hours around now.
    let quiet = postgres.psql("SELECT extract(hour FROM now() AT TIME ZONE 'UTC') < 12") == "t";
    let quiet = if quiet { "00:00-23:00" } else { "02:00-01:00" };
    let config = configured(home.path(), &receivers, &mail, &authority, quiet);
    let daemon = || {
        Daemon::on(&postgres.url())
            .with("TALLYD_CONFIG", &config)
            .with("MAIL_PASSWORD", "a password")
            .with("TALLYD_ALERTS_INTERVAL_MS", "30")
            .with("TALLYD_ALERTS_RETRY_MIN_MS", "20")
    };
    let mut first = daemon();
    assert!(first.run(&["migrate"]).status.success());
    // Yesterday and the day before, further back than the window of any rule of two hours.
    postgres.psql(
        "SELECT increment_daily_cost('claude', model => 'claude-opus-4-5', user_id => 'u' || n, cost_usd => 1.000000000000000001 * n, \
         occurred_at => date_trunc('day', now(), 'UTC') - interval '4 hours' - interval '1 day' * (n % 2)) FROM generate_series(1, 9) n",
    );
    first.up();
    let second = daemon().start();
    reports_have_the_rollups_sums(&postgres, &first, &receivers, &mail);

    let routes = ["default", "teams", "pager", "hook", "smtp", "smtps", "hangs", "refuses"];
    for route in routes {
        let owner = if route == "teams" { "platform" } else { "" };
        set(&first, &[route, "--metric", "cost", "--window", "2h", "--alert", "5", "--route", route, "--owner", owner]);
    }
    // Messages that are not urgent wait.
    set(&first, &["warns", "--metric", "calls", "--window", "2d", "--warning", "1", "--route", "quiet"]);
    set(&first, &["alerts", "--metric", "calls", "--window", "2d", "--alert", "1", "--route", "quiet"]);
    let call = r#"{"provider":"acme","model":"large <!channel>","app":"web","cost_usd":"10.5"}"#;
    assert_eq!(first.lines(call)[0]["ok"], true);
    let begins = |path: &'static str| until_taken(path, 1, || receivers.at(path));
    let sentence = "cost 10.50 USD in 2 hours, from 5.00 USD on";
    let slack = begins("/slack")[0].json();
    let expected = format!(
        "tallyd: rule \"default\", alert: {sentence}; top: \"large &lt;!channel&gt;\" 10.50; largest call 10.50 of \"large &lt;!channel&gt;\""
    );
    assert_eq!(slack, json!({ "text": expected }));
    let teams = begins("/teams")[0].json();
    let run = &teams["attachments"][0]["content"]["body"][0]["inlines"][0]["text"];
    assert!(run.as_str().unwrap().contains("; owner \"platform\"; top: \"large <!channel>\" 10.50"), "{teams}");
    let pager = begins("/pager")[0].json();
    assert_eq!((&pager["event_action"], &pager["payload"]["severity"]), (&json!("trigger"), &json!("critical")));
    assert_eq!((&pager["routing_key"], &pager["dedup_key"]), (&json!("a routing key"), &json!("tallyd/rule/3/1")));
    assert_eq!(pager["payload"]["custom_details"]["calls"][0]["app"], "web");
    let hooks = until_taken("the hook has its report and its alert", 2, || receivers.at("/hook"));
    let hook = hooks[1].json();
    assert_eq!((&hook["type"], &hook["data"]["details"]["value"]), (&json!("rule.trigger"), &json!("10.5")));
    hooks.iter().for_each(verify);
    for (server, before) in [("smtp", 1), ("smtps", 0)] {
        let found = until_taken(server, before + 1, || mail.taken(server)).pop().unwrap();
        assert_eq!((&found["login"], &found["tls"]), (&json!("bot@example.com"), &json!(true)), "{found}");
        assert_eq!(found["to"], json!(["ada@example.com", "b@example.com"]));
        assert!(found["text"].as_str().unwrap().contains(sentence) && found["html"].is_null(), "{found}");
    }
    assert!(begins("/quiet")[0].text.contains("rule \\\"alerts\\\""), "only the urgent one");

    // The end of each, also after one daemon was killed. The hanging and the refusing receiver have kept nobody waiting.
    let known =
        "SELECT count(*) FROM api_alerts WHERE delivered_at IS NULL AND route NOT IN ('hangs', 'refuses', 'quiet')";
    postgres.until(known, "0");
    first.kill();
    for route in routes {
        set(&second, &[route, "--metric", "cost", "--window", "2h", "--alert", "500", "--route", route]);
    }
    let ends = |path: &'static str, count| until_taken(path, count, || receivers.at(path)).pop().unwrap();
    assert!(ends("/slack", 2).text.contains("rule \\\"default\\\", back to normal: cost 10.50 USD in 2 hours"));
    let end = ends("/pager", 2).json();
    assert_eq!((&end["event_action"], &end["dedup_key"]), (&json!("resolve"), &json!("tallyd/rule/3/1")));
    let last = ends("/hook", 3);
    assert_eq!(last.json()["type"], "rule.resolve");
    verify(&last);
    until_taken("smtps", 2, || mail.taken("smtps"));
    postgres.until(known, "0");
    let ids: BTreeSet<String> = receivers.at("/hook").iter().map(|taken| taken.headers["webhook-id"].clone()).collect();
    assert_eq!(ids.len(), 3, "a report, a trigger and its end");
    // Those that were not taken are kept, with the reason, and their ends wait for them.
    postgres.until("SELECT max(last_error) FROM api_alerts WHERE route = 'refuses'", "127.0.0.1 answered 500");
    postgres.until("SELECT sum(attempts) FROM api_alerts WHERE route = 'refuses' AND event = 'resolve'", "0");
    assert!(postgres.psql("SELECT max(attempts) FROM api_alerts WHERE route = 'refuses'").parse::<i32>().unwrap() > 1);
    assert_eq!(postgres.psql("SELECT count(*) FROM api_alerts WHERE route = 'quiet' AND attempts = 0"), "3");
    tests_of_routes(&second, &receivers);
    removed_rules_end(&postgres, &second, &receivers);
    assert!(!second.log().contains("a routing key") && !second.log().contains("a password"), "secrets");
}

fn reports_have_the_rollups_sums(postgres: &Postgres, daemon: &Daemon, receivers: &Receivers, mail: &Mail) {
    let hook = until_taken("the hook has a report", 1, || receivers.at("/hook"))[0].json();
    let mail = until_taken("the mail server has a report", 1, || mail.taken("smtp")).pop().unwrap();
    let report = &hook["data"]["details"];
    assert_eq!(hook["type"], "report.notice");
    let sum = |day: &str| {
        postgres
            .psql(&format!("SELECT trim_scale(sum(cost_usd)) FROM daily_api_costs WHERE day = current_date - {day}"))
    };
    assert_eq!(sum("1"), "20.00000000000000002");
    assert_eq!((&report["total"]["cost_usd"], &report["before"]["cost_usd"]), (&json!(sum("1")), &json!(sum("2"))));
    assert_eq!((&report["change_usd"], &report["change_percent"]), (&json!("-5.000000000000000005"), &json!("-20")));
    let users = &report["movers"][1];
    assert_eq!((&users["by"], &users["movers"][0]["name"]), (&json!("user"), &json!("u9")));
    let printed: Value = serde_json::from_slice(&daemon.run(&["report", "--period", "day", "--json"]).stdout).unwrap();
    assert_eq!(&printed, report);
    let (text, html) = (mail["text"].as_str().unwrap(), mail["html"].as_str().unwrap());
    assert!(text.contains("20.00 USD, 5.00 less than the day before (-20 %)"), "{text}");
    assert!(text.contains("Top movers by model\n  \"claude-opus-4-5\": 20.00 USD, -5.00"), "{text}");
    assert!(html.contains("20.00 USD") && mail["subject"].as_str().unwrap().contains("20.00 USD"), "{mail}");
    // Both daemons have looked many times.
    let rows = "SELECT count(*) || ' ' || count(delivered_at) || ' ' || count(acknowledged_by) FROM api_alerts WHERE kind = 'report'";
    postgres.until(rows, "4 2 4");
    let keys = "SELECT string_agg(split_part(key, '/', 1), ' ' ORDER BY key) FROM api_alerts WHERE kind = 'report' AND attempts = 0";
    assert_eq!(postgres.psql(keys), "month week", "reports are not urgent");
}

fn tests_of_routes(daemon: &Daemon, receivers: &Receivers) {
    let before = receivers.at("/pager").len();
    let output = daemon.run(&["alerts", "test", "pager", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(receivers.at("/pager").len(), before + 2, "it begins and ends");
    for (route, says) in [("refuses", "answered 500"), ("nobody", "there are default, teams, pager")] {
        let output = daemon.run(&["alerts", "test", route]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && error.contains(says), "{error}");
    }
    assert!(daemon.run(&["alerts", "test", "smtps"]).status.success());
}

/// A rule that is paused or removed ends its alert, and each rule is as it was set.
fn removed_rules_end(postgres: &Postgres, daemon: &Daemon, receivers: &Receivers) {
    let silent = "silent --metric calls --window 1h --no-data --where provider=nobody --route pager";
    let silent: Vec<&str> = silent.split(' ').collect();
    let told = |action: &str, says: &str, key: &str| {
        until("the pager is told", || {
            let found = receivers.at("/pager").pop().unwrap().json();
            let summary = found["payload"]["summary"].as_str().unwrap();
            let is_it = found["event_action"] == action && summary.contains(says);
            if is_it && found["dedup_key"].as_str().unwrap().ends_with(key) {
                Ok(found)
            } else {
                Err(found.to_string())
            }
        })
    };
    let listed = || {
        let rules: Vec<Value> = serde_json::from_slice(&daemon.run(&["rules", "list", "--json"]).stdout).unwrap();
        rules.into_iter().find(|rule| rule["name"] == "silent").unwrap()
    };
    set(daemon, &silent);
    told("trigger", "no data: no calls", "/1");
    // Paused it ends, and stays silent while all others are evaluated; then it begins anew.
    set(daemon, &[&silent[..], &["--paused"]].concat());
    told("resolve", "tallyd: rule \"silent\" was paused", "/1");
    let evaluated = "SELECT count(*) FROM tallyd_alert_rule_states AS s JOIN tallyd_alert_rules AS r ON r.id = s.rule_id \
        WHERE (NOT paused AND evaluated_at < (SELECT updated_at FROM tallyd_alert_rules WHERE paused)) \
        OR (paused AND evaluated_at > updated_at)";
    postgres.until(evaluated, "0");
    assert_eq!((&listed()["level"], &listed()["paused"]), (&json!("normal"), &json!(true)));
    set(daemon, &silent);
    let found = told("trigger", "no data: no calls", "/2");
    let silent = listed();
    assert_eq!((&silent["level"], &silent["filter"]), (&json!("no_data"), &json!({ "provider": "nobody" })));
    let id = silent["id"].to_string();
    assert!(daemon.run(&["rules", "remove", &id, "--yes"]).status.success());
    let end = until("its end is told", || {
        let end = receivers.at("/pager").pop().unwrap().json();
        if end["event_action"] == "resolve" && end["dedup_key"] == found["dedup_key"] {
            Ok(end)
        } else {
            Err(end.to_string())
        }
    });
    assert_eq!(end["payload"]["summary"], "tallyd: rule \"silent\" was removed");
    let audit = "SELECT string_agg(action, ' ' ORDER BY id) FROM tallyd_audit_log WHERE object = 'silent'";
    assert_eq!(postgres.psql(audit), "alert_rule.set alert_rule.set alert_rule.set alert_rule.remove");
    // A budget takes its rules with it, as visibly.
    assert!(daemon.run(&["budgets", "set", "7", "--period", "week"]).status.success());
    let budget = postgres.psql("SELECT max(id) FROM api_budgets");
    set(
        daemon,
        &[
            "hasty",
            "--metric",
            "burn_rate",
            "--budget",
            &budget,
            "--window",
            "7d",
            "--short-window",
            "1d",
            "--alert",
            "3",
        ],
    );
    assert!(daemon.run(&["budgets", "remove", &budget, "--yes"]).status.success());
    assert_eq!(postgres.psql(&audit.replace("silent", "hasty")), "alert_rule.set alert_rule.remove");
}
