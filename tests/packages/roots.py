"""The packages that need a root of their own, which only root can give them: the container images and the Debian package."""

import json
import os
import platform
import re
import shutil
import subprocess
import tarfile
import time
from pathlib import Path

from user import CALL, megabytes, seen

ROOT = Path(__file__).resolve().parents[2]


# Compressed, by the image's name: a registry's users fetch so much.
LARGEST = {"tallyd": 60, "tallyd-postgres": 120}


def unpacked(user, name):
    """An image's root, read-only but for its volumes, and its configuration. No engine is needed: its layers are tar files."""
    root = user.folder / name
    with tarfile.open(next(user.packages.glob(f"oci/{name}-[0-9]*.oci.tar"))) as blobs:
        read = lambda digest: json.load(blobs.extractfile(f"blobs/sha256/{digest.split(':')[1]}"))
        manifest = read(json.load(blobs.extractfile("index.json"))["manifests"][0]["digest"])
        config = read(manifest["config"]["digest"])["config"]
        size = sum(layer["size"] for layer in manifest["layers"]) / 1_000_000
        if size > LARGEST[name]:
            raise SystemExit(f"error: the image {name} has {size:.1f} MB, more than {LARGEST[name]}")
        for layer in manifest["layers"]:
            with tarfile.open(fileobj=blobs.extractfile(f"blobs/sha256/{layer['digest'].split(':')[1]}"), mode="r:gz") as files:
                files.extractall(root, filter="tar")
    subprocess.run(["mount", "--bind", root, root], check=True)
    for folder in ("proc", "dev"):
        subprocess.run(["mount", "--rbind", f"/{folder}", root / folder], check=True)
    for folder in ("var/lib/tallyd", "run/tallyd", "tmp"):
        volume = user.folder / f"{name}-{folder.replace('/', '-')}"
        volume.mkdir()
        os.chown(volume, int(config["User"]), int(config["User"]))
        subprocess.run(["mount", "--bind", volume, root / folder], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", root], check=True)
    return root, config


def enter(user, name):
    """The user's commands now run in an image, as its own user with its own environment."""
    root, config = unpacked(user, name)
    uid = int(config["User"])
    if uid == 0:
        raise SystemExit(f"error: the image {name} runs as root")
    inside = [shutil.which("chroot"), f"--userspec={uid}:{uid}", root]
    user.words = lambda words: [*inside, *words] if str(words[0]).startswith("/") else words
    user.data = user.folder / f"{name}-var-lib-tallyd"
    user.environment.update(pair.split("=", 1) for pair in config["Env"])
    user.environment["TALLYD_HTTP_LISTEN"] = f"127.0.0.1:{user.port}"
    return root, config


def oci(user):
    """Runs both images: the one with PostgreSQL as a whole, the other one while its database is away."""
    begun = time.monotonic()
    root, config = enter(user, "tallyd-postgres")
    tallyd, health = config["Entrypoint"], config["Healthcheck"]["Test"][1:]
    user.start(*tallyd, *config["Cmd"])
    user.run(*tallyd, *CALL)
    seconds = time.monotonic() - begun
    sql = lambda text: user.run(*tallyd, "psql", "-Atc", text)
    for again in (False, True):
        if again:
            user.start(*tallyd, *config["Cmd"])
        seen(user, tallyd, sql)
        user.run(*health)
        user.stop()
        if subprocess.run(user.words(health), env=user.environment, capture_output=True, check=False).returncode == 0:
            raise SystemExit("error: the health check finds a daemon that has ended healthy")
    installed = megabytes(root / "usr")
    _, config = enter(user, "tallyd")
    user.environment["TALLYD_DATABASE_URL"] = "postgresql://tallyd@127.0.0.1:9/tallyd"
    user.start(*config["Entrypoint"], *config["Cmd"])
    if '"ok":true' not in user.run(*config["Entrypoint"], *CALL):
        raise SystemExit("error: the image without PostgreSQL does not take a call")
    user.stop()
    return seconds, installed


def debian_root(user):
    """A small Debian: mmdebstrap makes it once, and apt's downloads are kept."""
    made, downloads = user.cache / "debian.tar", user.cache / "apt"
    downloads.mkdir(parents=True, exist_ok=True)
    if not made.exists():
        subprocess.run([ROOT / "scripts/need-mmdebstrap"], check=True)
        release = platform.freedesktop_os_release()["VERSION_CODENAME"]
        subprocess.run(["mmdebstrap", "--quiet", "--variant=apt", "--components=main", release, made], check=True)
    root = user.folder / "root"
    root.mkdir()
    subprocess.run(["tar", "--extract", f"--file={made}", f"--directory={root}"], check=True)
    for path in ("etc/resolv.conf", "etc/hosts"):
        shutil.copy(f"/{path}", root / path)
    # A container's rule that throws downloads away stays behind.
    shutil.copytree("/etc/apt", root / "etc/apt", dirs_exist_ok=True, ignore=shutil.ignore_patterns("docker-clean"))
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
    root, package = debian_root(user), next(user.packages.glob("deb/*.deb"))
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
    user.run(*tallyd, *CALL)
    recorded = time.monotonic()
    sql = lambda text: user.run(*tallyd, "psql", "-Atc", text)
    seen(user, tallyd, sql)
    user.stop()
    # The same package with the next revision.
    upgrade = user.folder / "upgrade"
    subprocess.run(["dpkg-deb", "--raw-extract", package, upgrade], check=True)
    control = upgrade / "DEBIAN/control"
    control.write_text(re.sub(r"^(Version: .*)-1$", r"\1-2", control.read_text(), flags=re.M))
    subprocess.run(["dpkg-deb", "--build", "-Zgzip", "-z1", "--root-owner-group", upgrade, root / "tmp/upgrade.deb"], check=True, capture_output=True)
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
