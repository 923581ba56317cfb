"""The program under test, with a data folder of its own."""

import json
import os
import subprocess
import urllib.error
import urllib.request

from nodes import PATIENCE, free_port, until


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
            self.daemon.wait(timeout=PATIENCE)

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
