//! Databases and data folders of older versions are upgraded: no sum changes, and every call is there once.
//!
//! `tests/it/older/` has databases as older versions left them, made by `TALLYD_WRITE_GOLDEN=1 cargo test --test it upgrade::`
//! where a file is missing. `tests/golden/` has a WAL of each format.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tallyd_store::migrate;

use crate::support::daemon::Daemon;
use crate::support::load::Load;
use crate::support::postgres::{Postgres, bin};

const TESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");

/// Calls over five weeks, priced and not, failed and not, of several users and applications.
const CALLS: &str = "SELECT increment_daily_cost((ARRAY['claude', 'openai', 'rentcast'])[1 + n % 3], \
        model => (ARRAY['claude-sonnet-4-5', 'gpt-5', ''])[1 + n % 3], endpoint => CASE n % 3 WHEN 2 THEN '/avm' ELSE '' END, \
        user_id => 'user-' || n % 17, app => 'app-' || n % 4, input_tokens => n, output_tokens => n % 50, \
        cost_usd => CASE WHEN n % 10 > 0 THEN n * 0.000123456789012345 END, status => CASE WHEN n % 25 = 0 THEN 529 ELSE 200 END, \
        occurred_at => '2026-02-10 00:00Z'::timestamptz + n * interval '3 hours', id => md5(n::text)::uuid) \
    FROM generate_series";

/// As a daemon merges a side of the deltas.
const MERGE: &str = "INSERT INTO tallyd_user_days (day, user_id, provider, calls, errors, input_tokens, output_tokens, requests, cost_usd, unpriced_calls) \
        SELECT day, user_id, provider, sum(calls), sum(errors), sum(input_tokens), sum(output_tokens), sum(requests), sum(cost_usd), \
            sum(unpriced_calls) FROM tallyd_user_deltas_0 GROUP BY 1, 2, 3; \
    INSERT INTO tallyd_user_totals (user_id, provider, calls, errors, input_tokens, output_tokens, requests, cost_usd, unpriced_calls, \
            first_call_at, last_call_at) \
        SELECT user_id, provider, sum(calls), sum(errors), sum(input_tokens), sum(output_tokens), sum(requests), sum(cost_usd), \
            sum(unpriced_calls), min(first_call_at), max(last_call_at) FROM tallyd_user_deltas_0 GROUP BY 1, 2; \
    DELETE FROM tallyd_user_deltas_0";

/// The rollups, by tables that every version here has, without the time of their last change.
const SUMS: [&str; 4] = ["daily_api_costs", "hourly_api_costs", "daily_user_api_costs", "user_api_totals"];

struct Older {
    name: &'static str,
    /// The last migration.
    schema: &'static str,
    /// Budgets and alerts as that version wrote them.
    rows: &'static str,
    /// The sums by application.
    apps: &'static str,
}

const OLDER: [Older; 2] = [
    Older {
        name: "v14",
        schema: "V14__by_app_and_hour",
        rows: "INSERT INTO api_budgets (scope, scope_value, period, amount_usd, throttle) VALUES ('global', '', 'month', 100, true), \
                ('user', 'user-1', 'day', 5, false); \
            INSERT INTO api_alerts (kind, key, message, details) VALUES ('budget', 'k', 'm', '{\"scope\": \"user\", \"scope_value\": \"user-1\"}')",
        apps: "SELECT day, app, provider, model, calls, cost_usd FROM daily_app_api_costs ORDER BY 1, 2, 3, 4",
    },
    Older {
        name: "v18",
        schema: "V18__limits",
        rows: "INSERT INTO api_budgets (scope, period, amount_usd, limit_kind) VALUES ('{}', 'month', 100, 'hard'), \
                ('{\"user\": \"user-1\"}', 'day', 5, 'soft'); \
            INSERT INTO api_alerts (kind, key, message, details) VALUES ('budget', 'k', 'm', '{\"scope\": {\"user\": \"user-1\"}}')",
        apps: "SELECT day, value, provider, model, calls, cost_usd FROM daily_dimension_costs WHERE dimension = 'app' ORDER BY 1, 2, 3, 4",
    },
];

impl Older {
    fn file(&self) -> PathBuf {
        Path::new(TESTS).join(format!("it/older/{}.sql.gz", self.name))
    }

    /// The database as that version left it.
    fn database(&self) -> Postgres {
        let postgres = Postgres::start();
        // Roles belong to the server, not to the database.
        postgres.psql("CREATE ROLE tallyd_reader; CREATE ROLE tallyd_writer BYPASSRLS");
        if std::env::var_os("TALLYD_WRITE_GOLDEN").is_some() && !self.file().exists() {
            self.write(&postgres);
        } else {
            shell(
                "gzip -dc \"$1\" | \"$2\" -XAtq -v ON_ERROR_STOP=1 -U postgres -d postgres -h \"$3\"",
                &self.file(),
                "psql",
                &postgres,
            );
        }
        postgres
    }

    fn write(&self, postgres: &Postgres) {
        let schema = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(schema.path(), migrate::script(self.schema).unwrap()).unwrap();
        shell(
            "\"$2\" -XAtq1 -v ON_ERROR_STOP=1 -U postgres -d postgres -h \"$3\" < \"$1\"",
            schema.path(),
            "psql",
            postgres,
        );
        postgres.psql(&format!("{CALLS}(1, 150) AS n"));
        // Later versions keep a list of users beside the totals.
        if self.name == "v14" {
            postgres.psql(MERGE);
        }
        postgres.psql(&format!("{CALLS}(151, 300) AS n"));
        postgres.psql(self.rows);
        // Newer clients begin with commands that older ones do not know.
        let dump =
            "\"$2\" -O -U postgres -d postgres -h \"$3\" | grep -v '^\\\\\\(un\\)\\?restrict' | gzip -9n > \"$1\"";
        shell(dump, &self.file(), "pg_dump", postgres);
    }
}

/// Runs a pipe, with a file, a client program and the server's folder as `$1` to `$3`.
fn shell(line: &str, file: &Path, program: &str, postgres: &Postgres) {
    let mut command = Command::new("bash");
    command.args(["-e", "-o", "pipefail", "-c", line, "bash"]).arg(file).arg(bin(program)).arg(postgres.sockets());
    let output = command.stdout(std::process::Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

fn sums(postgres: &Postgres, apps: &str) -> Vec<String> {
    let rows = |table: &str| {
        format!(
            "SELECT string_agg((to_jsonb(t) - 'updated_at')::text, E'\\n' ORDER BY to_jsonb(t) - 'updated_at') FROM {table} AS t"
        )
    };
    SUMS.iter().map(|table| postgres.psql(&rows(table))).chain([postgres.psql(apps)]).collect()
}

#[track_caller]
fn json(daemon: &Daemon, words: &[&str]) -> Value {
    let output = daemon.run(words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn an_older_database_and_data_folder_keep_every_sum() {
    let golden = Path::new(TESTS).join("golden/wal-v3");
    let expected: Value = serde_json::from_slice(&std::fs::read(golden.join("expected.json")).unwrap()).unwrap();
    for older in &OLDER {
        let postgres = older.database();
        let before = sums(&postgres, older.apps);
        assert!(before.iter().all(|rows| rows.lines().count() > 10), "{before:?}");
        let mut daemon = Daemon::on(&postgres.url());
        let applied = json(&daemon, &["migrate", "--json"])["applied"].clone();
        assert!(applied.to_string().contains("V19__views_and_archives"), "{applied}");
        assert_eq!(applied.to_string().contains("V18__limits"), older.name == "v14", "{applied}");
        assert_eq!(sums(&postgres, OLDER[1].apps), before, "{}", older.name);
        daemon.assert_reconciled();

        std::fs::create_dir_all(daemon.data()).unwrap();
        let mut tar = Command::new("tar");
        tar.arg("-xzf").arg(golden.join("wal.tar.gz")).args(["--no-same-owner", "-C"]).arg(daemon.data());
        assert!(tar.status().unwrap().success());
        daemon.up();
        let more = expected["calls"].as_array().unwrap().len();
        postgres.until_calls(300 + more);
        daemon.until_status("everything is loaded", |status| status["wal"]["unflushed_records"] == 0);
        daemon.assert_reconciled();

        let range = ["--from", "2026-02-01", "--to", "2026-03-31", "--json"];
        for by in ["model", "user", "app", "day"] {
            let costs = json(&daemon, &[&["costs", "--by", by][..], &range].concat());
            let calls: u64 = costs.as_array().unwrap().iter().map(|row| row["calls"].as_u64().unwrap()).sum();
            let total =
                "SELECT count(*) FROM api_usage_log WHERE occurred_at >= '2026-02-01Z' AND occurred_at < '2026-04-01Z'";
            assert_eq!(calls.to_string(), postgres.psql(total), "{by}: {costs:#}");
        }
        let budgets = json(&daemon, &["budgets", "list", "--json"]);
        let kinds = budgets.as_array().unwrap().iter().map(|budget| {
            let scope = if budget["scope"] == serde_json::json!({ "user": "user-1" }) { "user" } else { "all" };
            format!("{scope} {}", budget["limit"].as_str().unwrap_or_default())
        });
        let mut kinds: Vec<String> = kinds.collect();
        kinds.sort();
        assert_eq!(kinds, ["all hard", "user soft"], "{budgets:#}");
        let scopes = postgres.psql("SELECT details -> 'scope' FROM api_alerts WHERE key = 'k'");
        assert_eq!(scopes, "{\"user\": \"user-1\"}");
    }
}

#[test]
fn two_daemons_that_start_on_an_older_database_both_load() {
    let postgres = OLDER[1].database();
    let mut daemons = [Daemon::on(&postgres.url()), Daemon::on(&postgres.url())];
    daemons.iter_mut().for_each(Daemon::spawn);
    daemons.iter_mut().for_each(Daemon::until_accepting);
    let load = Load::start(&daemons[0].socket(), 2);
    let line = "{\"provider\":\"rentcast\",\"endpoint\":\"/avm\"}\n";
    let answers = daemons[1].lines(&line.repeat(200));
    assert!(answers.iter().all(|answer| answer["ok"] == true), "{answers:?}");
    load.until_acked(500);
    let sent = load.finish().records();
    postgres.until_calls(500 + usize::try_from(sent).unwrap());
    assert_eq!(postgres.psql("SELECT count(*) = count(DISTINCT version) FROM tallyd_schema_history"), "t");
    daemons[0].assert_reconciled();
    // A newer version migrates the database under them: they go on loading, and hold only once they are started anew.
    postgres.psql("INSERT INTO tallyd_schema_history VALUES (9999, 'of_tomorrow', now()::text, '1')");
    daemons[1].lines(line);
    postgres.until_calls(501 + usize::try_from(sent).unwrap());
    for words in [&["reconcile"][..], &["migrate"], &["costs"], &["budgets", "set", "1"], &["backup", "b"]] {
        let output = daemons[0].run(words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
        assert!(said.contains("V9999__of_tomorrow") && said.contains("run a newer tallyd"), "{words:?}: {said}");
    }
}
