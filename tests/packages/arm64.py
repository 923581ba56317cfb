"""The program for arm64, under QEMU beside this machine's daemon: both load into one PostgreSQL."""

import re
import subprocess
import tarfile
import time
from pathlib import Path

from user import CALL, User, give, megabytes, wait

ROOT = Path(__file__).resolve().parents[2]
# Programs of arm64 meet kernels with pages of up to 64 KiB.
LARGEST_PAGE = 0x10000
OLDEST_GLIBC = (2, 28)


def portable(program):
    """The program starts on old systems and with large pages."""
    read = lambda *words: subprocess.run(["readelf", "--wide", *words, program], check=True, capture_output=True, text=True).stdout
    glibc = max(tuple(map(int, version)) for version in re.findall(r"GLIBC_(\d+)\.(\d+)", read("--version-info")))
    if glibc > OLDEST_GLIBC:
        raise SystemExit(f"error: the program for arm64 needs glibc {glibc}, later than {OLDEST_GLIBC}")
    segments = [int(line.split()[-1], 16) for line in read("--program-headers").splitlines() if line.split()[:1] == ["LOAD"]]
    if not segments or min(segments) < LARGEST_PAGE:
        raise SystemExit(f"error: the program for arm64 has segments that are aligned to {min(segments, default=0)} bytes")


def arm64(user):
    qemu = subprocess.run([ROOT / "scripts/need-qemu"], check=True, capture_output=True, text=True).stdout.split()
    user.run("npm", "install", "--no-audit", "--no-fund", *sorted(user.packages.glob("npm/*.tgz")))
    user.start("npx", "--no-install", "tallyd")
    beside = user.folder / "arm64"
    beside.mkdir()
    other = User(beside, user.packages)
    other.environment["TALLYD_DATABASE_URL"] = f"postgresql://tallyd@/tallyd?host={user.data}/postgres"
    begun = time.monotonic()
    with tarfile.open(next(user.packages.glob("npm/arm64/*.tgz"))) as package:
        package.extractall(beside, filter="data")
    give(beside)
    program = beside / "package/bin/tallyd"
    portable(program)
    tallyd = [*qemu, program]
    if "aarch64" not in other.run(*tallyd, "--version") and "arm64" not in other.run(*tallyd, "--version"):
        raise SystemExit("error: the program for arm64 says that it is another machine's")
    try:
        other.start(*tallyd)
        other.run(*tallyd, *CALL)
        seconds = time.monotonic() - begun
        for again in (False, True):
            if again:
                other.start(*tallyd)
            wait("this machine's daemon has the call of arm64", lambda: "claude-sonnet-5" in user.run("npx", "--no-install", "tallyd", "costs"))
            if "claude-sonnet-5" not in other.run(*tallyd, "costs", "--by", "model"):
                raise SystemExit("error: `tallyd costs` of arm64 does not have the call")
            other.stop()
    finally:
        other.end()
    user.stop()
    return seconds, megabytes(beside / "package")
