"""The daemon under test, with its own data folder and PostgreSQL."""

import json
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import tallyd
from tallyd import _wire

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = os.environ.get("TALLYD_BIN") or str(ROOT / "target/debug/tallyd")
PATIENCE = 60.0


def until(what, condition, patience=PATIENCE):
    """Waits for a condition, `patience` seconds at most; the failure names the condition."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {patience:g} s in vain: {what}")


def free_port():
    """A port below the range for outgoing connections, so that none of them takes it before the daemon does."""
    while True:
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind(("127.0.0.1", random.randrange(20_000, 32_000)))
            except OSError:
                continue
            return one.getsockname()[1]


def admits(url, token):
    try:
        tallyd.Costs(url, token).today()
    except tallyd.CostsError as error:
        # A token that may only record gets a 403, so it is known.
        return error.status == 403
    return True


class Daemon:
    def __init__(self, **environment):
        self.home = tempfile.TemporaryDirectory(prefix="tallyd-py-")
        os.chmod(self.home.name, 0o755)
        self.data = Path(self.home.name) / "data"
        self.socket = str(self.data / "tallyd.sock")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TALLYD_")},
            "TALLYD_DATA_DIR": str(self.data),
            "TALLYD_HTTP_LISTEN": f"127.0.0.1:{self.port}",
            "TALLYD_LISTEN_TCP": f"127.0.0.1:{free_port()}",
            "TALLYD_LISTEN_TCP_TOKENS": "s3cret-of-16-characters",
            "TALLYD_FLUSHER_FLUSH_INTERVAL_MS": "20",
            "TALLYD_FLUSHER_RETRY_MIN_MS": "10",
            "TALLYD_FLUSHER_RETRY_MAX_MS": "100",
            **environment,
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
        return self.status().get("health", {}).get("ingest", {}).get("status") == "ok"

    def status(self):
        try:
            return json.loads(self.run("status", "--json").stdout)
        except ValueError:
            return {}

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

    def token(self, role="read"):
        """A token that may read costs, or with the role `admin` also set budgets and prices."""
        made = []

        def create():
            made.append(self.run("token", "create", "--name", "test", "--role", role))
            return made[-1].returncode == 0

        until("a token is made", create)
        token = made[-1].stdout.split()[0]
        until("the daemon knows the token", lambda: admits(self.url, token))
        return token

    def postmaster(self):
        """The process id of the daemon's own PostgreSQL; 0 if it does not run."""
        try:
            return int((self.data / "postgres/postmaster.pid").read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return 0

    def crash_database(self):
        """Shuts PostgreSQL down immediately, which is like a crash. The daemon starts it again by itself."""
        # Waits first: a server that ends while it starts counts as a faulty installation, and ends the daemon.
        until("the daemon has its database", lambda: self.status().get("database", {}).get("connected"))
        before = until("PostgreSQL runs", self.postmaster)
        os.kill(before, signal.SIGQUIT)
        return before

    def kill(self):
        self.process.kill()
        self.process.wait()

    def down(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(PATIENCE)

    def until_stored(self, count, app):
        # The daemon accepts records before the schema exists.
        until("there is a schema", lambda: self.psql("SELECT to_regclass('api_usage_log') IS NOT NULL") == ["t"])
        sql = f"SELECT count(*) FROM api_usage_log WHERE app = '{app}'"
        until(f"{count} rows of {app} are stored", lambda: int(self.psql(sql)[0]) >= count)


class Caught(list):
    """A recorder that keeps its records in a list, and checks that the wire can carry each."""

    def record(self, provider="", **fields):
        record = {"provider": provider, **fields}
        _wire.encode_record(record)
        self.append(record)
        return True

    def only(self):
        assert len(self) == 1, list(self)
        return self[0]


def having(record, **fields):
    """Asserts that the record has these fields. The failure shows the differences."""
    assert {name: record.get(name) for name in fields} == fields
