"""Real instrumentations end to end: a vendor's SDK calls a stub server, its spans go to a real daemon, each call is one priced record.

The stub's answer has 1,000 input tokens, 600 of them cached, and 100 output tokens.
"""

import json
import os
import subprocess
import sys
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "clients/python/tests"), str(ROOT / "clients/python")]

from sdks import ingest_token  # noqa: E402
from support import Daemon  # noqa: E402

OPENAI = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1790000000,
    "model": "gpt-4o-mini-2024-07-18",
    "service_tier": "default",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "an answer"}}],
    "usage": {
        "prompt_tokens": 1000,
        "completion_tokens": 100,
        "total_tokens": 1100,
        "prompt_tokens_details": {"cached_tokens": 600, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    },
}
ANTHROPIC = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5-20250929",
    "content": [{"type": "text", "text": "an answer"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 400,
        "cache_read_input_tokens": 600,
        "cache_creation_input_tokens": 0,
        "output_tokens": 100,
    },
}
# 400 at 0.15, 600 at 0.075 and 100 at 0.60; 400 at 3, 600 at 0.30 and 100 at 15 USD per million.
SPLIT, CLAUDE = "400|600|100|0.000165", "400|600|100|0.00288"
# Cached tokens that an instrumentation does not report cannot be priced apart: 1,000 at 0.15.
UNTOLD = "1000|0|100|0.00021"


class Stub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        answer = ANTHROPIC if self.path.endswith("/messages") else OPENAI
        # Each answer has its own id, as a vendor's has: two spans of one response are one call.
        body = json.dumps({**answer, "id": f"{answer['id']}{uuid.uuid4().hex}"}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def run(command, endpoint, token):
    environment = {
        **os.environ,
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_HEADERS": f"Authorization=Bearer {token}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER": "otlp_http",
        "OTEL_SERVICE_NAME": command[2],
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


def main():
    stub = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    threading.Thread(target=stub.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{stub.server_port}"
    daemon = Daemon()
    daemon.environment["TALLYD_OTLP_GRPC_LISTEN"] = ""
    try:
        daemon.up()
        token = ingest_token(daemon)
        here = Path(__file__).parent
        python = [sys.executable, str(here / "instrumented.py")]
        node = ["node", str(here / "ai-sdk.mjs")]
        for program, name, expected in CASES:
            run([*(python if program == "python" else node), name, url], daemon.url, token)
            sql = (
                "SELECT input_tokens, cache_read_tokens, output_tokens, trim_scale(cost_usd) "
                f"FROM api_usage_log WHERE app = '{name}'"
            )
            daemon.until_stored(1, name)
            found = daemon.psql(sql)
            assert found == [expected], f"{name}: {found}, not {expected}"
            print(f"{name}: one record, {found[0]}")
        done = daemon.run("reconcile", "--json")
        assert done.returncode == 0, done.stdout
    finally:
        daemon.down()
        stub.shutdown()


CASES = [
    ("python", "opentelemetry-instrumentation-openai-v2", UNTOLD),
    ("python", "opentelemetry-instrumentation-openai", SPLIT),
    ("python", "openinference-instrumentation-openai", SPLIT),
    ("python", "litellm", SPLIT),
    ("node", "ai-sdk-openai", SPLIT),
    ("node", "ai-sdk-anthropic", CLAUDE),
]

if __name__ == "__main__":
    main()
