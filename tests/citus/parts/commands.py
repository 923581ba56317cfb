"""Parts about the commands that change the call log."""

import json
import os
import subprocess

from daemon import Tallyd
from nodes import until


def repriced(world):
    """Unpriced calls get a price that was added later."""
    world.tallyd.run("record", "--stdin", text="\n".join(json.dumps({"provider": "acme", "model": "m", "user_id": f"r{n}", "input_tokens": 1000, "tags": {"team": f"t{n % 3}"}}) for n in range(500)))
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


def dropped(world):
    """Old partitions are archived and dropped; the rollups stay, and reconcile."""
    before = world.psql("SELECT sum(calls) FROM user_api_totals")
    gone = world.count("SELECT count(*) FROM api_usage_log WHERE occurred_at < '2025-05-01Z'")
    assert gone > 0
    world.tallyd.run("partitions", "drop", "--before", "2025-05-01", "--dry-run")
    done = world.tallyd.json("partitions", "drop", "--before", "2025-05-01", "--yes")
    assert '"gone"' in json.dumps(done) and '"busy"' not in json.dumps(done) and '"emptied"' not in json.dumps(done), done
    assert world.psql("SELECT sum(calls) FROM user_api_totals") == before
    files = world.tallyd.json("archive", "list")
    assert sum(one["calls"] for one in files) == gone, files
    world.tallyd.run("archive", "verify")
    world.tallyd.run("archive", "restore", files[0]["id"])
    assert world.count(f"SELECT count(*) FROM tallyd_restored_{files[0]['id']}") == files[0]["calls"]
    world.calls -= gone
    world.loaded()


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
