#!/usr/bin/env python3
"""tallyd's work on a real Citus: a coordinator and two workers, later a third, on loopback.

    CITUS_PG_CONFIG=/usr/lib/postgresql/15/bin/pg_config tests/citus/run.py target/debug/tallyd [PART ...]

`parts/` has the parts; each leaves the rollups equal to the call log. Without CITUS_PG_CONFIG, or if that installation has no Citus,
no part runs, and the last line says so.

TALLYD_FAULTS=deep, or a percentage of it, kills and moves more often, and adds both to target/faults/report.json; TALLYD_TEST_SEED repeats
the order of kills.
"""

import contextlib
import os
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from daemon import Tallyd  # noqa: E402
from nodes import Cluster  # noqa: E402
from parts import ALL  # noqa: E402
from world import World  # noqa: E402


def installation():
    """The folder of the server's programs, or why nothing can run."""
    config = os.environ.get("CITUS_PG_CONFIG")
    if not config:
        return None, "CITUS_PG_CONFIG is not set. It names the pg_config of a PostgreSQL that has Citus 13.2"
    ask = lambda what: pathlib.Path(subprocess.run([config, what], check=True, capture_output=True, text=True).stdout.strip())
    if not (ask("--pkglibdir") / "citus.so").exists():
        return None, f"{config} names a PostgreSQL without Citus"
    return ask("--bindir"), None


def told(function, world):
    """Runs a part, and prints how it ended. True if it held."""
    begin, name = time.monotonic(), function.__name__
    try:
        function(world)
    except Exception as error:  # noqa: BLE001
        print(f"FAILED {name}: {error}", flush=True)
        log = [line for line in world.tallyd.log.read_text().splitlines() if " WARN " in line or "ERROR" in line] if world.tallyd.log.exists() else []
        print("\n".join(f"  {line[:600]}" for line in log[-6:]), flush=True)
        return False
    print(f"ok {name} ({time.monotonic() - begin:.1f} s): {function.__doc__.splitlines()[0]}", flush=True)
    return True


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    programs, missing = installation()
    if missing:
        print(f"NOT RUN on Citus: {missing}")
        return
    first, wanted, failed = ALL[0], sys.argv[2:], []
    unknown = set(wanted) - {function.__name__ for function in ALL}
    if unknown:
        sys.exit(f"error: no such part: {', '.join(sorted(unknown))}. hint: {' '.join(function.__name__ for function in ALL)}")
    with contextlib.ExitStack() as stack:
        cluster = Cluster(programs, "wal_level = logical\nmax_wal_senders = 20\nmax_replication_slots = 40")
        stack.callback(cluster.close)
        print(cluster.psql("SELECT citus_version()"), flush=True)
        archive = {"TALLYD_RETENTION_ARCHIVE": str(cluster.home / "archive")}
        tallyd = Tallyd(pathlib.Path(sys.argv[1]).resolve(), cluster.home / "tallyd", cluster.coordinator.url("require"), **archive)
        stack.callback(tallyd.stop)
        world = World(cluster, tallyd)
        for function in ALL:
            if wanted and function.__name__ not in wanted and function is not first:
                continue
            if told(function, world):
                continue
            failed.append(function.__name__)
            if function is first:
                break
            # The next part needs every node, a running daemon, and a number of calls to begin with.
            world.recover()
    if failed:
        sys.exit(f"error: failed on Citus: {', '.join(failed)}")
    print("all of it holds on Citus")


if __name__ == "__main__":
    main()
