"""Against the real daemon: each call is stored once, despite kills."""

import asyncio
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
import urllib.request

import pytest
from support import ROOT, free_port, until

import tallyd
from tallyd import _wire


def stored(daemon, app):
    return daemon.psql(f"SELECT id FROM api_usage_log WHERE app = '{app}' ORDER BY id::text")


def test_a_record_arrives_with_its_fields(daemon):
    with tallyd.Recorder(daemon.socket, app="fields") as recorder:
        with tallyd.context(user_id="u-1"):
            recorder.record("Claude", model="claude-sonnet-4-20250514", input_tokens=3, cost_usd="0.25")
        assert recorder.flush()
        assert recorder.stats().settled == 1
    daemon.until_stored(1, "fields")
    columns = "provider, model, input_tokens, trim_scale(cost_usd), user_id"
    row = daemon.psql(f"SELECT {columns} FROM api_usage_log WHERE app = 'fields'")
    assert row == ["claude|claude-sonnet-4-20250514|3|0.25|u-1"]


def test_a_wrong_record_is_refused_alone(daemon):
    refused = []
    with tallyd.Recorder(daemon.socket, app="refused", on_reject=lambda *what: refused.append(what)) as recorder:
        assert recorder.record("x", input_tokens=-1)
        assert recorder.record("x", cost_usd=0.5)
        assert recorder.record("x", input_tokens=1)
        assert recorder.flush()
    assert sorted(code for _, code, _ in refused) == ["client", "range"]
    daemon.until_stored(1, "refused")
    assert len(stored(daemon, "refused")) == 1


def test_a_recorder_that_sends_nothing_hears_which_budgets_are_used_up_and_that_they_are_not_any_more(daemon):
    calls = [
        {"provider": "Google-AI"},
        {"model": "gemini-2.5-pro-20250617"},
        {"user": "u-budget"},
        {"app": "budgets"},
        {"provider": "openai", "model": "gemini-2.5", "user": "u-other", "app": "other"},
    ]
    scopes = (("provider", "google"), ("model", "gemini-2.5-pro"), ("user", "u-budget"), ("app", "budgets"))

    def held(recorder):
        return [recorder.should_throttle(**call) for call in calls]

    def set_all(usd):
        for scope, value in scopes:
            assert daemon.run("budgets", "set", usd, "--for", f"{scope}={value}").returncode == 0

    until("there is a schema", lambda: daemon.psql("SELECT to_regclass('api_alerts') IS NOT NULL") == ["t"])
    with tallyd.Recorder(daemon.socket, app="idle") as idle, tallyd.Recorder(daemon.socket) as spender:
        assert idle.ready(60) and held(idle) == [False] * 5
        set_all("0.000001")
        spender.record("google", model="gemini-2.5-pro-20250617", user_id="u-budget", app="budgets", cost_usd="1")
        assert spender.flush(60)
        used_up = [True, True, True, True, False]
        until("it has heard of all four", lambda: held(idle) == used_up)
        with tallyd.context(user_id="u-budget"):
            assert idle.should_throttle(provider="openai"), "the context's user"
        assert not idle.budget.get("should_throttle"), "which is of everything"
        with tallyd.Recorder(daemon.socket, app="fresh") as fresh:
            assert fresh.ready(60) and held(fresh) == used_up, "the welcome says it"
        set_all("1000000")
        until("nothing is used up", lambda: held(idle) == [False] * 5)
        assert idle.stats().recorded == 0
    with tallyd.Recorder(daemon.socket + ".nobody", close_timeout=0) as nobody:
        assert nobody.ready(0.05) is False and held(nobody) == [False] * 5


def test_waiting_returns_the_id_or_the_reason(daemon):
    async def both(recorder):
        identity = await recorder.record_and_wait("rentcast", endpoint="/avm")
        with pytest.raises(tallyd.RecordError, match="range"):
            await recorder.record_and_wait("x", input_tokens=-1)
        assert await recorder.aflush()
        return str(identity)

    with tallyd.Recorder(daemon.socket, app="waits") as recorder:
        identity = asyncio.run(both(recorder))
    daemon.until_stored(1, "waits")
    assert stored(daemon, "waits") == [identity]


def test_a_killed_daemon_loses_and_doubles_nothing(daemon):
    ids, stop = [], threading.Event()
    recorder = tallyd.Recorder(daemon.socket, app="killed", backoff=(0.01, 0.1))

    def load():
        while not stop.is_set():
            identity = _wire.new_id()
            if recorder.record("rentcast", id=identity):
                ids.append(str(identity))
            stop.wait(0.0005)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        for _ in range(3):
            settled = recorder.stats().settled
            until("records are settled", lambda settled=settled: recorder.stats().settled > settled + 50)
            daemon.kill()
            daemon.up()
    finally:
        stop.set()
        thread.join()
    assert recorder.close(30)
    assert recorder.stats().dropped == 0
    daemon.until_stored(len(ids), "killed")
    assert stored(daemon, "killed") == sorted(ids)


def child(recorder, count):
    for _ in range(count):
        recorder.record("rentcast")


def neighbour(daemon, producer, numbers):
    """A client with this producer name and its own secret, which sends one record under each number."""
    inbox, heard = _wire.Inbox(), []
    record = _wire.encode_record({"provider": "rentcast", "app": "neighbour"})
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(daemon.socket)
        link.sendall(_wire.hello(producer, "n" * 32))
        while True:
            message = inbox.next()
            if message is None:
                inbox.feed(link.recv(65536))
                continue
            heard.append(message)
            if message[0] == "error" or len(heard) > len(numbers):
                return heard
            link.sendall(_wire.records(numbers[len(heard) - 1], [record]))


def test_a_neighbour_under_its_name_takes_nothing_and_it_is_told(daemon):
    recorder = tallyd.Recorder(daemon.socket, app="named", backoff=(0.01, 0.1))
    total = 0
    for _ in range(2):
        total += sum(recorder.record("rentcast") for _ in range(100))
        assert recorder.flush(60)
        heard = neighbour(daemon, recorder.producer, [2**40, 2**41, 2**62])
        assert heard[0][1]["warning"]["code"] == "name_in_use"
        assert (heard[-1][0], heard[-1][1]["code"]) == ("error", "sequence")
        total += sum(recorder.record("rentcast") for _ in range(100))
        daemon.kill()
        daemon.up()
    assert recorder.flush(60)
    stats = recorder.stats()
    assert (stats.settled, stats.rejected, stats.dropped) == (total, 0, 0)
    assert recorder.close()
    daemon.until_stored(total, "named")
    ids = stored(daemon, "named")
    assert len(ids) == len(set(ids)) == total == 400


def test_who_is_warned_of_its_name_says_so(daemon):
    with tallyd.Recorder(daemon.socket, app="warned") as recorder:
        recorder.record("rentcast")
        assert recorder.flush()
        neighbour(daemon, recorder.producer, [1])
        recorder.record("rentcast")
        assert recorder.flush()
        assert recorder.stats().last_warning.startswith("name_in_use: ")


def test_forked_children_send_their_own_and_nothing_twice(daemon):
    recorder = tallyd.Recorder(daemon.socket, app="forked")
    child(recorder, 100)
    workers = [multiprocessing.get_context("fork").Process(target=child, args=(recorder, 50)) for _ in range(2)]
    for worker in workers:
        worker.start()
    pid = os.fork()  # A bare child, as preforking servers make it.
    if pid == 0:
        child(recorder, 25)
        os._exit(0 if recorder.close() else 1)
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert os.waitpid(pid, 0)[1] == 0
    recorder.record("rentcast")
    assert recorder.close()
    daemon.until_stored(226, "forked")
    ids = stored(daemon, "forked")
    assert len(ids) == len(set(ids)) == 226


def test_full_is_counted_and_never_blocks(tmp_path):
    dropped = []
    recorder = tallyd.Recorder(
        str(tmp_path / "nobody.sock"), queue_bytes=10_000, window_bytes=1, on_drop=dropped.append
    )
    results = [recorder.record("x") for _ in range(100)]
    assert results.count(False) == len(dropped) == recorder.stats().dropped > 0
    assert not recorder.flush(0.05)
    assert not recorder.close(0.05)
    assert recorder.stats().dropped == 100
    assert recorder.record("x") is False


def test_a_daemon_that_says_nothing_fills_the_window_first(tmp_path):
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent.sock"))
        silent.listen()
        recorder = tallyd.Recorder(str(tmp_path / "silent.sock"), queue_bytes=200_000)
        for _ in range(50):
            assert all(recorder.record("x") for _ in range(100))
            until("the queue is taken", lambda: not recorder.queue)
        assert recorder.stats().dropped == 0
        assert not recorder.close(0.1)
        assert recorder.stats().dropped == 5000


def test_over_tcp_with_a_token(daemon):
    address = "tcp://" + daemon.environment["TALLYD_LISTEN_TCP"]
    with tallyd.Recorder(address, token="wrong", app="tcp") as recorder:
        recorder.record("rentcast")
        until("the token is refused", lambda: "unauthorized" in recorder.stats().last_error)
        recorder.close(0)
    with tallyd.Recorder(address, token="s3cret-of-16-characters", app="tcp") as recorder:
        recorder.record("rentcast")
        assert recorder.flush()
    daemon.until_stored(1, "tcp")
    assert len(stored(daemon, "tcp")) == 1


GUNICORN = """
import tallyd
tallyd.configure(app="gunicorn")
tallyd.record("rentcast", endpoint="/master")

def app(environ, start_response):
    tallyd.record("rentcast", endpoint="/worker")
    start_response("200 OK", [("content-length", "1")])
    return [b"x"]
"""


def test_a_preforked_gunicorn_records_each_call_once(daemon, tmp_path):
    (tmp_path / "served.py").write_text(GUNICORN)
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--preload", "-w", "3", "-b", f"127.0.0.1:{port}", "served:app"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "clients/python"), "TALLYD_ENDPOINT": daemon.socket}
    with open(tmp_path / "log", "wb") as log:
        server = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=log, stderr=log)

    def get():
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
                return answer.read() == b"x"
        except OSError:
            assert server.poll() is None, (tmp_path / "log").read_text()
            return False

    until("gunicorn answers", get)
    assert all(get() for _ in range(60))
    server.terminate()
    assert server.wait(30) == 0
    daemon.until_stored(62, "gunicorn")
    assert len(stored(daemon, "gunicorn")) == len(set(stored(daemon, "gunicorn"))) == 62
