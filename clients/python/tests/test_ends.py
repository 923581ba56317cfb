"""Each way in which a process ends: its records are sent, and those that could not be sent are reported."""

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap

import pytest
from support import ROOT, until

import tallyd

CHILD = """
import multiprocessing, sys
import tallyd

def work(app):
    recorder = tallyd.Recorder(app=app)
    assert all(recorder.record("rentcast") for _ in range(500))

if __name__ == "__main__":
    method = sys.argv[1]
    children = [multiprocessing.get_context(method).Process(target=work, args=(f"child-{method}",)) for _ in range(2)]
    for child in children: child.start()
    for child in children: child.join(); assert child.exitcode == 0
    with multiprocessing.get_context(method).Pool(1, maxtasksperchild=1) as pool:
        pool.map(work, [f"pool-{method}"] * 2, chunksize=1)
        pool.close()
        pool.join()
"""
CELERY = """
import celery, tallyd

app = celery.Celery("tasks", broker="filesystem://", broker_transport_options={
    "data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "control"})

@app.task
def work():
    assert all(tallyd.record("rentcast", app="celery") for _ in range(500))

if __name__ == "__main__":
    for _ in range(3): work.delay()
"""
SIGTERM = """
import signal, sys, time
import tallyd

tallyd.close_on_signal(timeout={timeout})
recorder = tallyd.Recorder(app="terminated", **{options})
assert all(recorder.record("rentcast") for _ in range(500))
while {nobody} and not recorder.stats().last_error:
    time.sleep(0.01)
print("recorded", flush=True)
time.sleep(600)
"""


def environment(daemon, **more):
    return {**os.environ, "PYTHONPATH": str(ROOT / "clients/python"), "TALLYD_ENDPOINT": daemon.socket, **more}


def stored(daemon, app):
    ids = daemon.psql(f"SELECT id FROM api_usage_log WHERE app = '{app}'")
    return len(ids), len(set(ids))


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_a_recorder_made_in_a_child_loses_nothing_at_the_childs_end(daemon, tmp_path, method):
    (tmp_path / "work.py").write_text(CHILD)
    subprocess.run([sys.executable, "work.py", method], cwd=tmp_path, env=environment(daemon), check=True, timeout=120)
    for app in (f"child-{method}", f"pool-{method}"):
        daemon.until_stored(1000, app)
        assert stored(daemon, app) == (1000, 1000)


def test_celerys_children_lose_nothing_when_they_have_had_their_tasks(daemon, tmp_path):
    (tmp_path / "tasks.py").write_text(CELERY)
    for folder in ("queue", "control"):
        (tmp_path / folder).mkdir()
    subprocess.run([sys.executable, "tasks.py"], cwd=tmp_path, env=environment(daemon), check=True, timeout=120)
    command = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "-c", "1", "--max-tasks-per-child", "1"]
    with open(tmp_path / "log", "wb") as log:
        worker = subprocess.Popen(command, cwd=tmp_path, env=environment(daemon), stdout=log, stderr=log)
    try:
        daemon.until_stored(1500, "celery")
    finally:
        worker.terminate()
        worker.wait(60)
    assert stored(daemon, "celery") == (1500, 1500)


def terminated(options, timeout, **env):
    code = SIGTERM.replace("{options}", repr(options)).replace("{timeout}", str(timeout))
    # Where nobody listens, the process ends after the recorder has noticed: only then has it a reason to tell.
    code = code.replace("{nobody}", str("endpoint" in options))
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **env)
    assert child.stdout.readline() == b"recorded\n", child.communicate()
    child.terminate()
    _, said = child.communicate(timeout=60)
    assert child.returncode == -signal.SIGTERM, said
    return said.decode()


def test_a_process_that_is_told_to_end_sends_what_it_has(daemon):
    assert terminated({}, 30, env=environment(daemon)) == ""
    daemon.until_stored(500, "terminated")
    assert stored(daemon, "terminated") == (500, 500)


def test_what_is_lost_at_the_end_is_told_on_standard_error(tmp_path, daemon):
    nobody = str(tmp_path / "nobody.sock")
    said = terminated({"endpoint": nobody}, 0.5, env=environment(daemon))
    assert "nobody.sock" in said and "500 records" in said, said
    assert len(said.splitlines()) == 2, said
    assert terminated({"endpoint": nobody, "quiet": True}, 0.1, env=environment(daemon)) == ""


def test_a_handler_of_the_application_is_left_alone(caplog):
    mine = []
    before = signal.signal(signal.SIGTERM, lambda *_: mine.append(1))
    try:
        with caplog.at_level(logging.WARNING, "tallyd"):
            tallyd.close_on_signal()
        signal.raise_signal(signal.SIGTERM)
        assert mine == [1]
        assert "close()" in caplog.text
    finally:
        signal.signal(signal.SIGTERM, before)


def test_each_kind_of_loss_is_told_once_and_counted(tmp_path, caplog):
    def messages():
        return [record.getMessage() for record in caplog.records if record.name == "tallyd"]

    recorder = tallyd.Recorder(str(tmp_path / "nobody.sock"), queue_bytes=10_000, window_bytes=1, backoff=(0.01, 0.01))
    for _ in range(100):
        recorder.record("x")
    recorder.record("x", nonsense=1)
    until("it has tried to connect", lambda: recorder.stats().last_error)
    assert not recorder.close(0.05)
    assert recorder.stats().dropped == 101
    dropped = [message for message in messages() if "queue is full" in message]
    away = [message for message in messages() if "nobody.sock" in message]
    assert len(dropped) == len(away) == 1, messages()
    (lost,) = set(messages()) - {*dropped, *away}
    assert "were not delivered" in lost
    caplog.clear()
    one = tallyd.Recorder(str(tmp_path / "nobody.sock"), backoff=(0.01, 0.01))
    one.record("x")
    assert not one.close(0.05)
    assert "tallyd: 1 record was not delivered before the end, and is lost" in messages(), messages()
    caplog.clear()
    told = []
    quiet = tallyd.Recorder(str(tmp_path / "nobody.sock"), queue_bytes=1_000, window_bytes=1, quiet=True)
    heard = tallyd.Recorder(str(tmp_path / "nobody.sock"), queue_bytes=1_000, window_bytes=1, on_drop=told.append)
    for one in (quiet, heard):
        for _ in range(10):
            one.record("x")
    quiet.close(0.05)
    assert told and not [message for message in messages() if "queue is full" in message]
    heard.close(0.05)


def test_a_refusal_is_told_once(daemon, caplog):
    with tallyd.Recorder(daemon.socket, app="told") as recorder:
        for _ in range(3):
            recorder.record("x", input_tokens=-1)
            recorder.record("x", cost_usd=0.5)
        assert recorder.flush()
        assert recorder.stats().rejected == 6
    told = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert len(told) == 1 and ("range" in told[0] or "exact number" in told[0]), told


def test_switched_off_it_keeps_nothing_and_opens_nothing(monkeypatch, tmp_path):
    def check(recorder):
        assert recorder.record("x") and recorder.flush() and recorder.close()
        stats = recorder.stats()
        assert (stats.recorded, stats.dropped, stats.last_error) == (0, 0, "")
        assert recorder._thread is None

    check(tallyd.Recorder(str(tmp_path / "nobody.sock"), disabled=True))
    monkeypatch.setenv("TALLYD_DISABLED", "1")
    check(tallyd.Recorder(str(tmp_path / "nobody.sock")))
    code = textwrap.dedent("""
        import asyncio, tallyd
        print(tallyd.cost_tracker.record_rentcast("/avm/value"))
        asyncio.run(tallyd.default_recorder().record_and_wait("x"))
    """)
    env = {**os.environ, "PYTHONPATH": str(ROOT / "clients/python"), "TALLYD_HTTP": "http://127.0.0.1:9"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("0.2"), done.stdout
