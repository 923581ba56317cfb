//! Refused commands: the error states the cause, a hint helps, and nothing has changed.

use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;

/// A command, its exit code, and texts of its error and its hint.
type Refused = (&'static [&'static str], i32, &'static str, &'static str);

const REFUSED: [Refused; 18] = [
    (&["budgets", "set", "-1"], 1, "a budget is not negative", "hint: give an amount in USD"),
    (&["budgets", "set", "5", "--for", "user"], 2, "expected DIMENSION=NAME", "try '--help'"),
    (
        &["budgets", "set", "5", "--for", "user=a", "--for", "model=m"],
        1,
        "no rollup tells",
        "hint: a scope is a provider",
    ),
    (
        &["budgets", "set", "5", "--for", "user=a", "--for", "user=b"],
        1,
        "names a dimension twice",
        "hint: a call has one",
    ),
    (&["budgets", "set", "5", "--warning", "101"], 2, "101 is not in 0..=100", "try '--help'"),
    (&["budgets", "remove", "9", "--yes"], 1, "there is no budget 9", "hint: `tallyd budgets list`"),
    (&["budgets", "remove", "9"], 2, "was not confirmed", "hint: --dry-run shows"),
    (&["prices", "alias", "claude", "fast", "no-such"], 1, "\"no-such\", which has no price", "`tallyd prices set`"),
    (&["prices", "alias", "claude", " ", "claude-haiku-4-5"], 1, "name is empty", "hint: `tallyd prices alias claude"),
    (&["prices", "alias", "claude", "fast", "--remove", "--yes"], 1, "\"fast\" is not a name", "alias --list` shows"),
    (&["token", "create", "--name", "", "--role", "read"], 1, "a name has 1 to", "as in `--name grafana`"),
    (
        &["token", "create", "--name", "a", "--role", "admin", "--stated-costs", "refuse"],
        1,
        "limit a token of the role ingest",
        "hint: leave --stated-costs out",
    ),
    (&["token", "revoke", "9", "--yes"], 1, "no token 9 is in force", "hint: `tallyd token list`"),
    (&["users", "forget", "u-1"], 2, "was not confirmed", "hint: --dry-run shows"),
    (&["users", "forget", "", "--yes"], 2, "a value is required for '<ID>'", "try '--help'"),
    (&["partitions", "drop", "--before", "2027-01-01"], 2, "was not confirmed", "hint: --dry-run shows"),
    (
        &["partitions", "ensure", "--from", "2026-03-02", "--to", "2026-03-01"],
        1,
        "--from must be before --to",
        "hint: --to is the first instant that is left out",
    ),
    (&["partitions", "ensure", "--from", "march", "--to", "2026-03-01"], 2, "march", "try '--help'"),
];

#[test]
fn what_is_refused_says_why_and_what_helps_and_changes_nothing() {
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).start();
    daemon.lines("{\"provider\":\"rentcast\",\"user_id\":\"u-1\",\"occurred_at\":\"2026-03-05T00:00:00Z\"}\n");
    postgres.until_calls(1);
    let all = "SELECT (SELECT count(*) FROM api_budgets), (SELECT count(*) FROM tallyd_model_aliases), \
        (SELECT count(*) FROM tallyd_tokens), (SELECT count(*) FROM api_usage_log WHERE user_id = 'u-1'), \
        (SELECT count(*) FROM tallyd_audit_log), (SELECT count(*) FROM tallyd_partitions())";
    let before = postgres.psql(all);
    for (arguments, code, says, helps) in REFUSED {
        let output = daemon.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains("error: ") && said.contains(says) && said.contains(helps), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
        assert_eq!(postgres.psql(all), before, "{arguments:?}");
    }
}
