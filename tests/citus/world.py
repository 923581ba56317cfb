"""The state that the parts share: the cluster, the program, and the number of calls that were acknowledged."""

import contextlib
import json
import signal
import subprocess

from nodes import PATIENCE, until


class World:
    """The cluster, the program, and the number of calls that the call log must have."""

    def __init__(self, cluster, tallyd):
        self.cluster, self.tallyd, self.calls = cluster, tallyd, 0
        self.psql = cluster.psql
        self.acked = self.lost = self.doubled = 0

    def count(self, sql="SELECT count(*) FROM api_usage_log"):
        return int(self.psql(sql, check=False) or -1)

    def loaded(self):
        """Waits until every acknowledged record is in the call log, once."""
        until("all is loaded", lambda: self.tallyd.waiting() == 0)
        rows, calls = map(int, self.psql("SELECT count(*), count(DISTINCT id) FROM api_usage_log").split("|"))
        self.lost += max(self.calls - calls, 0)
        self.doubled += rows - calls
        assert rows == calls == self.calls, f"{rows} rows of {calls} calls in the call log, {self.calls} were acknowledged"
        self.equal()

    @contextlib.contextmanager
    def load(self, rate):
        """Traffic until the end of the block; then every acknowledged call must be in the call log."""
        words = [self.tallyd.program, "demo", "--rate", str(rate), "--json"]
        demo = subprocess.Popen(words, env=self.tallyd.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            yield
            demo.send_signal(signal.SIGINT)
            sent = json.loads(demo.communicate(timeout=PATIENCE)[0])
        finally:
            demo.kill()
        assert sent["dropped"] == sent["refused"] == sent["outstanding"] == 0, sent
        self.acked += sent["acked"]
        self.calls += sent["acked"]
        self.loaded()

    def moves(self):
        """Waits until more calls are loaded."""
        before = self.count()
        until("loading goes on", lambda: self.count() > before + 200)

    def equal(self):
        # By the days that have changed, and by all.
        for words in (["reconcile", "--changed"], ["reconcile"]):
            found = self.tallyd.json(*words, ok=(0, 1))
            assert found["equal"], f"{' '.join(words)}: {found['difference_count']} differences: {found['differences'][:5]}"
        return found

    def recover(self):
        """After a part that failed: every node and the daemon run again, and the call log's rows are the calls."""
        self.cluster.start_missing()
        if self.tallyd.daemon.poll() is not None:
            self.tallyd.start()
        until("all is loaded", lambda: self.tallyd.waiting() == 0)
        self.calls = self.count()
