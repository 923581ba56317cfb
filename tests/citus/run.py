#!/usr/bin/env python3
"""tallyd's work on a real Citus: a coordinator and two workers, later a third, on loopback.

    CITUS_PG_CONFIG=/usr/lib/postgresql/15/bin/pg_config tests/citus/run.py target/debug/tallyd [PART ...]

Parts run in the order in which they are written; each leaves the rollups equal to the call log. Without CITUS_PG_CONFIG, or if
that installation has no Citus, no part runs, and the last line says so.

TALLYD_FAULTS=deep, or a percentage of it, kills and moves more often, and adds both to target/faults/report.json; TALLYD_TEST_SEED repeats the
order of kills.
"""

import contextlib
import datetime
import fcntl
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "monitoring"))
import dashboards  # noqa: E402
from nodes import Cluster, free_port, until  # noqa: E402

PARTS = []


def part(function):
    PARTS.append(function)
    return function


class Tallyd:
    """The program, on a data folder of its own; and the daemon while it runs."""

    def __init__(self, program, home, url, **settings):
        self.program, self.home, self.http, self.daemon = program, home, free_port(), None
        home.mkdir()
        self.log = home / "daemon.log"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("TALLYD_")}
        self.env = {
            **clean,
            "TALLYD_DATABASE_URL": url,
            "TALLYD_DATA_DIR": str(home / "data"),
            "TALLYD_SOCKET": str(home / "s"),
            "TALLYD_HTTP_LISTEN": f"127.0.0.1:{self.http}",
            "TALLYD_OTLP_GRPC_LISTEN": "127.0.0.1:0",
            "TALLYD_FLUSHER_RETRY_MIN_MS": "10",
            "TALLYD_FLUSHER_RETRY_MAX_MS": "500",
            "TALLYD_LOG": "info,tallyd=debug",
            **settings,
        }

    def start(self):
        self.daemon = subprocess.Popen([self.program, "serve"], env=self.env, cwd=self.home, stderr=self.log.open("a"), stdout=subprocess.DEVNULL)
        until("the daemon takes records", lambda: self.get("/healthz"))

    def kill(self):
        self.daemon.kill()
        self.daemon.wait()

    def stop(self):
        if self.daemon and self.daemon.poll() is None:
            self.daemon.terminate()
            self.daemon.wait(timeout=90)

    def run(self, *words, ok=(0,), text=None):
        done = subprocess.run([self.program, *map(str, words)], env=self.env, cwd=self.home, capture_output=True, text=True, input=text)
        if done.returncode not in ok:
            raise AssertionError(f"tallyd {' '.join(map(str, words))}: exit code {done.returncode}: {done.stderr.strip()} {done.stdout.strip()[:600]}")
        return done.stdout

    def json(self, *words, **options):
        return json.loads(self.run(*words, "--json", **options))

    def get(self, path, token=None):
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", headers={"Authorization": f"Bearer {token}"} if token else {})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            return f"{error.code}: {error.read().decode()}"
        except OSError:
            return None

    def waiting(self):
        """Records that are durable and not loaded yet; none if the daemon does not say."""
        done = subprocess.run([self.program, "status", "--json"], env=self.env, cwd=self.home, capture_output=True, text=True)
        return json.loads(done.stdout)["wal"]["unflushed_records"] if done.stdout.startswith("{") else None

    def demo(self, *words):
        """Sends records until all are acknowledged. Returns their number."""
        done = self.json("demo", *words)
        assert done["refused"] == done["dropped"] == done["outstanding"] == 0, done
        return done["acked"]


class World:
    """The cluster, the program, and the number of calls that the call log must have."""

    def __init__(self, cluster, tallyd):
        self.cluster, self.tallyd, self.calls = cluster, tallyd, 0
        self.psql = cluster.psql
        self.acked = self.lost = self.doubled = 0

    def count(self, sql="SELECT count(*) FROM api_usage_log"):
        return int(self.psql(sql, check=False) or -1)

    def loaded(self):
        """Waits until every acknowledged record is in the call log, once."""
        until("all is loaded", lambda: self.tallyd.waiting() == 0)
        rows, calls = map(int, self.psql("SELECT count(*), count(DISTINCT id) FROM api_usage_log").split("|"))
        self.lost += max(self.calls - calls, 0)
        self.doubled += rows - calls
        assert rows == calls == self.calls, f"{rows} rows of {calls} calls in the call log, {self.calls} were acknowledged"
        self.equal()

    @contextlib.contextmanager
    def load(self, rate):
        """Traffic until the end of the block; then every acknowledged call must be in the call log."""
        words = [self.tallyd.program, "demo", "--rate", str(rate), "--json"]
        demo = subprocess.Popen(words, env=self.tallyd.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            yield
            demo.send_signal(signal.SIGINT)
            sent = json.loads(demo.communicate()[0])
        finally:
            demo.kill()
        assert sent["dropped"] == sent["refused"] == sent["outstanding"] == 0, sent
        self.acked += sent["acked"]
        self.calls += sent["acked"]
        self.loaded()

    def moves(self):
        """Waits until more calls are loaded."""
        before = self.count()
        until("loading goes on", lambda: self.count() > before + 200)

    def equal(self):
        # By the days that have changed, and by all.
        for words in (["reconcile", "--changed"], ["reconcile"]):
            found = self.tallyd.json(*words, ok=(0, 1))
            assert found["equal"], f"{' '.join(words)}: {found['difference_count']} differences: {found['differences'][:5]}"
        return found


@part
def spread(world):
    """The tables are distributed while a daemon loads, over TLS with Citus's own certificate; no row stays on the coordinator."""
    world.tallyd.run("migrate")
    world.tallyd.start()
    world.calls += world.tallyd.demo("--backfill", "60", "--rate", "0", "--seconds", "3", "--users", "300", "--seed", "1")
    world.loaded()
    with world.load(500):
        world.tallyd.run("migrate", "--citus", "--yes")
        world.moves()
    left = world.psql("SELECT coalesce(sum(pg_relation_size(t.relid)), 0) FROM pg_partition_tree('api_usage_log') AS t")
    assert left == "0", f"{left} bytes of the call log are left on the coordinator"
    assert world.psql("SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND application_name = 'tallyd flusher'") != "0"
    spread = world.psql("SELECT string_agg(logicalrelid::text, ' ' ORDER BY 1) FROM pg_dist_partition WHERE logicalrelid::text !~ '_[0-9]{4}'")
    assert "ingest_watermark" not in spread and "tallyd_user_totals" in spread and "tallyd_user_deltas_0" in spread, spread
    assert "nothing" not in world.tallyd.run("migrate", "--citus", "--yes")


@part
def listed(world):
    """`tallyd partitions list` adds up the sizes on all nodes."""
    sizes = {one["name"]: one["bytes"] for one in world.tallyd.json("partitions", "list")}
    real = int(world.psql("SELECT sum(citus_total_relation_size(p.relation)) FROM tallyd_partitions() AS p"))
    assert abs(sum(sizes.values()) - real) < real / 10, (sizes, real)


@part
def poison(world):
    """A row that a worker refuses becomes a dead letter, the others load, and the corrected one is retried."""
    world.psql("ALTER TABLE api_usage_log ADD CONSTRAINT poison CHECK (model <> 'poison')")
    lines = [json.dumps({"provider": "acme", "model": "poison" if n == 70 else "m", "user_id": f"p{n}"}) for n in range(200)]
    world.tallyd.run("record", "--stdin", text="\n".join(lines))
    world.calls += 199
    world.loaded()
    letters = [json.loads(line) for line in world.tallyd.run("dead-letters", "export").splitlines()]
    assert len(letters) == 1 and letters[0]["kind"] == "poison", letters
    world.tallyd.run("dead-letters", "retry", "--kind", "poison", "--set", "model=m")
    world.psql("ALTER TABLE api_usage_log DROP CONSTRAINT poison")
    world.calls += 1
    world.loaded()


@part
def repriced(world):
    """Unpriced calls get a price that was added later."""
    world.tallyd.run("record", "--stdin", text="\n".join(json.dumps({"provider": "acme", "model": "m", "user_id": f"r{n}", "input_tokens": 1000}) for n in range(500)))
    world.calls += 500
    world.loaded()
    world.tallyd.run("prices", "set", "acme", "m", "--rate", "input=3", "--rate", "output=15", "--from", "2020-01-01")
    day = "2020-01-01"
    shown = world.tallyd.json("reprice", "--from", day, "--to", "now", "--provider", "acme", "--dry-run")
    done = world.tallyd.json("reprice", "--from", day, "--to", "now", "--provider", "acme", "--yes")
    assert json.dumps(done).count("changed"), (shown, done)
    world.loaded()
    left = world.count("SELECT count(*) FROM api_usage_log WHERE provider = 'acme' AND model = 'm' AND cost_usd IS NULL")
    assert left == 0, f"{left} calls are still without a price"


@part
def doubles(world):
    """Duplicate rows are found and dropped."""
    columns = world.psql("SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'api_usage_log'::regclass AND attnum > 0 AND NOT attisdropped")
    world.tallyd.stop()
    world.psql(f"INSERT INTO api_usage_log ({columns}) SELECT {columns} FROM api_usage_log WHERE user_id IN ('r1', 'r2', 'p3') ")
    zone = world.psql("SELECT value FROM tallyd_settings WHERE key = 'reporting_time_zone'")
    world.tallyd.run("rollups", "rebuild", "--time-zone", zone, "--yes")
    assert world.count() > world.calls
    world.equal()
    found = world.tallyd.json("duplicates", "list")
    assert found, "no double was found"
    world.tallyd.run("duplicates", "drop", "--yes")
    world.tallyd.start()
    world.loaded()


@part
def rebuilt(world):
    """Days move to another zone, and back."""
    world.tallyd.stop()
    for zone in ("America/New_York", "UTC"):
        shown = world.tallyd.json("rollups", "rebuild", "--time-zone", zone, "--dry-run")
        done = world.tallyd.json("rollups", "rebuild", "--time-zone", zone, "--yes")
        assert done["calls"] == shown["calls"] == world.calls and done["rows"] == shown["rows"], (shown, done)
        world.equal()
    refused = subprocess.run([world.tallyd.program, "migrate"], env={**world.tallyd.env, "TALLYD_ROLLUP_TIME_ZONE": "Asia/Tokyo"}, capture_output=True, text=True)
    assert refused.returncode == 1 and "tallyd rollups rebuild --time-zone Asia/Tokyo" in refused.stderr, refused.stderr
    world.tallyd.start()


@part
def forgotten(world):
    """A user is forgotten under load, with a late record; only this user's sums change."""
    user = world.psql("SELECT user_id FROM user_api_totals WHERE user_id <> '' ORDER BY calls DESC LIMIT 1")
    world.tallyd.run("users", "forget", user, "--dry-run")
    world.tallyd.run("users", "forget", user, "--yes", "--batch-calls", "50")
    assert world.count(f"SELECT count(*) FROM api_usage_log WHERE user_id = '{user}'") == 0
    assert world.count(f"SELECT count(*) FROM user_api_totals WHERE user_id = '{user}'") == 0
    world.loaded()
    # The hourly upkeep runs when a daemon starts.
    world.tallyd.run("record", "--provider", "claude", "--user-id", user)
    world.calls += 1
    world.loaded()
    world.tallyd.stop()
    world.tallyd.start()
    until("the late record is made anonymous", lambda: world.count(f"SELECT count(*) FROM user_api_totals WHERE user_id = '{user}'") == 0)
    world.loaded()


@part
def adopted(world):
    """An older log is taken over after the tables were distributed."""
    world.psql(
        "CREATE SCHEMA old; CREATE TABLE old.calls (id uuid PRIMARY KEY, user_id text, api_type text, model text, input_tokens int, output_tokens int, "
        "cost_usd numeric(10, 6), timestamp timestamptz); INSERT INTO old.calls SELECT md5('call ' || n)::uuid, 'old' || n % 40, 'claude', 'claude-sonnet-4-20250514', "
        "n % 1000, n % 70, n * 0.000013, '2025-03-01Z'::timestamptz + n * interval '47 minutes' FROM generate_series(1, 3000) AS n; "
        "CREATE TABLE old.days (date date, api_type text, call_count int NOT NULL, input_tokens bigint, output_tokens bigint, total_cost numeric(12, 6)); "
        "INSERT INTO old.days VALUES ('2025-02-26', 'claude', 40, 4000, 400, 1.25)"
    )
    options = ["adopt", "--from-log", "old.calls", "--from-daily", "old.days", "--batch-calls", "500"]
    shown = world.tallyd.json(*options, "--dry-run")
    assert shown["found"]["log"]["calls"] == 3000, shown
    done = world.tallyd.json(*options, "--yes")
    assert done["done"]["calls"] == 3000, done
    again = world.tallyd.json(*options, "--yes")
    assert again["done"]["calls"] == 0, again
    world.calls += 3000
    world.loaded()


@part
def dropped(world):
    """Old partitions are dropped; the rollups stay, and reconcile."""
    before = world.psql("SELECT sum(calls) FROM user_api_totals")
    gone = world.count("SELECT count(*) FROM api_usage_log WHERE occurred_at < '2025-05-01Z'")
    assert gone > 0
    world.tallyd.run("partitions", "drop", "--before", "2025-05-01", "--dry-run")
    done = world.tallyd.json("partitions", "drop", "--before", "2025-05-01", "--yes")
    assert '"gone"' in json.dumps(done) and '"busy"' not in json.dumps(done) and '"emptied"' not in json.dumps(done), done
    assert world.psql("SELECT sum(calls) FROM user_api_totals") == before
    world.calls -= gone
    world.loaded()


@part
def replayed(world):
    """A damaged segment of the WAL is replayed: its readable records are loaded once."""
    world.tallyd.stop()
    world.cluster.coordinator.stop()
    small = {"TALLYD_WAL_SEGMENT_BYTES": "65536", "TALLYD_WAL_RECENT_BYTES": "65536", "TALLYD_SHUTDOWN_DEADLINE_MS": "1000"}
    damaged = Tallyd(world.tallyd.program, world.tallyd.home / "damaged", world.tallyd.env["TALLYD_DATABASE_URL"], **small)
    damaged.start()
    sent = damaged.demo("--rate", "2000", "--seconds", "5")
    damaged.stop()
    stores = sorted(path for path in (damaged.home / "data/wal").iterdir() if path.is_dir() and path.with_suffix(".sealed").exists())
    assert len(stores) >= 3, stores
    data = bytearray((stores[1] / "db").read_bytes())
    end = max(at for at, byte in enumerate(data) if byte)
    for at in range(4096, end, 60_000):
        data[at] ^= 0x10
    (stores[1] / "db").write_bytes(data)
    world.cluster.coordinator.start()
    damaged.start()
    before = world.calls
    until("the segment is set aside", lambda: any(one["state"] not in ("live", "sealed", "current") for one in damaged.json("wal", "list")))
    until("what is left of it is loaded", lambda: damaged.waiting() == 0)
    damaged.run("wal", "replay", "--all")
    damaged.run("wal", "replay", "--all")
    damaged.stop()
    world.calls = world.count()
    assert before + sent * 0.5 < world.calls <= before + sent, (before, sent, world.calls)
    assert world.count("SELECT count(*) - count(DISTINCT id) FROM api_usage_log") == 0
    world.tallyd.start()
    world.loaded()


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


# Fields that differ between daemons, or between moments.
VOLATILE = re.compile(r'"(?:generated_at|as_of|now|age_ms|updated_at|seen_at|created_at|at|id|next|cursor|committed_since_start|took_ms)":(?:"[^"]*"|[0-9.]+|null)')


@part
def answered(world):
    """Every route answers as it does on a plain PostgreSQL with the same rows."""
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
        for path in questions(world.psql("SELECT DISTINCT user_id FROM user_api_totals WHERE user_id <> '' ORDER BY 1 LIMIT 4").split()):
            ours, theirs = (one.get(path, token) for one, token in zip((world.tallyd, plain), tokens))
            assert ours and not re.match(r"[45]\d\d: ", ours), f"{path}: {ours and ours[:500]}"
            assert theirs and not re.match(r"[45]\d\d: ", theirs), f"plain {path}: {theirs and theirs[:500]} {plain.log.read_text()[-1500:]}"
            asked += 1
            if path.startswith(same_route_only):
                continue
            ours, theirs = (VOLATILE.sub("", text) for text in (ours, theirs))
            if ours != theirs:
                at = next((n for n, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
                raise AssertionError(f"{path}: {ours[max(0, at - 150):at + 150]!r} is not {theirs[max(0, at - 150):at + 150]!r}")
    finally:
        plain.stop()
    print(f"  {asked} questions")
    for words in (["costs"], ["costs", "--by", "user"], ["costs", "--by", "app"], ["costs", "--by", "day"], ["users", "list"], ["forecast"], ["budgets", "list"], ["alerts", "list"], ["status"],
                  ["prices", "list"], ["prices", "check"], ["dead-letters", "groups"], ["duplicates", "list"], ["budgets", "set", "5"]):
        world.tallyd.run(*words, ok=(0, 1))


@part
def shown(world):
    """Every panel of the dashboards, as the role tallyd_reader."""
    asked = 0
    # Citus connects to the workers as the role of the query, so the role must be able to log in.
    world.psql("ALTER ROLE tallyd_reader LOGIN")
    os.environ.update({name: value for name, value in world.tallyd.env.items() if name.startswith("TALLYD_")})
    for path in dashboards.DASHBOARDS:
        asked += dashboards.check_sql(path.name, json.loads(path.read_text()), str(world.tallyd.program))
    faults = [one for one in dashboards.faults if "the answer is empty" not in one and "has no value" not in one]
    assert not faults, "\n".join(faults)
    print(f"  {asked} questions")


@part
def called(world):
    """SQL adds calls by increment_daily_cost(), also of a month that has no partition."""
    call = "SELECT increment_daily_cost(provider => 'acme', model => 'm', user_id => 'sql', cost_usd => 0.1"
    world.psql(f"{call})", "BEGIN", f"{call}, occurred_at => now() - interval '40 days')", f"{call}, occurred_at => '2024-02-29Z')", "COMMIT")
    world.calls += 3
    world.loaded()
    assert world.count("SELECT calls FROM user_api_totals WHERE user_id = 'sql'") == 3


@part
def unnamed(world):
    """Calls without a user spread over all shards."""
    lines = [json.dumps({"provider": "acme", "model": "m"}) for _ in range(2000)]
    world.tallyd.run("record", "--stdin", text="\n".join(lines))
    world.calls += len(lines)
    world.loaded()
    # Each shard's share is near a 32nd: 60 calls or so.
    sql = "SELECT count(*) FROM api_usage_log WHERE user_id = '' AND provider = 'acme' GROUP BY get_shard_id_for_distribution_column('api_usage_log', id)"
    shares = [int(line) for line in world.psql(sql).split()]
    assert len(shares) == 32 and max(shares) < 200, shares


@part
def counted(world):
    """The deltas that wait for a merge are counted on the nodes, so that lanes wait where a merge falls behind."""
    world.tallyd.stop()
    sql = "SELECT count(*) FROM tallyd_user_deltas_0"
    world.psql("INSERT INTO tallyd_user_deltas_0 (day, user_id, provider, first_call_at, last_call_at) SELECT '2026-01-01', 'd' || n, 'acme', now(), now() FROM generate_series(1, 50000) AS n")
    assert world.count(sql) >= 50_000
    world.tallyd.start()
    seen = lambda: max(0, *(float(line.split()[-1]) for line in (world.tallyd.get("/metrics") or "").splitlines() if line.startswith("tallyd_user_deltas_rows ")), 0)
    until("the deltas are counted", lambda: seen() >= 45_000)
    until("they are merged", lambda: seen() < 45_000)
    until("the list of users has them", lambda: world.count("SELECT count(*) FROM (SELECT 1 FROM tallyd_user_list_due LIMIT 1) AS due") == 0)
    world.psql("DELETE FROM tallyd_user_days WHERE provider = 'acme' AND user_id ~ '^d[0-9]+$' AND calls = 0")
    world.psql("DELETE FROM tallyd_user_totals WHERE provider = 'acme' AND user_id ~ '^d[0-9]+$' AND calls = 0")
    world.psql("DELETE FROM tallyd_user_list WHERE user_id ~ '^d[0-9]+$' AND calls = 0")
    world.loaded()


@part
def admins(world):
    """An admin by JWT sees rows of the nodes where the claims are sent there, and nobody else does: docs/guide/citus.md."""
    page = (pathlib.Path(__file__).parents[2] / "docs/guide/citus.md").read_text()
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


@part
def beside(world):
    """Lanes load side by side: no lane waits for another's lock."""
    world.tallyd.stop()
    many = Tallyd(world.tallyd.program, world.tallyd.home / "many", world.tallyd.env["TALLYD_DATABASE_URL"], TALLYD_FLUSHER_LANES="4")
    waits = "SELECT count(*) FILTER (WHERE state = 'active' AND wait_event_type = 'Lock'), count(*) FILTER (WHERE xact_start IS NOT NULL) FROM pg_stat_activity WHERE application_name = 'tallyd flusher'"
    many.start()
    samples = []
    world.tallyd, one = many, world.tallyd
    with world.load(3000):
        world.moves()
        for _ in range(40):
            samples.append(tuple(map(int, world.psql(waits).split("|"))))
    many.stop()
    world.tallyd = one
    one.start()
    at_once = sum(loading >= 2 for _, loading in samples)
    waiting = sum(waits for waits, _ in samples)
    print(f"  {len(samples)} samples: two lanes or more in a transaction in {at_once}, {waiting} waits for a lock")
    assert at_once >= len(samples) / 4, samples
    assert waiting <= at_once, samples


def rounds(brief, deep):
    """How often a fault is made, by TALLYD_FAULTS as tests/faults/run.rs reads it."""
    asked = os.environ.get("TALLYD_FAULTS", "")
    return brief if not asked else deep if asked == "deep" else max(brief, deep * int(asked) // 100)


def report(name, runs, begin, world, passed):
    """Adds a row to the faults' report, as tests/faults/run.rs does."""
    if not os.environ.get("TALLYD_FAULTS"):
        return
    folder = pathlib.Path(__file__).parents[2] / "target/faults"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "report.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = folder / "report.json"
        known = json.loads(path.read_text())["faults"] if path.exists() else []
        entry = {"fault": 42, "name": name, "runs": runs, "acked": world.acked, "lost": world.lost, "doubled": world.doubled}
        entry |= {"seconds": round(time.monotonic() - begin, 1), "passed": passed}
        faults = sorted([one for one in known if one["name"] != name] + [entry], key=lambda one: (one["fault"], one["name"]))
        path.write_text(json.dumps({"faults": faults}, indent=2))


@contextlib.contextmanager
def reported(name, runs, world):
    """Counts the calls that the block acknowledges, loses and doubles, and reports them even if it fails."""
    begin, passed = time.monotonic(), False
    world.acked = world.lost = world.doubled = 0
    try:
        yield
        passed = True
    finally:
        print(f"  {runs} rounds: {world.acked} acknowledged, {world.lost} lost, {world.doubled} doubled", flush=True)
        report(name, runs, begin, world, passed)


@part
def killed(world):
    """Daemon, worker and coordinator are killed under load, at random instants: nothing is lost, nothing is doubled."""
    seed = int(os.environ.get("TALLYD_TEST_SEED") or random.randrange(1 << 32))
    print(f"  TALLYD_TEST_SEED={seed} repeats this")
    chance = random.Random(seed)
    nodes = [*world.cluster.workers, world.cluster.coordinator]
    victims = [[node] for node in nodes] + [[world.tallyd], [world.tallyd, nodes[0]], nodes]
    times = rounds(1, 12)
    with reported("fault_42_citus_nodes_killed", times * len(victims), world):
        for _ in range(times):
            for victim in chance.sample(victims, len(victims)):
                with world.load(800):
                    world.moves()
                    time.sleep(chance.random())
                    for one in victim:
                        one.kill()
                    for one in victim:
                        one.start()
                    world.moves()
    letters = world.count("SELECT count(*) FROM dead_letters WHERE settled_at IS NULL")
    assert letters == 0, f"{letters} good calls became dead letters"


@part
def rebalanced(world):
    """A third worker comes under load, gets its share, and goes again."""
    node = world.cluster.add_worker()
    port = f"nodeport = {node.port}"
    on_it = lambda: world.count(f"SELECT count(*) FROM pg_dist_placement JOIN pg_dist_node USING (groupid) WHERE {port}")
    times = rounds(1, 4)
    with reported("fault_42_citus_rebalanced", times, world):
        for _ in range(times):
            with world.load(300):
                world.psql("SELECT rebalance_table_shards(shard_transfer_mode := 'force_logical')")
                assert on_it() > 0, "nothing was moved"
                world.moves()
            if times > 1:
                with world.load(300):
                    world.psql(f"SELECT citus_drain_node('127.0.0.1', {node.port}, 'force_logical')")
                    assert on_it() == 0, "something is left"
                    world.moves()
                world.psql(f"SELECT citus_set_node_property('127.0.0.1', {node.port}, 'shouldhaveshards', true)")


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    config = os.environ.get("CITUS_PG_CONFIG")
    ask = lambda what: pathlib.Path(subprocess.run([config, what], check=True, capture_output=True, text=True).stdout.strip())
    if not config:
        print("NOT RUN on Citus: CITUS_PG_CONFIG is not set. It names the pg_config of a PostgreSQL that has Citus 13.2")
        return
    if not (ask("--pkglibdir") / "citus.so").exists():
        print(f"NOT RUN on Citus: {config} names a PostgreSQL without Citus")
        return
    program = pathlib.Path(sys.argv[1]).resolve()
    wanted = sys.argv[2:]
    wal_level = "wal_level = logical\nmax_wal_senders = 20\nmax_replication_slots = 40"
    with contextlib.ExitStack() as stack:
        cluster = Cluster(ask("--bindir"), wal_level)
        stack.callback(cluster.close)
        print(cluster.psql("SELECT citus_version()"), flush=True)
        home = cluster.home / "tallyd"
        tallyd = Tallyd(program, home, cluster.coordinator.url("require"))
        stack.callback(tallyd.stop)
        world, failed = World(cluster, tallyd), []
        for function in PARTS:
            if wanted and function.__name__ not in wanted and function is not spread:
                continue
            begin = time.monotonic()
            try:
                function(world)
            except Exception as error:  # noqa: BLE001
                if os.environ.get("CITUS_KEEP"):
                    raise
                failed.append(function.__name__)
                print(f"FAILED {function.__name__}: {error}", flush=True)
                log = [line for line in tallyd.log.read_text().splitlines() if " WARN " in line or "ERROR" in line] if tallyd.log.exists() else []
                print("\n".join(f"  {line[:600]}" for line in log[-6:]), flush=True)
                if function is spread:
                    break
                # The next part needs a running daemon.
                if tallyd.daemon.poll() is not None:
                    tallyd.start()
                world.calls = max(world.count(), 0)
            else:
                print(f"ok {function.__name__} ({time.monotonic() - begin:.1f} s): {function.__doc__.splitlines()[0]}", flush=True)
        if failed:
            sys.exit(f"error: failed on Citus: {', '.join(failed)}")
        print("all of it holds on Citus")


if __name__ == "__main__":
    main()
