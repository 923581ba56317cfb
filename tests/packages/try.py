#!/usr/bin/env python3
"""Tries the packages as a new user would: from an empty folder, without root, without a compiler, without PostgreSQL.

    tests/packages/try.py target/packages [npm pip oci deb cargo arm64]

The commands for Node and Python are those of README.md, then those of docs/guide/install.md. Each package is installed from the built files,
started, and given one call. The call must be on the page's address, in the API and in SQL, and still be there after a stop and a
start. Prints a table of seconds and megabytes as Markdown. Dependencies come from the package managers' own caches and
registries. Run by root, it becomes an unprivileged user, and hides an installed PostgreSQL in a mount namespace of its own.
The image and the Debian package have a root of their own, which only root can give them. Two kinds are tried by name alone:
cargo, which compiles for minutes, and arm64, which needs QEMU. Exits 1 if anything fails.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import arm64
import languages
import roots
from user import User

# Folders that are hidden, so that the machine seems to have no PostgreSQL.
HIDDEN = ["/usr/lib/postgresql", "/usr/local/pgsql"]
INSIDE = "TALLYD_TRY_INSIDE"
WAYS = {"npm": languages.npm, "pip": languages.pip, "oci": roots.oci, "deb": roots.deb, "cargo": languages.cargo, "arm64": arm64.arm64}
# The built files that a user of this machine installs.
FILES = {"npm": "npm/*.tgz", "pip": "pypi/*x86_64.whl", "oci": "oci/tallyd-postgres-*", "deb": "deb/*.deb", "cargo": "cargo/*", "arm64": "npm/arm64/*"}
BY_NAME = ("cargo", "arm64")
# A crate brings no PostgreSQL.
WITH_POSTGRES = ("cargo",)


@contextlib.contextmanager
def without_postgres(way):
    folders = [] if os.getuid() != 0 or way in WITH_POSTGRES else list(filter(os.path.isdir, HIDDEN))
    for folder in folders:
        subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)
    yield
    for folder in folders:
        subprocess.run(["umount", folder], check=True)


def tried(way, packages):
    """The way's row of the table."""
    with tempfile.TemporaryDirectory(prefix="tallyd-try-") as folder:
        os.chmod(folder, 0o755)
        user = User(folder, packages)
        try:
            with without_postgres(way):
                seconds, installed = WAYS[way](user)
        finally:
            user.end()
            subprocess.run(f"umount --recursive {folder}/*/ 2>/dev/null", shell=True, check=False)
    files = sum(path.stat().st_size for path in packages.glob(FILES[way])) / 1_000_000
    return f"| {way} | {seconds:.1f} s | {files:.0f} MB | {installed:.0f} MB |"


def main():
    if os.getuid() == 0 and os.environ.get(INSIDE) is None:
        # In a mount namespace of its own: its mounts go with it.
        os.environ[INSIDE] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--propagation=private", sys.executable, *sys.argv])
    packages = Path(sys.argv[1]).resolve()
    rows = []
    for way in sys.argv[2:] or [way for way in WAYS if way not in BY_NAME]:
        if way in ("oci", "deb") and os.getuid() != 0:
            print(f"{way}: left out, since only root can give it a root of its own", file=sys.stderr)
            continue
        rows.append(tried(way, packages))
        print(rows[-1], file=sys.stderr, flush=True)
    print("| | from the first command to a durable call | built files | on disk |\n|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
