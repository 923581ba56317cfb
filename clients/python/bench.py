"""Measures record(): the daemon healthy, dead, and stuck. `make bench-python`.

Each call is timed alone, with the clock's own cost beside it; bursts of 8,000 fit the queue, and between two of them
the sender has time to take them, so that nothing but the call is measured. A dead daemon is a socket that is not
there; a stuck one accepts connections and never says a word.
"""

import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent / "tests")]

from support import Daemon, until  # noqa: E402

import tallyd  # noqa: E402

BURST, BURSTS = 8_000, 10


def measure(recorder, name):
    times, now = [], time.perf_counter_ns
    recorder.record("rentcast")
    for _ in range(BURSTS):
        until("the queue is taken", lambda: not recorder.queue)
        for _ in range(BURST):
            begun = now()
            recorder.record("claude", model="claude-sonnet-4-5", input_tokens=1200, output_tokens=350, user_id="u-42")
            times.append(now() - begun)
    show(name, times)
    assert recorder.stats().dropped == 0, "records were dropped: the figures are not those of recording"


def show(name, times):
    quantiles = statistics.quantiles(times, n=1000, method="inclusive")
    p50, p99, p999 = (quantiles[at - 1] / 1000 for at in (500, 990, 999))
    print(f"{name:<10} p50 {p50:7.2f} us   p99 {p99:7.2f} us   p99.9 {p999:8.2f} us", flush=True)


def main():
    clock, now = [], time.perf_counter_ns
    for _ in range(BURST * BURSTS):
        begun = now()
        clock.append(now() - begun)
    show("the clock", clock)
    daemon = Daemon().up()
    try:
        recorder = tallyd.Recorder(daemon.socket)
        measure(recorder, "healthy")
        assert recorder.close(60)
    finally:
        daemon.down()
    with tempfile.TemporaryDirectory() as folder:
        recorder = tallyd.Recorder(f"{folder}/nobody.sock")
        measure(recorder, "dead")
        recorder.close(0)
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(f"{folder}/silent.sock")
            silent.listen()
            recorder = tallyd.Recorder(f"{folder}/silent.sock")
            measure(recorder, "stuck")
            recorder.close(0)


if __name__ == "__main__":
    main()
