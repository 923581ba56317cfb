"""A new user of this machine, in an empty folder: without root, without a compiler, without PostgreSQL."""

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

NOBODY = 65534
# Seconds for a command, which may have to fetch packages.
PATIENCE = 600
CALL = ["record", "--provider", "claude", "--model", "claude-sonnet-5", "--input-tokens", "1200", "--output-tokens", "350"]


class Failed(SystemExit):
    """A command that the user gave has ended with an error."""


def wait(what, ask, seconds=60):
    """Asks until there is an answer. A command may fail until then."""
    end, last = time.monotonic() + seconds, None
    while True:
        try:
            if answer := ask():
                return answer
        except (OSError, ValueError, subprocess.CalledProcessError, Failed) as error:
            last = error
        if time.monotonic() > end:
            raise SystemExit(f"error: {what}: not within {seconds} s: {last}")
        time.sleep(0.05)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def megabytes(folder):
    files = [path.lstat() for path in Path(folder).rglob("*") if not path.is_symlink() and path.is_file()]
    return sum({(stat.st_dev, stat.st_ino): stat.st_blocks * 512 for stat in files}.values()) / 1_000_000


class User:
    """A user in an empty folder, with nothing but the system's own programs."""

    def __init__(self, folder, packages):
        self.folder, self.packages, self.port = Path(folder), packages, free_port()
        self.cache = packages.parent / "try-cache"
        self.data = self.folder / "tallyd-data"
        self.environment = {
            "HOME": str(folder),
            "PATH": "/usr/bin:/bin",
            "TALLYD_HTTP_LISTEN": f"127.0.0.1:{self.port}",
            "TALLYD_OTLP_GRPC_LISTEN": "",
            # Caches are warm once any user has installed from them.
            "NPM_CONFIG_CACHE": str(self.cache / "npm"),
            "NPM_CONFIG_PREFER_OFFLINE": "true",
            "NPM_CONFIG_UPDATE_NOTIFIER": "false",
            "PIP_CACHE_DIR": str(self.cache / "pip"),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            # The authorities of a proxy between this machine and the registries.
            **{name: os.environ[name] for name in ("NODE_EXTRA_CA_CERTS", "PIP_CERT", "SSL_CERT_FILE") if name in os.environ},
        }
        for name in ("npm", "pip"):
            cache = self.cache / name
            cache.mkdir(parents=True, exist_ok=True)
            give(cache)
        give(self.folder)
        self.daemon = None

    def words(self, words):
        become = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs")
        return [*(become if os.getuid() == 0 else ()), *words]

    def run(self, *words, **more):
        more.setdefault("cwd", self.folder)
        try:
            done = subprocess.run(self.words(words), env=self.environment, capture_output=True, text=True, check=False, timeout=PATIENCE, **more)
        except subprocess.TimeoutExpired:
            raise SystemExit(f"error: {' '.join(map(str, words))}: not within {PATIENCE} s") from None
        if done.returncode:
            raise Failed(f"error: {' '.join(map(str, words))}\n{done.stdout}{done.stderr}")
        return done.stdout

    def start(self, *words):
        self.launch(*words)
        wait("the daemon accepts records", lambda: self.alive() and self.get("/readyz"))

    def launch(self, *words):
        log = open(self.folder / "daemon.log", "a")
        streams = {"stdout": log, "stderr": log, "stdin": subprocess.DEVNULL}
        self.daemon = subprocess.Popen(self.words(words), cwd=self.folder, env=self.environment, start_new_session=True, **streams)

    def alive(self):
        if self.daemon.poll() is not None:
            raise SystemExit(f"error: the daemon has ended: {(self.folder / 'daemon.log').read_text()}")
        return True

    def stop(self):
        """Ctrl-C, which a terminal sends to the program and to each process that runs it."""
        os.killpg(self.daemon.pid, signal.SIGINT)
        self.daemon.wait(timeout=60)
        wait("the daemon has ended", self.is_free)
        log = (self.folder / "daemon.log").read_text()
        if "ERROR" in log:
            raise SystemExit(f"error: the daemon did not end in order: {log}")

    def end(self):
        """Ends a daemon that a fault has left."""
        if self.daemon and self.daemon.poll() is None:
            os.killpg(self.daemon.pid, signal.SIGKILL)
            self.daemon.wait()

    def is_free(self):
        """No daemon holds the data folder."""
        with open(self.data / "tallyd.lock") as lock, contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True

    def get(self, path, token=None):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers={"Authorization": f"Bearer {token}"} if token else {})
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.read().decode()


def give(folder):
    """Run by root, gives a folder to the user who will work in it."""
    if os.getuid() == 0:
        for path in (folder, *Path(folder).rglob("*")):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


def seen(user, tallyd, sql):
    """The call is there: in the command line's sum, over HTTP with a token, and in SQL."""
    token = user.run(*tallyd, "token", "create", "--name", "try", "--role", "read").split()[-1]
    wait("the call is in PostgreSQL", lambda: sql("SELECT count(*) FROM api_usage_log").strip() == "1")
    wait("the call is in the API", lambda: "claude-sonnet-5" in user.get("/api/v1/records", token))
    if "<html" not in user.get("/"):
        raise SystemExit("error: the address has no page")
    if "claude-sonnet-5" not in user.run(*tallyd, "costs"):
        raise SystemExit("error: `tallyd costs` does not have the call")
