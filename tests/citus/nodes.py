"""A coordinator and its workers on loopback. CITUS_PG_CONFIG names the installation of Citus."""

import os
import pathlib
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time

# Seconds. Longer than any wait on a busy machine: it only ends a run that hangs.
PATIENCE = 300
DATABASE = "tally"
SETTINGS = """
shared_preload_libraries = 'citus'
listen_addresses = '127.0.0.1'
max_connections = 200
max_prepared_transactions = 400
shared_buffers = '128MB'
citus.recover_2pc_interval = '2s'
"""


def until(what, holds, patience=PATIENCE, pause=0.2):
    end = time.monotonic() + patience
    while not (found := holds()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {patience} s: {what}")
        time.sleep(pause)
    return found


def free_port():
    """A port below those that the system gives to outgoing connections, so that none of these takes it first."""
    while True:
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind(("127.0.0.1", random.randrange(20_000, 32_000)))
            except OSError:
                continue
            return one.getsockname()[1]


def server_user():
    """The account for the server. PostgreSQL does not run as root; then it is the user of the system's package."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise SystemExit("error: run this as another user than root")


class Node:
    """One server."""

    def __init__(self, programs, home, name, more=""):
        self.programs, self.name, self.port = programs, name, free_port()
        self.data = home / name
        self.user = server_user()
        self.server = None
        self.data.mkdir(mode=0o700)
        if self.user:
            os.chown(self.data, self.user.pw_uid, self.user.pw_gid)
        self.run([programs / "initdb", "-D", self.data, "-U", "postgres", "--auth=trust", "--no-sync", "-E", "UTF8", "--no-locale"])
        with (self.data / "postgresql.conf").open("a") as conf:
            conf.write(f"{SETTINGS}port = {self.port}\nunix_socket_directories = '{self.data}'\n{more}\n")

    def run(self, words):
        options = {"user": self.user.pw_uid, "group": self.user.pw_gid} if self.user else {}
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, cwd="/", **options)

    def start(self):
        options = {"user": self.user.pw_uid, "group": self.user.pw_gid} if self.user else {}
        # Citus looks into HOME for certificates when it connects to other nodes.
        options["env"] = {**os.environ, "HOME": str(self.data)}
        log = (self.data / "server.log").open("a")
        self.server = subprocess.Popen(
            [self.programs / "postgres", "-D", self.data], stdout=log, stderr=log, cwd="/", start_new_session=True, **options
        )
        until(f"{self.name} answers", lambda: self.psql("SELECT 1", database="postgres", check=False) == "1")
        return self

    def kill(self):
        """Kills every process at once, like a power cut except that the system keeps its cache."""
        pids = self.processes()
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.server.wait()
        until(f"{self.name} is gone", lambda: not self.processes())

    def processes(self):
        found = [self.server.pid] if self.server and self.server.poll() is None else []
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if os.readlink(entry / "cwd") == str(self.data):
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found

    def stop(self):
        if self.server and self.server.poll() is None:
            self.server.send_signal(signal.SIGINT)
            try:
                self.server.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.kill()

    def psql(self, *sql, database=DATABASE, check=True, user="postgres"):
        words = [self.programs / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(self.port), "-U", user, "-d", database]
        done = subprocess.run([*words, *(word for one in sql for word in ("-c", one))], capture_output=True, text=True, env={**os.environ, "PGSSLMODE": "prefer"})
        if done.returncode != 0 and check:
            raise AssertionError(f"{self.name}: {done.stderr.strip()} (of: {'; '.join(sql)[:400]})")
        return done.stdout.strip() if done.returncode == 0 else None

    def url(self, mode="prefer", user="postgres"):
        return f"postgresql://{user}@127.0.0.1:{self.port}/{DATABASE}?sslmode={mode}"


class Cluster:
    """A coordinator and two workers; a third can be added."""

    def __init__(self, programs, more=""):
        self.programs, self.more = programs, more
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="tallyd-citus-"))
        self.home.chmod(0o755)
        self.workers = []
        self.coordinator = self.node("coordinator")
        for number in (1, 2):
            self.workers.append(self.node(f"worker{number}"))
        self.psql = self.coordinator.psql
        self.psql(f"SELECT citus_set_coordinator_host('127.0.0.1', {self.coordinator.port})")
        for worker in self.workers:
            self.psql(f"SELECT citus_add_node('127.0.0.1', {worker.port})")

    def node(self, name):
        node = Node(self.programs, self.home, name, self.more).start()
        node.psql(f"CREATE DATABASE {DATABASE}", database="postgres")
        node.psql("CREATE EXTENSION citus")
        return node

    def add_worker(self):
        node = self.node(f"worker{len(self.workers) + 1}")
        self.workers.append(node)
        self.psql(f"SELECT citus_add_node('127.0.0.1', {node.port})")
        return node

    def nodes(self):
        return [self.coordinator, *self.workers]

    def start_missing(self):
        for node in self.nodes():
            if node.server.poll() is not None:
                node.start()

    def close(self):
        for node in self.nodes():
            node.stop()
        shutil.rmtree(self.home, ignore_errors=True)
