"""The time of record() and check(), and the memory of a client whose daemon is away for long. `make bench-python`.

    TALLYD_BIN=… python bench.py [--rounds 5] [--only check] [--before ANOTHER/clients/python]

Each figure comes from a process of its own, and each call is timed alone. A burst of 8,000 fits the queue, and the
sender empties it between two bursts, so that only the call is measured. A dead daemon is a socket that does not exist;
a stuck one accepts connections and does not answer. `check-N`: check() with N scopes used up, of users, models, tags
and two dimensions; `refused-N`: the same for a call that counts towards one of them. The daemon sends 1,024 scopes at
most; 10,000 show that their number does not count. `memory`: a million records while nobody listens, most of which the
bounds drop. `--only` measures the states whose names begin so. With `--before` another version of the client, which has
check(), too, is measured in turns with this one.
"""

import argparse
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
BURST, BURSTS, AWAY = 8_000, 10, 1_000_000
RECORD = {"model": "claude-sonnet-4-5", "input_tokens": 1200, "output_tokens": 350, "user_id": "u-42"}
CALL = {"provider": "claude", "model": "claude-sonnet-5", "user": "user-42", "estimate": "0.02"}
CALL["tags"] = {"team": "team-7", "customer": "acme"}
SCOPES = (
    lambda at: {"user": [f"u-{at}"]},
    lambda at: {"tag:team": [f"team-{at}"], "user": [f"user-{at}"]},
    lambda at: {"provider": ["claude", "anthropic"], "tag:customer": [f"customer-{at}"]},
    lambda at: {"model": [f"model-{at}"]},
    lambda at: {"tag:customer": [f"customer-{at}"]},
)
COUNTS = (0, 100, 10_000)


def budgets(count):
    left = [{"scope": {}, "usd": "12.5"}] if count else []
    return {"used_up": [SCOPES[at % 5](at) for at in range(count)], "left": left}


def measure(state, path):
    # PYTHONPATH names the client under test, and this script's own folder comes before it.
    sys.path.remove(str(HERE))
    import tallyd

    recorder = tallyd.Recorder(path, on_drop=lambda _: None)
    if state == "memory":
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(AWAY):
            recorder.record("claude", **RECORD)
            if number % 1000 == 0:
                time.sleep(0.001)
        stats = recorder.stats()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {"MiB": (peak - before) / 1024, "kept": stats.recorded - stats.settled}
    times, now = [], time.perf_counter_ns
    what, _, count = state.partition("-")
    if count:
        # A user of the scopes' last fifth.
        call = {**CALL, "user": f"u-{int(count) - 5}"} if what == "refused" else CALL
        recorder.standing.hear(budgets(int(count)))
        assert recorder.check(**call).allowed is (what == "check")
        for _ in range(BURST * BURSTS):
            begun = now()
            recorder.check(**call)
            times.append(now() - begun)
        return quantiles_of(times)
    recorder.record("rentcast")
    for _ in range(BURSTS):
        while recorder.queue:
            time.sleep(0.005)
        for _ in range(BURST):
            begun = now()
            recorder.record("claude", **RECORD)
            times.append(now() - begun)
    assert recorder.stats().dropped == 0, "records were dropped: the figures are not those of recording"
    return quantiles_of(times)


def quantiles_of(times):
    quantiles = statistics.quantiles(times, n=1000, method="inclusive")
    return {name: quantiles[at - 1] / 1000 for name, at in (("p50", 500), ("p99", 990), ("p99.9", 999))}


def child(client, state, path):
    command = [sys.executable, str(Path(__file__).resolve()), "--measure", state, "--socket", path]
    environment = {**os.environ, "PYTHONPATH": str(client)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return json.loads(done.stdout)


def compare(rounds, only, before):
    sys.path[:0] = [str(HERE), str(HERE / "tests")]
    from support import Daemon

    clients = {**({"before": Path(before).resolve()} if before else {}), "after": HERE}
    daemon = Daemon().up()
    try:
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as silent:
            silent.bind(f"{folder}/stuck")
            silent.listen(64)
            dead = f"{folder}/dead"
            sockets = {"healthy": daemon.socket, "dead": dead, "stuck": f"{folder}/stuck"}
            sockets.update({f"check-{count}": dead for count in COUNTS})
            sockets.update({f"refused-{count}": dead for count in COUNTS if count}, memory=dead)
            for state, path in sockets.items():
                if not state.startswith(only):
                    continue
                found = {name: [] for name in clients}
                for _ in range(rounds):
                    for name, client in clients.items():
                        found[name].append(child(client, state, path))
                for name, all_of in found.items():
                    figures = [f"{key} {statistics.median(one[key] for one in all_of):.2f}" for key in all_of[0]]
                    unit = "" if state == "memory" else "   (us)"
                    print(f"{state:<13} {name:<7} {'   '.join(figures)}{unit}", flush=True)
    finally:
        daemon.down()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="")
    parser.add_argument("--before")
    parser.add_argument("--measure")
    parser.add_argument("--socket")
    given = parser.parse_args()
    if not given.measure:
        compare(given.rounds, given.only, given.before)
        return
    print(json.dumps(measure(given.measure, given.socket)), flush=True)
    # Does not wait for records of an absent daemon.
    os._exit(0)


if __name__ == "__main__":
    main()
