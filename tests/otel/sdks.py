"""OpenTelemetry's official SDKs export into a real daemon: one priced record per span, and none twice.

Every export goes through a proxy that loses the answer to the first request, so each is sent at least twice.
"""

import os
import subprocess
import sys
import urllib.error
import urllib.request
from decimal import Decimal
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "clients/python/tests"), str(ROOT / "clients/python")]

from lossy import Lossy  # noqa: E402
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: E402
from opentelemetry.sdk.resources import Resource  # noqa: E402
from opentelemetry.sdk.trace import TracerProvider  # noqa: E402
from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: E402
from opentelemetry.trace import SpanKind, Status, StatusCode  # noqa: E402
from support import Daemon, until  # noqa: E402

SPANS = 600
# 1,000 input tokens at 3 USD per million and 100 output tokens at 15.
COST = Decimal("0.0045")


def ingest_token(daemon):
    create = ["token", "create", "--name", "otel", "--role", "ingest"]
    token = until("a token is made", lambda: daemon.run(*create).stdout.split())[0]
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    empty = urllib.request.Request(f"{daemon.url}/v1/traces", b"{}", headers)

    def admits():
        try:
            return urllib.request.urlopen(empty, timeout=60).status == 200
        except urllib.error.HTTPError:
            return False

    until("the daemon knows the token", admits)
    return token


def attributes(number):
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude-sonnet-4-5",
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 100,
        "gen_ai.response.finish_reasons": ["end_turn"],
        "enduser.id": f"u-{number % 3}",
    }


def export_by_python(endpoint, token, compression):
    from opentelemetry.exporter.otlp.proto.http import Compression

    exporter = OTLPSpanExporter(
        endpoint=f"{endpoint}/v1/traces",
        headers={"authorization": f"Bearer {token}"},
        compression=Compression.Gzip if compression else Compression.NoCompression,
    )
    name = "python-gzip" if compression else "python"
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    record_spans(provider)


def export_by_grpc(address, token, compression):
    """Over gRPC no proxy loses answers: each batch is exported twice, as an exporter does after a lost answer."""
    import grpc
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as Exporter
    from opentelemetry.sdk.trace.export import SpanExportResult

    exporter = Exporter(
        endpoint=f"http://{address}",
        headers={"authorization": f"Bearer {token}"},
        compression=grpc.Compression.Gzip if compression else grpc.Compression.NoCompression,
    )

    class Twice:
        def export(self, spans):
            assert exporter.export(spans) is SpanExportResult.SUCCESS
            return exporter.export(spans)

        def shutdown(self):
            exporter.shutdown()

        def force_flush(self, timeout_millis=0):
            return exporter.force_flush(timeout_millis)

    name = "python-grpc-gzip" if compression else "python-grpc"
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(Twice()))
    record_spans(provider)
    return name


def record_spans(provider):
    tracer = provider.get_tracer("test")
    around = {"gen_ai.operation.name": "invoke_agent", "gen_ai.usage.input_tokens": 1_000_000}
    with tracer.start_as_current_span("invoke_agent", attributes=around):
        for number in range(SPANS):
            with tracer.start_as_current_span("chat", kind=SpanKind.CLIENT, attributes=attributes(number)) as span:
                if number == 0:
                    span.set_attribute("error.type", "529")
                    span.set_status(Status(StatusCode.ERROR))
    assert provider.force_flush()
    provider.shutdown()


def export_by_node(endpoint, token, encoding):
    environment = {
        **os.environ,
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer {token}",
    }
    program = str(Path(__file__).with_name("export.mjs"))
    done = subprocess.run(["node", program, encoding, str(SPANS)], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def hold(daemon, name):
    """Each span is one priced record, also if it was sent again."""
    sql = (
        "SELECT count(*), count(DISTINCT id), count(DISTINCT user_id), trim_scale(sum(cost_usd)), "
        f"count(*) FILTER (WHERE status = 529), max(input_tokens) FROM api_usage_log WHERE app = '{name}'"
    )
    failed = 1 if name.startswith("python") else 0
    expected = f"{SPANS}|{SPANS}|3|{(SPANS * COST).normalize():f}|{failed}|1000"
    found = daemon.psql(sql)[0]
    assert found == expected, f"{name}: {found}, not {expected}"


def main():
    daemon = Daemon()
    daemon.environment["TALLYD_OTLP_GRPC_LISTEN"] = "127.0.0.1:0"
    try:
        daemon.up()
        token = ingest_token(daemon)
        for name, export in [
            ("python", lambda url: export_by_python(url, token, compression=False)),
            ("python-gzip", lambda url: export_by_python(url, token, compression=True)),
            ("node-http", lambda url: export_by_node(url, token, "http")),
            ("node-proto", lambda url: export_by_node(url, token, "proto")),
        ]:
            lossy = Lossy(daemon.port)
            export(lossy.url)
            bodies = [body for _, status, body in lossy.requests if status == 200]
            again = len(bodies) - len(set(bodies))
            assert again >= 1, f"{name}: nothing was sent again: {[(path, status) for path, status, _ in lossy.requests]}"
            daemon.until_stored(SPANS, name)
            hold(daemon, name)
            print(f"{name}: {SPANS} spans, {len(bodies)} requests of which {again} again, {SPANS} records")
            lossy.shutdown()
        for compression in (False, True):
            name = export_by_grpc(daemon.status()["grpc"], token, compression)
            daemon.until_stored(SPANS, name)
            hold(daemon, name)
            print(f"{name}: {SPANS} spans, each request twice, {SPANS} records")
        done = daemon.run("reconcile", "--json")
        assert done.returncode == 0, done.stdout
    finally:
        daemon.down()


if __name__ == "__main__":
    main()
