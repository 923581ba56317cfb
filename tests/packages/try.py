#!/usr/bin/env python3
"""Tries the packages as a new user would: from an empty folder, without root, without a compiler, without PostgreSQL.

    tests/packages/try.py target/packages [npm pip oci deb]

The commands are those of docs/guide/install.md, run as one script per section. Each package is installed from the built files,
started, and given one call. The call must be on the page's address, in the API and in SQL, and still be there after a stop and a
start. Prints a table of seconds and megabytes as Markdown. Dependencies come from the package managers' own caches and
registries. Run by root, it becomes an unprivileged user, and hides an installed PostgreSQL in a mount namespace of its own.
Exits 1 if anything fails.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
from pathlib import Path

PACKAGES = Path(sys.argv[1]).resolve()
NOBODY = 65534
# Folders that are hidden, so that the machine seems to have no PostgreSQL.
HIDDEN = ["/usr/lib/postgresql", "/usr/local/pgsql"]
CALL = "TALLYD_TRY_CALL"


def wait(what, ask, seconds=60):
    """Asks until there is an answer."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError, ValueError, subprocess.CalledProcessError):
            if answer := ask():
                return answer
        if time.monotonic() > end:
            raise SystemExit(f"error: {what}: not within {seconds} s")
        time.sleep(0.05)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def megabytes(folder):
    files = [path.lstat() for path in Path(folder).rglob("*") if not path.is_symlink() and path.is_file()]
    return sum({(stat.st_dev, stat.st_ino): stat.st_blocks * 512 for stat in files}.values()) / 1_000_000


class User:
    """A user in an empty folder, with nothing but the system's own programs."""

    def __init__(self, folder):
        self.folder, self.port = Path(folder), free_port()
        self.data = self.folder / "tallyd-data"
        self.environment = {
            "HOME": str(folder),
            "PATH": "/usr/bin:/bin",
            "TALLYD_HTTP_LISTEN": f"127.0.0.1:{self.port}",
            "TALLYD_OTLP_GRPC_LISTEN": "",
            # Caches are warm once any user has installed from them.
            "NPM_CONFIG_CACHE": str(PACKAGES.parent / "try-cache/npm"),
            "NPM_CONFIG_PREFER_OFFLINE": "true",
            "NPM_CONFIG_UPDATE_NOTIFIER": "false",
            "PIP_CACHE_DIR": str(PACKAGES.parent / "try-cache/pip"),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        for name in ("npm", "pip"):
            cache = PACKAGES.parent / "try-cache" / name
            cache.mkdir(parents=True, exist_ok=True)
            give(cache)
        give(self.folder)
        self.daemon = None

    def words(self, words):
        return [*(("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs") if os.getuid() == 0 else ()), *words]

    def run(self, *words, **more):
        more.setdefault("cwd", self.folder)
        done = subprocess.run(self.words(words), env=self.environment, capture_output=True, text=True, check=False, **more)
        if done.returncode:
            raise SystemExit(f"error: {' '.join(map(str, words))}\n{done.stdout}{done.stderr}")
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


def script(section):
    """The commands of a section of the page."""
    page = (Path(__file__).resolve().parents[2] / "docs/guide/install.md").read_text()
    return page.split(f"\n## {section}\n")[1].split("\n## ")[0].split("```sh\n")[1].split("```")[0]


def tried(user, section, tallyd, sql=None):
    """Runs a section's script, which leaves the daemon running. Returns the seconds from its first command to the durable call."""
    (user.folder / "tallyd/target").mkdir(parents=True)
    (user.folder / "tallyd/target/packages").symlink_to(PACKAGES)
    give(user.folder)
    marked = script(section).replace("tallyd costs", "touch recorded; wait %1")
    begun = time.time()
    user.launch("bash", "-euo", "pipefail", "-c", marked)
    recorded = wait("the example has recorded a call", lambda: user.alive() and (user.folder / "recorded").stat().st_mtime, 120)
    sql = sql or (lambda text: user.run(*tallyd, "psql", "-Atc", text))
    seen(user, tallyd, sql)
    user.stop()
    user.start(*tallyd)
    seen(user, tallyd, sql)
    user.stop()
    return recorded - begun


def npm(user):
    # PostgreSQL's package has no psql; this driver of npm's is installed outside of the measured time.
    query = (
        "import('pg').then(async ({ default: { Client } }) => { const client = new Client({ host: process.argv[1], user: 'tallyd', database: 'tallyd' });"
        "await client.connect(); console.log((await client.query({ text: process.argv[2], rowMode: 'array' })).rows[0][0]); await client.end(); })"
    )
    beside = user.folder / "sql"

    def sql(text):
        if not beside.exists():
            beside.mkdir()
            give(beside)
            user.run("npm", "install", "--no-audit", "--no-fund", "--prefix", beside, "pg")
        return user.run("node", "-e", query, user.folder / "tallyd-data/postgres", text, cwd=beside)

    return tried(user, "Node", ["npx", "--no-install", "tallyd"], sql), user.folder / "node_modules"


def pip(user):
    return tried(user, "Python", ["venv/bin/tallyd"]), user.folder / "venv"


def oci(user):
    """Unpacks the image's file system, read-only, for the image's user. No engine is needed: its layers are tar files."""
    root = user.folder / "root"

    def install():
        archive = next(PACKAGES.glob("oci/tallyd-postgres-*.oci.tar"))
        with tarfile.open(archive) as blobs:
            read = lambda digest: json.load(blobs.extractfile(f"blobs/sha256/{digest.split(':')[1]}"))
            manifest = read(json.load(blobs.extractfile("index.json"))["manifests"][0]["digest"])
            user.config = read(manifest["config"]["digest"])["config"]
            for layer in manifest["layers"]:
                with tarfile.open(fileobj=blobs.extractfile(f"blobs/sha256/{layer['digest'].split(':')[1]}"), mode="r:gz") as files:
                    files.extractall(root, filter="tar")
        subprocess.run(["mount", "--bind", root, root], check=True)
        for name in ("proc", "dev"):
            subprocess.run(["mount", "--rbind", f"/{name}", root / name], check=True)
        for name in ("var/lib/tallyd", "run/tallyd", "tmp"):
            volume = user.folder / f"volume-{name.replace('/', '-')}"
            volume.mkdir()
            os.chown(volume, int(user.config["User"]), int(user.config["User"]))
            subprocess.run(["mount", "--bind", volume, root / name], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", root], check=True)

    def in_root(words):
        uid = int(user.config["User"])
        return [shutil.which("chroot"), f"--userspec={uid}:{uid}", root, *words]

    user.data = user.folder / "volume-var-lib-tallyd"
    user.words = lambda words: in_root(words) if str(words[0]).startswith("/") else words
    begun = time.monotonic()
    install()
    user.environment.update(pair.split("=", 1) for pair in user.config["Env"])
    user.environment["TALLYD_HTTP_LISTEN"] = f"127.0.0.1:{user.port}"
    tallyd = user.config["Entrypoint"]
    call = ["record", "--provider", "claude", "--model", "claude-sonnet-5", "--input-tokens", "1200", "--output-tokens", "350"]
    user.start(*tallyd, *user.config["Cmd"])
    user.run(*tallyd, *call)
    recorded = time.monotonic()
    sql = lambda text: user.run(*tallyd, "psql", "-Atc", text)
    for again in (False, True):
        if again:
            user.start(*tallyd, *user.config["Cmd"])
        seen(user, tallyd, sql)
        health = user.config["Healthcheck"]["Test"][1:]
        user.run(*health)
        user.stop()
    return recorded - begun, root / "usr"


def main():
    if os.getuid() == 0 and os.environ.get(CALL) is None:
        # In a mount namespace of its own: its mounts go with it.
        os.environ[CALL] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--propagation=private", sys.executable, *sys.argv])
    if os.getuid() == 0:
        for folder in filter(os.path.isdir, HIDDEN):
            subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)
    ways = {"npm": npm, "pip": pip, "oci": oci}
    rows = []
    for name in sys.argv[2:] or ways:
        if name == "oci" and os.getuid() != 0:
            print("oci: left out, since only root can give the image a root of its own", file=sys.stderr)
            continue
        with tempfile.TemporaryDirectory(prefix="tallyd-try-") as folder:
            os.chmod(folder, 0o755)
            user = User(folder)
            try:
                seconds, installed = ways[name](user)
                rows.append(f"| {name} | {seconds:.1f} s | {megabytes(installed):.0f} MB |")
                print(rows[-1], file=sys.stderr)
            finally:
                if user.daemon and user.daemon.poll() is None:
                    user.daemon.kill()
                    user.daemon.wait()
                subprocess.run(f"umount --recursive {folder}/root 2>/dev/null", shell=True, check=False)
    print("| | from the first command to a durable call | on disk |\n|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
