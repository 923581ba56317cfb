#!/usr/bin/env python3
"""Tries the packages as a new user would: from an empty folder, without root, without a compiler, without PostgreSQL.

    tests/packages/try.py target/packages [npm pip oci deb]

Each is installed from the built files, started, given one call, found on the page's address, in the API and in SQL, stopped, started
again, and asked whether the call is still there. Prints a table of seconds and megabytes as Markdown. Dependencies come from the package
managers' own caches and registries. Run by root, it becomes an unprivileged user, and hides an installed PostgreSQL in a
mount namespace of its own. Exits 1 if anything fails.
"""

import contextlib
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
# Folders that are hidden, to stand for a machine without PostgreSQL.
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
        done = subprocess.run(self.words(words), cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False, **more)
        if done.returncode:
            raise SystemExit(f"error: {' '.join(map(str, words))}\n{done.stdout}{done.stderr}")
        return done.stdout

    def start(self, *words):
        log = open(self.folder / "daemon.log", "a")
        streams = {"stdout": log, "stderr": log, "stdin": subprocess.DEVNULL}
        self.daemon = subprocess.Popen(self.words(words), cwd=self.folder, env=self.environment, start_new_session=True, **streams)
        wait("the daemon accepts records", lambda: self.alive() and self.get("/readyz"))

    def alive(self):
        if self.daemon.poll() is not None:
            raise SystemExit(f"error: the daemon has ended: {(self.folder / 'daemon.log').read_text()}")
        return True

    def stop(self, tallyd):
        """Ctrl-C, which a terminal sends to the program and to each process that runs it."""
        os.killpg(self.daemon.pid, signal.SIGINT)
        self.daemon.wait(timeout=60)
        words = self.words([*tallyd, "status"])
        status = lambda: subprocess.run(words, cwd=self.folder, env=self.environment, capture_output=True, check=False).returncode
        wait("the daemon has ended", lambda: status() == 3)
        log = (self.folder / "daemon.log").read_text()
        if "ERROR" in log:
            raise SystemExit(f"error: the daemon did not end in order: {log}")

    def get(self, path, token=None):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers={"Authorization": f"Bearer {token}"} if token else {})
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.read().decode()


def give(folder):
    """Gives a folder of root's to the user who will work in it."""
    if os.getuid() == 0:
        for path in (folder, *Path(folder).rglob("*")):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


def seen(user, tallyd, sql):
    """The call is there: in the command line's sum, over HTTP with a token, and in SQL."""
    token = user.run(*tallyd, "token", "create", "--name", "try", "--role", "read").split()[-1]
    wait("the call is in PostgreSQL", lambda: sql("SELECT count(*) FROM api_usage_log").strip() == "1")
    wait("the call is in the API", lambda: "claude-sonnet-4-5" in user.get("/api/v1/records", token))
    if "<html" not in user.get("/"):
        raise SystemExit("error: the address has no page")
    if "claude-sonnet-4-5" not in user.run(*tallyd, "costs"):
        raise SystemExit("error: `tallyd costs` does not have the call")


def tried(user, install, tallyd, language, example, sql=None):
    """One package manager's way. Returns the seconds to install, and from there to the durable call."""
    begun = time.monotonic()
    install()
    installed = time.monotonic()
    user.run(*tallyd, "init", "--defaults", "--language", language)
    user.start(*tallyd)
    for line in (user.folder / "tallyd.env").read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, value = line.split("=", 1)
            user.environment[name] = value
    user.run(*example)
    recorded = time.monotonic()
    sql = sql or (lambda text: user.run(*tallyd, "psql", "-Atc", text))
    seen(user, tallyd, sql)
    user.stop(tallyd)
    user.start(*tallyd)
    seen(user, tallyd, sql)
    user.stop(tallyd)
    return installed - begun, recorded - installed


def npm(user):
    tallyd = ["npx", "--no-install", "tallyd"]
    files = sorted(PACKAGES.glob("npm/*.tgz"))
    # PostgreSQL's package has no psql; this driver of npm's is installed outside of the measured time.
    script = (
        "import('pg').then(async ({ default: { Client } }) => { const client = new Client({ host: process.argv[1], user: 'tallyd', database: 'tallyd' });"
        "await client.connect(); console.log((await client.query({ text: process.argv[2], rowMode: 'array' })).rows[0][0]); await client.end(); })"
    )

    def sql(text):
        if not (user.folder / "node_modules/pg").exists():
            user.run("npm", "install", "--no-save", "--no-audit", "--no-fund", "pg", *files)
        return user.run("node", "-e", script, user.folder / "tallyd-data/postgres", text)

    def install():
        user.run("npm", "init", "--yes")
        user.run("npm", "install", "--no-audit", "--no-fund", *files)

    seconds = tried(user, install, tallyd, "node", ["node", "tallyd-example.mjs"], sql)
    return *seconds, user.folder / "node_modules"


def pip(user):
    tallyd = ["venv/bin/tallyd"]

    def install():
        user.run("python3", "-m", "venv", "venv")
        user.run("venv/bin/pip", "install", "--quiet", f"--find-links={PACKAGES}/pypi", "tallyd[daemon]")

    return *tried(user, install, tallyd, "python", ["venv/bin/python", "tallyd_example.py"]), user.folder / "venv"


def oci(user):
    """The image's file system, read-only, as the image's user. No engine is needed: its layers are tar files."""
    if os.getuid() != 0:
        raise SystemExit("error: the image is tried in a root of its own, which only root can make")
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

    user.words = lambda words: in_root(words) if str(words[0]).startswith("/") else words
    seconds_install = time.monotonic()
    install()
    installed = time.monotonic()
    user.environment.update(pair.split("=", 1) for pair in user.config["Env"])
    user.environment["TALLYD_HTTP_LISTEN"] = f"127.0.0.1:{user.port}"
    tallyd = user.config["Entrypoint"]
    call = ["record", "--provider", "claude", "--model", "claude-sonnet-4-5", "--input-tokens", "1200", "--output-tokens", "350"]
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
        user.stop(tallyd)
    return installed - seconds_install, recorded - installed, root / "usr"


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
        with tempfile.TemporaryDirectory(prefix="tallyd-try-") as folder:
            os.chmod(folder, 0o755)
            user = User(folder)
            try:
                install, record, installed = ways[name](user)
                rows.append(f"| {name} | {install:.1f} s | {record:.1f} s | {megabytes(installed):.0f} MB |")
                print(rows[-1], file=sys.stderr)
            finally:
                if user.daemon and user.daemon.poll() is None:
                    user.daemon.kill()
                    user.daemon.wait()
                subprocess.run(f"umount --recursive {folder}/root 2>/dev/null", shell=True, check=False)
    print("| | install | start, and one call durable | on disk |\n|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
