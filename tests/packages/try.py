#!/usr/bin/env python3
"""Tries the packages as a new user would: from an empty folder, without root, without a compiler, without PostgreSQL.

    tests/packages/try.py target/packages [npm pip oci deb]

The commands for Node and Python are those of README.md, then those of docs/guide/install.md. Each package is installed from the built files,
started, and given one call. The call must be on the page's address, in the API and in SQL, and still be there after a stop and a
start. Prints a table of seconds and megabytes as Markdown. Dependencies come from the package managers' own caches and
registries. Run by root, it becomes an unprivileged user, and hides an installed PostgreSQL in a mount namespace of its own.
The image and the Debian package have a root of their own, which only root can give them. Exits 1 if anything fails.
"""

import contextlib
import fcntl
import json
import os
import platform
import re
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
CALL_WORDS = ["record", "--provider", "claude", "--model", "claude-sonnet-5", "--input-tokens", "1200", "--output-tokens", "350"]
ROOT = Path(__file__).resolve().parents[2]


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
            # The authorities of a proxy between this machine and the registries.
            **{name: os.environ[name] for name in ("NODE_EXTRA_CA_CERTS", "PIP_CERT", "SSL_CERT_FILE") if name in os.environ},
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


def blocks(document, section):
    """The commands of a section: those of shell blocks, and those of examples with their output."""
    text = (ROOT / document).read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    found = re.findall(r"^```(sh|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    shell = [block for kind, block in found if kind == "sh"]
    return shell, [line[2:] for kind, block in found if kind == "console" for line in block.splitlines() if line.startswith("$ ")]


def with_clone(user):
    """The built packages are where a clone has them."""
    (user.folder / "tallyd/target").mkdir(parents=True)
    (user.folder / "tallyd/target/packages").symlink_to(PACKAGES)
    give(user.folder)


def first_screen(user, start, tallyd, prompt, sql=None):
    """Runs README's commands: `start` installs and starts, those of `prompt` come from a second shell. Returns the seconds from the
    first command to the durable call."""
    with_clone(user)
    shell = lambda commands: user.run("bash", "-euo", "pipefail", "-c", commands)
    sql = sql or (lambda text: user.run(*tallyd, "psql", "-Atc", text))
    record, *others = prompt
    begun = time.time()
    user.launch("bash", "-euo", "pipefail", "-c", start)
    wait("the daemon accepts records", lambda: user.alive() and user.get("/readyz"), 120)
    answer = shell(record)
    seconds = time.time() - begun
    if '"cost_usd":"0.0054"' not in answer:
        raise SystemExit(f"error: the answer is not README's: {answer}")
    for again in (False, True):
        if again:
            user.start(*tallyd)
        seen(user, tallyd, sql)
        if not again:
            user.stop()
    for command in [*others, *blocks("README.md", "Record")[0]]:
        shell(command)
    user.stop()
    return seconds


def guide(user, section):
    """Runs a section of docs/guide/install.md, whose daemon is in the background, in an empty folder."""
    folder = user.folder / "guide"
    folder.mkdir()
    other = User(folder)
    with_clone(other)
    [commands] = blocks("docs/guide/install.md", section)[0]
    other.run("bash", "-euo", "pipefail", "-c", f"{commands}\nkill %1\nwait")
    wait("the daemon has ended", other.is_free)


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

    [node, _], prompt = blocks("README.md", "Install and start")
    seconds = first_screen(user, node, ["npx", "--no-install", "tallyd"], prompt, sql)
    guide(user, "Node")
    return seconds, megabytes(user.folder / "node_modules")


def pip(user):
    [_, python], prompt = blocks("README.md", "Install and start")
    prompt = [f". venv/bin/activate\n{command.removeprefix('npx ')}" for command in prompt]
    seconds = first_screen(user, python, ["venv/bin/tallyd"], prompt)
    guide(user, "Python")
    return seconds, megabytes(user.folder / "venv")


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
    user.start(*tallyd, *user.config["Cmd"])
    user.run(*tallyd, *CALL_WORDS)
    recorded = time.monotonic()
    sql = lambda text: user.run(*tallyd, "psql", "-Atc", text)
    for again in (False, True):
        if again:
            user.start(*tallyd, *user.config["Cmd"])
        seen(user, tallyd, sql)
        health = user.config["Healthcheck"]["Test"][1:]
        user.run(*health)
        user.stop()
    return recorded - begun, megabytes(root / "usr")


def debian_root(folder):
    """A small Debian: mmdebstrap makes it once, and apt's downloads are kept."""
    made, downloads = PACKAGES.parent / "try-cache/debian.tar", PACKAGES.parent / "try-cache/apt"
    downloads.mkdir(parents=True, exist_ok=True)
    if not made.exists():
        subprocess.run([ROOT / "scripts/need-mmdebstrap"], check=True)
        release = platform.freedesktop_os_release()["VERSION_CODENAME"]
        subprocess.run(["mmdebstrap", "--quiet", "--variant=apt", "--components=main", release, made], check=True)
    root = folder / "root"
    root.mkdir()
    subprocess.run(["tar", "--extract", f"--file={made}", f"--directory={root}"], check=True)
    for path in ("etc/resolv.conf", "etc/hosts"):
        shutil.copy(f"/{path}", root / path)
    shutil.copytree("/etc/apt", root / "etc/apt", dirs_exist_ok=True)
    # No service is started while packages are installed, as on a machine whose administrator says so.
    (root / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
    (root / "usr/sbin/policy-rc.d").chmod(0o755)
    subprocess.run(["mount", "--bind", root, root], check=True)
    for name in ("proc", "dev"):
        subprocess.run(["mount", "--rbind", f"/{name}", root / name], check=True)
    subprocess.run(["mount", "--bind", downloads, root / "var/cache/apt/archives"], check=True)
    return root


def deb(user):
    """Installs the package into a Debian of its own, with the PostgreSQL that it recommends, and runs its unit's command. Then it is
    upgraded, removed and purged: the WAL stays."""
    root, package = debian_root(user.folder), next(PACKAGES.glob("deb/*.deb"))
    shutil.copy(package, root / "tmp/tallyd.deb")
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}

    def in_root(*words):
        done = subprocess.run(["chroot", root, *words], env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"error: {' '.join(words)}\n{done.stdout}{done.stderr}")
        return done.stdout

    in_root("apt-get", "update")
    before, begun = megabytes(root / "usr"), time.monotonic()
    in_root("apt-get", "install", "--yes", "/tmp/tallyd.deb")
    unit = (root / "lib/systemd/system/tallyd.service").read_text()
    value = lambda name: re.search(rf"^{name}=(.*)$", unit, re.M)[1]
    owner = value("User")
    # systemd makes these folders before a start.
    for folder in ("var/lib/tallyd", "run/tallyd"):
        in_root("install", "-d", "-o", owner, "-g", value("Group"), "-m", "0750", f"/{folder}")
    user.environment.update({"PATH": "/usr/bin:/bin", **dict(pair.split("=", 1) for pair in value("Environment").split())})
    user.data = root / "var/lib/tallyd"
    user.words = lambda words: [shutil.which("chroot"), f"--userspec={owner}:{value('Group')}", root, *words]
    tallyd, daemon = ["/usr/bin/tallyd"], value("ExecStart").split()
    user.start(*daemon)
    user.run(*tallyd, *CALL_WORDS)
    recorded = time.monotonic()
    sql = lambda text: user.run(*tallyd, "psql", "-Atc", text)
    seen(user, tallyd, sql)
    user.stop()
    # The same package with the next revision.
    upgrade = user.folder / "upgrade"
    subprocess.run(["dpkg-deb", "--raw-extract", package, upgrade], check=True)
    control = upgrade / "DEBIAN/control"
    control.write_text(re.sub(r"^(Version: .*)-1$", r"\1-2", control.read_text(), flags=re.M))
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", upgrade, root / "tmp/upgrade.deb"], check=True, capture_output=True)
    in_root("apt-get", "install", "--yes", "/tmp/upgrade.deb")
    if not in_root("dpkg-query", "--show", "--showformat=${Version}", "tallyd").endswith("-2"):
        raise SystemExit("error: the package was not upgraded")
    user.start(*daemon)
    seen(user, tallyd, sql)
    user.stop()
    installed = megabytes(root / "usr") - before
    in_root("apt-get", "remove", "--yes", "tallyd")
    left = [path for path in ("usr/bin/tallyd", "lib/systemd/system/tallyd.service") if (root / path).exists()]
    if left or not (root / "etc/tallyd/config.toml").exists():
        raise SystemExit(f"error: a removal leaves {left}, or takes the configuration")
    in_root("apt-get", "purge", "--yes", "tallyd")
    if (root / "etc/tallyd").exists() or not (user.data / "wal").exists():
        raise SystemExit("error: a purge leaves the configuration, or takes the WAL")
    return recorded - begun, installed


def main():
    if os.getuid() == 0 and os.environ.get(CALL) is None:
        # In a mount namespace of its own: its mounts go with it.
        os.environ[CALL] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--propagation=private", sys.executable, *sys.argv])
    if os.getuid() == 0:
        for folder in filter(os.path.isdir, HIDDEN):
            subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)
    ways = {"npm": npm, "pip": pip, "oci": oci, "deb": deb}
    rows = []
    for name in sys.argv[2:] or ways:
        if name in ("oci", "deb") and os.getuid() != 0:
            print(f"{name}: left out, since only root can give it a root of its own", file=sys.stderr)
            continue
        with tempfile.TemporaryDirectory(prefix="tallyd-try-") as folder:
            os.chmod(folder, 0o755)
            user = User(folder)
            try:
                seconds, installed = ways[name](user)
                rows.append(f"| {name} | {seconds:.1f} s | {installed:.0f} MB |")
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
