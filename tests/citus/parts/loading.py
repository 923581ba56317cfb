"""Parts about the tables' places and about loading."""

import json

from daemon import Tallyd
from nodes import until


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


def listed(world):
    """`tallyd partitions list` adds up the sizes on all nodes."""
    sizes = {one["name"]: one["bytes"] for one in world.tallyd.json("partitions", "list")}
    real = int(world.psql("SELECT sum(citus_total_relation_size(p.relation)) FROM tallyd_partitions() AS p"))
    assert abs(sum(sizes.values()) - real) < real / 10, (sizes, real)


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


def unnamed(world):
    """Calls without a user spread over all shards."""
    lines = [json.dumps({"provider": "acme", "model": "m"}) for _ in range(2000)]
    world.tallyd.run("record", "--stdin", text="\n".join(lines))
    world.calls += len(lines)
    world.loaded()
    shards = world.count("SELECT count(*) FROM pg_dist_shard WHERE logicalrelid = 'api_usage_log'::regclass")
    sql = "SELECT count(*) FROM api_usage_log WHERE user_id = '' AND provider = 'acme' GROUP BY get_shard_id_for_distribution_column('api_usage_log', id)"
    shares = [int(line) for line in world.psql(sql).split()]
    assert len(shares) == shards and max(shares) < 3 * len(lines) / shards, shares


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


LOADED = "SELECT coalesce(sum(calls), 0) FROM daily_api_costs"
# The calls that are loaded; the lanes that are in a transaction; and those of them that wait for another's lock, on any node.
LANES = f"""
WITH lanes AS (SELECT pid FROM pg_stat_activity WHERE application_name = 'tallyd flusher' AND xact_start IS NOT NULL),
    waiting AS (SELECT DISTINCT citus_pid_for_gpid(waiting_gpid) AS pid FROM citus_lock_waits)
SELECT ({LOADED}), count(*), count(waiting.pid) FROM lanes LEFT JOIN waiting USING (pid)
"""


def beside(world):
    """Four lanes load a backlog side by side: mostly two or more load at once, and do not wait for another's lock."""
    world.tallyd.stop()
    settings = {"TALLYD_FLUSHER_LANES": "4", "TALLYD_FLUSHER_MAX_BATCH_RECORDS": "1000"}
    many = Tallyd(world.tallyd.program, world.tallyd.home / "many", world.tallyd.env["TALLYD_DATABASE_URL"], **settings)
    before, samples = world.count(LOADED), []
    world.cluster.coordinator.stop()
    try:
        many.start()
        sent = many.demo("--rate", "30000", "--seconds", "4")
        world.calls += sent
        world.cluster.coordinator.start()

        def loaded():
            samples.extend(tuple(map(int, line.split("|"))) for line in world.psql(*[LANES] * 10).splitlines())
            return samples[-1][0] >= before + sent

        until("the backlog is loaded", loaded, pause=0)
    finally:
        many.stop()
        world.cluster.start_missing()
        world.tallyd.start()
    world.loaded()
    # The first lane connects before the others, and the last one ends after them.
    samples = [(lanes, waiting) for calls, lanes, waiting in samples if before < calls < before + sent * 3 / 4]
    assert len(samples) >= 5, samples
    at_once = sum(lanes - waiting >= 2 for lanes, waiting in samples)
    lanes, waiting = (sum(column) for column in zip(*samples))
    print(f"  {len(samples)} samples: two lanes or more loaded at once in {at_once}; of {lanes} transactions seen, {waiting} waited for a lock")
    assert at_once > len(samples) / 2, samples
