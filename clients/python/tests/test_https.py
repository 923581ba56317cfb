"""Records over HTTP, through a proxy that loses requests and answers: each arrives once."""

import asyncio
import ssl
import subprocess
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from support import until
from test_ends import environment, stored

import tallyd
from tallyd import _tracker


class Proxy(ThreadingHTTPServer):
    """A proxy for the daemon. `faults`, one per next request: `away`, `lost` (its answer), or a status."""

    def __init__(self, url, faults):
        super().__init__(("127.0.0.1", 0), Handler)
        self.daemon_threads = True
        self.upstream, self.faults, self.bodies, self.torn = url, faults, {}, []
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body, key = self.rfile.read(int(self.headers["content-length"])), self.headers["idempotency-key"]
        if self.server.bodies.setdefault(key, body) != body:
            self.server.torn.append(key)
        fault = self.server.faults.pop(0) if self.server.faults else None
        if fault == "away":
            self.close_connection = True
            return
        if isinstance(fault, int):
            self.answer(fault, b"a proxy's page")
            return
        names = ("authorization", "content-type", "idempotency-key")
        headers = {name: self.headers[name] for name in names if self.headers[name]}
        request = urllib.request.Request(self.server.upstream + self.path, body, headers)
        try:
            with urllib.request.urlopen(request) as answer:
                status, said = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, said = error.code, error.read()
        if fault == "lost":
            self.close_connection = True
        else:
            self.answer(status, said)

    def answer(self, status, said):
        self.send_response(status)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_):
        pass


@pytest.fixture
def token(daemon):
    return daemon.token("ingest")


def test_records_arrive_once_whatever_becomes_of_requests_and_answers(daemon, token):
    proxy, refused = Proxy(daemon.url, ["away", "lost", 503, 429, "lost"]), []
    recorder = tallyd.Recorder(
        proxy.url, token=token, app="http", backoff=(0.01, 0.1), on_reject=lambda *what: refused.append(what[1])
    )
    first = asyncio.run(
        recorder.record_and_wait("x", timeout=60, cost_usd="0.25", extra_units={"web_search": 2}, metadata={"a": 1})
    )
    for number in range(2000):
        recorder.record("rentcast", request_id=str(number), input_tokens=-1 if number == 7 else 0)
    with pytest.raises(tallyd.RecordError, match="missing"):
        asyncio.run(recorder.record_and_wait("", timeout=60))
    assert recorder.close(60)
    assert sorted(refused) == ["missing", "range"]
    assert not proxy.torn, "what is sent again is the same, byte for byte"
    proxy.shutdown()
    stats = recorder.stats()
    assert (stats.settled, stats.rejected, stats.dropped) == (2002, 2, 0)
    daemon.until_stored(2000, "http")
    assert stored(daemon, "http") == (2000, 2000)
    columns = "trim_scale(cost_usd), extra_units ->> 'web_search', metadata ->> 'a'"
    assert daemon.psql(f"SELECT {columns} FROM api_usage_log WHERE id = '{first}'") == ["0.25|2|1"]


def test_a_token_that_is_wrong_is_told_and_the_records_wait(daemon, caplog):
    recorder = tallyd.Recorder(daemon.url, token="wrong", app="http-wrong")
    recorder.record("x")
    until("it is told", lambda: "answered 401" in recorder.stats().last_error)
    assert not recorder.close(0.1)
    assert recorder.stats().dropped == 1
    assert len([record for record in caplog.records if "answered 401" in record.getMessage()]) == 1


def test_the_environment_names_a_url_and_the_tracker_knows_costs(daemon, token, monkeypatch):
    for name, value in environment(daemon, TALLYD_ENDPOINT=daemon.url + "/", TALLYD_TOKEN=token).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(_tracker, "local_price", lambda *_: None)
    with tallyd.CostTracker(None, app="http-env", http=daemon.url, http_token=token, cost_timeout=30) as tracker:
        until("the daemon's cost is known", lambda: tracker.record_rentcast("/avm/value"))


def test_an_endpoint_that_is_none_is_refused():
    with pytest.raises(ValueError, match="https://host"):
        tallyd.Recorder("https://")
    assert str(tallyd.Endpoint.parse("https://t0ken@example.com:8443/base/")) == "https://example.com:8443/base"


def test_the_authorities_of_an_https_endpoint(tmp_path):
    class Taker(Handler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            self.answer(200, b'{"results":[{"ok":true}]}')

    ca, key = tmp_path / "ca.pem", tmp_path / "key.pem"
    curve, name = (
        ["-pkeyopt", "ec_paramgen_curve:P-256"],
        ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
    )
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        *curve,
        "-nodes",
        "-days",
        "2",
        *name,
        "-keyout",
        key,
        "-out",
        ca,
    ]
    subprocess.run(made, check=True, stderr=subprocess.DEVNULL)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Taker)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ca, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"https://localhost:{server.server_port}"
    recorder = tallyd.Recorder(url, token="t", ca=str(ca))
    recorder.record("rentcast")
    assert recorder.close(60) and recorder.stats().settled == 1
    stranger = tallyd.Recorder(url, token="t", quiet=True)
    stranger.record("rentcast")
    until("its certificate is refused", lambda: "certificate verify failed" in stranger.stats().last_error)
    stranger.close(0)
    server.shutdown()


def test_a_mode_of_acks_that_is_none_is_refused():
    with pytest.raises(ValueError, match="committed"):
        tallyd.Recorder(ack="soon")
