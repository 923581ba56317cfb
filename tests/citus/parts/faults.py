"""Parts that kill and move nodes under load. FAULTS row 42."""

import contextlib
import fcntl
import json
import os
import pathlib
import random
import time


def rounds(brief, deep):
    """How often a fault is made, by TALLYD_FAULTS as tests/faults/run.rs reads it."""
    asked = os.environ.get("TALLYD_FAULTS", "")
    return brief if not asked else deep if asked == "deep" else max(brief, deep * int(asked) // 100)


def report(name, runs, begin, world, passed):
    """Adds a row to the faults' report, as tests/faults/run.rs does."""
    if not os.environ.get("TALLYD_FAULTS"):
        return
    folder = pathlib.Path(__file__).resolve().parents[3] / "target/faults"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "report.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = folder / "report.json"
        known = json.loads(path.read_text())["faults"] if path.exists() else []
        entry = {"fault": 42, "name": name, "runs": runs, "acked": world.acked, "lost": world.lost, "doubled": world.doubled}
        entry |= {"seconds": round(time.monotonic() - begin, 1), "passed": passed}
        faults = sorted([one for one in known if one["name"] != name] + [entry], key=lambda one: (one["fault"], one["name"]))
        path.write_text(json.dumps({"faults": faults}, indent=2))


@contextlib.contextmanager
def reported(name, runs, world):
    """Counts the calls that the block acknowledges, loses and doubles, and reports them even if it fails."""
    begin, passed = time.monotonic(), False
    world.acked = world.lost = world.doubled = 0
    try:
        yield
        passed = True
    finally:
        print(f"  {runs} rounds: {world.acked} acknowledged, {world.lost} lost, {world.doubled} doubled", flush=True)
        report(name, runs, begin, world, passed)


def killed(world):
    """Daemon, worker and coordinator are killed under load, at random instants: nothing is lost, nothing is doubled."""
    seed = int(os.environ.get("TALLYD_TEST_SEED") or random.randrange(1 << 32))
    print(f"  TALLYD_TEST_SEED={seed} repeats this")
    chance = random.Random(seed)
    nodes = [*world.cluster.workers, world.cluster.coordinator]
    victims = [[node] for node in nodes] + [[world.tallyd], [world.tallyd, nodes[0]], nodes]
    times = rounds(1, 12)
    with reported("fault_42_citus_nodes_killed", times * len(victims), world):
        for _ in range(times):
            for victim in chance.sample(victims, len(victims)):
                with world.load(800):
                    world.moves()
                    time.sleep(chance.random())
                    for one in victim:
                        one.kill()
                    for one in victim:
                        one.start()
                    world.moves()
    letters = world.count("SELECT count(*) FROM dead_letters WHERE settled_at IS NULL")
    assert letters == 0, f"{letters} good calls became dead letters"


def rebalanced(world):
    """A third worker comes under load, gets its share, and goes again."""
    node = world.cluster.add_worker()
    port = f"nodeport = {node.port}"
    on_it = lambda: world.count(f"SELECT count(*) FROM pg_dist_placement JOIN pg_dist_node USING (groupid) WHERE {port}")
    times = rounds(1, 4)
    with reported("fault_42_citus_rebalanced", times, world):
        for _ in range(times):
            with world.load(300):
                world.psql("SELECT rebalance_table_shards(shard_transfer_mode := 'force_logical')")
                assert on_it() > 0, "nothing was moved"
                world.moves()
            if times > 1:
                with world.load(300):
                    world.psql(f"SELECT citus_drain_node('127.0.0.1', {node.port}, 'force_logical')")
                    assert on_it() == 0, "something is left"
                    world.moves()
                world.psql(f"SELECT citus_set_node_property('127.0.0.1', {node.port}, 'shouldhaveshards', true)")
