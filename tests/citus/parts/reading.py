"""Parts about those who read: the HTTP API, dashboards and admins by JWT; and SQL that adds calls."""

import datetime
import json
import os
import pathlib
import re
import subprocess
import sys

from daemon import Tallyd
from nodes import until

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests/monitoring"))
import dashboards  # noqa: E402


def questions(users):
    """Every route, with some of its parameters."""
    today = datetime.datetime.now(datetime.timezone.utc).date()
    for back in (59, 5):
        days = f"from={today - datetime.timedelta(days=back)}&to={today}"
        for group in ("", "provider", "model", "endpoint", "user", "app", "provider,model", "user,model"):
            for bucket in ("hour", "day", "week", "month", "total"):
                # Requests that read the call log span a month at most.
                if (bucket == "hour" or group in ("app", "user,model")) and back > 30:
                    continue
                for sort in ("bucket", "cost"):
                    yield f"/api/v1/costs?{days}&bucket={bucket}&sort={sort}&limit=50" + (f"&group_by={group}" if group else "")
        if back <= 30:
            yield f"/api/v1/records?{days}&limit=40"
    for sort in ("cost", "calls", "claude_calls", "rentcast_calls", "last_call", "id"):
        yield f"/api/v1/users?sort={sort}&limit=50"
        yield f"/api/v1/users?sort={sort}&order=asc&limit=20&search=u"
    for user in users:
        yield f"/api/v1/users/{user}"
        yield f"/api/v1/records?user_id={user}&limit=20"
    for path in ("overview", "unpriced", "budgets", "forecast", "dead-letters", "dead-letters/groups", "alerts", "prices", "sessions", "pipeline", "audit"):
        yield f"/api/v1/{path}"


# Fields that differ between daemons, or between moments: a forecast weighs the rest of today by the second.
VOLATILE = re.compile(r'"(?:forecast_usd|expected_usd|low_usd|high_usd|generated_at|as_of|now|age_ms|updated_at|seen_at|created_at|at|id|next|cursor|committed_since_start|took_ms|since|evaluated_at|changed_at)":\s*(?:"[^"]*"|[0-9.]+|null)')


def answered(world):
    """Every route and command answers as it does on a plain PostgreSQL with the same rows."""
    server = world.cluster.coordinator
    server.psql("CREATE DATABASE plain", database="postgres")
    url = server.url().replace("/tally?", "/plain?")
    plain = Tallyd(world.tallyd.program, world.tallyd.home / "plain", url)
    plain.run("migrate")
    first = world.psql("SELECT min(from_at)::date FROM tallyd_partitions()")
    plain.run("partitions", "ensure", "--from", first, "--to", "2028-01-01")
    # On Citus the list of users is as old as its last refresh.
    waiting = ["tallyd_user_deltas_0", "tallyd_user_deltas_1", "tallyd_user_list_due"]
    rows = " UNION ALL ".join(f"SELECT 1 FROM {table}" for table in waiting)
    until("the list of users has every call", lambda: world.count(f"SELECT count(*) FROM ({rows}) AS w") == 0)
    rollups = ["daily_api_costs", "daily_dimension_costs", "hourly_api_costs", "tallyd_user_days", "tallyd_user_totals", "tallyd_user_list"]
    dropped = [f"tallyd_dropped_{what}" for what in ("costs", "dimension_costs", "hour_costs", "user_costs", "totals")]
    for table in ["api_usage_log", *rollups, *waiting, *dropped]:
        pipe = f"'{server.programs}/psql' -XAtq -h 127.0.0.1 -p {server.port} -U postgres"
        copy = f"""{pipe} -d tally -c 'COPY (SELECT * FROM {table}) TO STDOUT' | {pipe} -d plain -v ON_ERROR_STOP=1 -c 'COPY {table} FROM STDIN'"""
        subprocess.run(["bash", "-o", "pipefail", "-c", copy], check=True)
    plain.start()
    tokens = [one.json("token", "create", "--name", "test", "--role", "admin")["token"] for one in (world.tallyd, plain)]
    asked = 0
    same_route_only = ("/api/v1/pipeline", "/api/v1/audit", "/api/v1/dead-letters", "/api/v1/prices", "/api/v1/alerts")
    until("the plain daemon is ready", lambda: '"flusher":{"status":"ok"' in (plain.get("/healthz") or ""))
    for one, token in zip((world.tallyd, plain), tokens):
        until("the daemon knows its token", lambda: (one.get("/api/v1/budgets", token) or "").startswith("{"))
    try:
        users = world.psql("SELECT DISTINCT user_id FROM user_api_totals WHERE user_id <> '' ORDER BY 1 LIMIT 4").split()
        for path in questions(users):
            ours, theirs = (one.get(path, token) for one, token in zip((world.tallyd, plain), tokens))
            assert ours and not re.match(r"[45]\d\d: ", ours), f"{path}: {ours and ours[:500]}"
            assert theirs and not re.match(r"[45]\d\d: ", theirs), f"plain {path}: {theirs and theirs[:500]} {plain.log.read_text()[-1500:]}"
            asked += 1
            if not path.startswith(same_route_only):
                equal(path, ours, theirs)
        print(f"  {asked} questions")
        spending = "SELECT user_id FROM daily_user_api_costs WHERE day = current_date AND provider = 'claude' AND user_id <> '' ORDER BY cost_usd DESC LIMIT 1"
        user = world.psql(spending)
        change(world, plain, user)
        for words in commands(user):
            answers = [one.run(*words) for one in (world.tallyd, plain)]
            # Calls of one instant come in the order of the rows.
            equal(" ".join(words), *("\n".join(sorted(text.splitlines())) if words[0] == "export" else text for text in answers))
    finally:
        plain.stop()
    for words in (["alerts", "list"], ["status"], ["prices", "list"], ["prices", "check"], ["dead-letters", "groups"], ["duplicates", "list"]):
        world.tallyd.run(*words, ok=(0, 1))
    world.loaded()


def equal(what, ours, theirs):
    ours, theirs = (VOLATILE.sub("", text) for text in (ours, theirs))
    if ours != theirs:
        at = next((n for n, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
        raise AssertionError(f"{what}: {ours[max(0, at - 150):at + 150]!r} is not {theirs[max(0, at - 150):at + 150]!r}")


def change(world, plain, user):
    """Budgets and rules of each rollup, units and a dimension; waits until both daemons have evaluated them."""
    units = world.tallyd.home / "units.csv"
    units.write_text(f"day,dimension,value,unit,quantity,revenue_usd\n{datetime.date.today()},app,web,order,3,9\n")
    claude = ("--for", "provider=claude")
    for one in (world.tallyd, plain):
        one.run("budgets", "set", "5")
        one.run("budgets", "set", "0.0000001", "--period", "month", "--for", f"user={user}")
        one.run("budgets", "set", "900", "--period", "month", "--for", f"user={user}", *claude)
        one.run("budgets", "set", "0.0000001", "--period", "month", "--for", "app=web", *claude)
        for name, where in (("user", f"user={user}"), ("app", "app=web"), ("model", "provider=claude")):
            one.run("rules", "set", name, "--metric", "cost", "--window", "30d", "--alert", "1", "--where", where)
        one.run("rules", "set", "burn", "--metric", "burn_rate", "--budget", "1", "--window", "6h", "--short-window", "1h", "--alert", "6")
        one.run("units", "import", str(units))
        one.run("dimensions", "add", "team")
    for database in ("tally", "plain"):
        states = "SELECT (SELECT count(*) FROM api_budget_states) + (SELECT count(*) FROM tallyd_alert_rule_states)"
        until("budgets and rules are evaluated", lambda: world.psql(states, database=database) == "8")
        explained = "SELECT count(DISTINCT details ->> 'budget_id') FROM api_alerts WHERE details ? 'top'"
        until("exceeded budgets are explained", lambda: int(world.psql(explained, database=database)) >= 2)


def commands(user):
    """Commands whose answers are compared."""
    today = datetime.datetime.now(datetime.timezone.utc).date()
    days = ["--from", str(today - datetime.timedelta(days=20)), "--to", str(today)]
    for words in ("budgets list", "rules list", "report --period week", "report --period month", "forecast", "users list", "units list --by app",
                  "costs", "costs --by user", "costs --by app", "costs --by day", "costs --by tag:team", f"costs --by day --user {user}",
                  "explain --provider claude", "explain --provider claude --by user", "explain --provider claude --by app", f"explain --provider claude --user {user}"):
        yield [*words.split(), "--json"]
    for by in ([], ["--by", "user"], ["--by", "app"], ["--by", "tag:team"]):
        yield ["export", "focus", *days, "--billing-account", "x", *by]
    yield ["export", "calls", *days, "--format", "ndjson"]


def shown(world):
    """Every panel of the dashboards, as the role tallyd_reader."""
    asked = 0
    # Citus connects to the workers as the role of the query, so the role must be able to log in.
    world.psql("ALTER ROLE tallyd_reader LOGIN")
    os.environ.update({name: value for name, value in world.tallyd.env.items() if name.startswith("TALLYD_")})
    reader = dashboards.Reader(str(world.tallyd.program))
    for path in dashboards.DASHBOARDS:
        asked += dashboards.check_sql(path.name, json.loads(path.read_text()), reader)
    reader.close()
    faults = [one for one in dashboards.faults if "the answer is empty" not in one and "has no value" not in one]
    assert not faults, "\n".join(faults)
    print(f"  {asked} questions")


def called(world):
    """SQL adds calls by increment_daily_cost(), also of a month that has no partition."""
    call = "SELECT increment_daily_cost(provider => 'acme', model => 'm', user_id => 'sql', cost_usd => 0.1"
    world.psql(f"{call})", "BEGIN", f"{call}, occurred_at => now() - interval '40 days')", f"{call}, occurred_at => '2024-02-29Z')", "COMMIT")
    world.calls += 3
    world.loaded()
    assert world.count("SELECT calls FROM user_api_totals WHERE user_id = 'sql'") == 3


def admins(world):
    """An admin by JWT sees rows of the nodes where the claims are sent there, and nobody else does: docs/guide/citus.md."""
    page = (ROOT / "docs/guide/citus.md").read_text()
    world.psql("CREATE ROLE authenticated LOGIN; CREATE ROLE authenticator LOGIN NOINHERIT; GRANT authenticated TO authenticator; SELECT count(*) FROM tallyd_protect_all()")
    world.psql(re.search(r"```sql\n(CREATE FUNCTION public.claims_on_nodes.*?)```", page, re.S)[1])
    counts = "SELECT (SELECT count(*) FROM api_usage_log), (SELECT count(*) FROM user_api_totals), (SELECT count(*) FROM daily_api_costs)"
    seen = {}
    for role in ("admin", "user"):
        claims = json.dumps({"sub": "7", "app_metadata": {"role": role}})
        # Each a message of its own, as PostgREST sends them: Citus sends the nodes the text that a SET LOCAL stands in.
        request = ["BEGIN", "SET LOCAL ROLE authenticated", f"SELECT set_config('request.jwt.claims', '{claims}', true)", "SELECT claims_on_nodes()"]
        seen[role] = world.psql(*request, counts, "COMMIT", user="authenticator").split()[-1]
    truth = world.psql(counts)
    assert seen == {"admin": truth, "user": "0|0|0"}, (seen, truth)
