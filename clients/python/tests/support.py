"""The daemon under test, on a data folder and a PostgreSQL of its own."""

import json
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from tallyd import _wire

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = os.environ.get("TALLYD_BIN") or str(ROOT / "target/debug/tallyd")
PATIENCE = 60.0


def until(what, condition, patience=PATIENCE):
    """Waits for a condition; fails naming it."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {patience:g} s in vain: {what}")


class Daemon:
    def __init__(self):
        self.home = tempfile.TemporaryDirectory(prefix="tallyd-py-")
        os.chmod(self.home.name, 0o755)
        self.data = Path(self.home.name) / "data"
        self.socket = str(self.data / "tallyd.sock")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TALLYD_")},
            "TALLYD_DATA_DIR": str(self.data),
            "TALLYD_HTTP_LISTEN": "127.0.0.1:0",
            "TALLYD_FLUSHER_FLUSH_INTERVAL_MS": "20",
            "TALLYD_FLUSHER_RETRY_MIN_MS": "10",
            "TALLYD_FLUSHER_RETRY_MAX_MS": "100",
        }
        self.process = None

    def up(self):
        with open(Path(self.home.name) / "log", "ab") as log:
            self.process = subprocess.Popen(
                [PROGRAM, "serve"], env=self.environment, stdout=log, stderr=log, cwd=self.home.name
            )
        until("the daemon accepts records", self.ready)
        return self

    def ready(self):
        assert self.process.poll() is None, self.log()
        try:
            return json.loads(self.run("status", "--json").stdout)["health"]["ingest"]["status"] == "ok"
        except (ValueError, KeyError):
            return False

    def log(self):
        return (Path(self.home.name) / "log").read_text()[-4000:]

    def run(self, *arguments):
        return subprocess.run(
            [PROGRAM, *arguments],
            env=self.environment,
            cwd=self.home.name,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def psql(self, sql):
        done = self.run("psql", "--", "-X", "-At", "-c", sql)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def down(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(PATIENCE)

    def until_stored(self, count, app):
        # It accepts records before its schema is made.
        until("there is a schema", lambda: self.psql("SELECT to_regclass('api_usage_log') IS NOT NULL") == ["t"])
        sql = f"SELECT count(*) FROM api_usage_log WHERE app = '{app}'"
        until(f"{count} rows of {app} are stored", lambda: int(self.psql(sql)[0]) >= count)


class Caught(list):
    """Stands in for a recorder: the records that it would have sent, each of which the wire can carry."""

    def record(self, provider="", **fields):
        record = {"provider": provider, **fields}
        _wire.encode_record(record)
        self.append(record)
        return True

    def only(self):
        assert len(self) == 1, list(self)
        return self[0]


def having(record, **fields):
    """Whether the record has these fields; what differs is shown."""
    assert {name: record.get(name) for name in fields} == fields
