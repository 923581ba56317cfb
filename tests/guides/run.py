"""Runs the programs of docs/guide/frameworks/, as the pages show them, with the vendors' real SDKs.

Each block of a page begins with the name of its file, and is written to a folder. The page's program is run there; if it is a
server, it gets a request. A stub on this machine stands in for the vendors. The call log of a real daemon then has each call
once, with its tokens, its user and its endpoint.

`make test-guides` runs all pages; arguments name some of them.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "clients/python/tests"), str(ROOT / "clients/python")]

from stub import Stub  # noqa: E402
from support import PATIENCE, Daemon, free_port, until  # noqa: E402

PAGES = ROOT / "docs/guide/frameworks"
PACKAGES = ROOT / "target/guides/js"
# Below the installed packages, where programs and bundlers look for them.
WORK = PACKAGES / "pages"
PROXY_KEY = "sk-0123456789abcdef0123456789abcdef0123456789abcdef"
NODE = ["node"]
PYTHON = [sys.executable]
# provider, model, user, endpoint, input, output, cache read, status, as the stub's answers have them.
CLAUDE = "claude|claude-sonnet-5|{user}|{endpoint}|100|50|2000|200"
CHAT = "openai|gpt-4o|{user}|{endpoint}|100|40|20|200"
RESPONSE = "openai|gpt-4o|{user}|{endpoint}|150|60|100|200"


@dataclass
class Page:
    """How a page's program is run, and the `rows` of the application `app` that the call log has afterwards."""

    run: list
    rows: list
    app: str = "web"
    path: str = ""
    """The path of a server that the user u-42 requests."""
    prepare: list = field(default_factory=list)
    """Commands that run before the program."""
    body: str = ""


def serve(*command, path, endpoint, **more):
    return Page(list(command), [CLAUDE.format(user="u-42", endpoint=endpoint)], path=path, **more)


UVICORN = [*PYTHON, "-m", "uvicorn", "--log-level", "warning", "--port", "{port}"]
GUNICORN = [*PYTHON, "-m", "gunicorn", "--bind", "127.0.0.1:{port}", "server:app"]
TSC = [str(PACKAGES / "node_modules/.bin/tsc"), "--target", "es2022", "--module", "nodenext"]
NEXT = str(PACKAGES / "node_modules/.bin/next")
PROGRAMS = {
    "express": [serve(*NODE, "server.mjs", path="/summary", endpoint="/summary")],
    "fastify": [serve(*NODE, "server.mjs", path="/summary/7", endpoint="/summary/:document")],
    "nestjs": [
        serve(
            *NODE,
            "main.js",
            path="/summary",
            endpoint="/summary",
            prepare=[
                [*TSC, "--strict", "--experimentalDecorators", "--emitDecoratorMetadata", "--skipLibCheck", "main.ts"]
            ],
        )
    ],
    "nextjs": [
        serve(
            NEXT,
            "start",
            "--port",
            "{port}",
            path="/api/summary",
            endpoint="/api/summary",
            prepare=[[NEXT, "build"]],
        )
    ],
    "fastapi": [serve(*UVICORN, "server:app", path="/summary/7", endpoint="/summary/{document}")],
    "django": [serve(*GUNICORN, path="/summary/7", endpoint="/summary/<int:document>")],
    "flask": [serve(*GUNICORN, path="/summary/7", endpoint="/summary/<int:document>")],
    "litellm-proxy": [
        Page(
            [str(Path(sys.executable).parent / "litellm"), "--config", "config.yaml", "--port", "{port}"],
            [CLAUDE.format(user="u-42", endpoint="completion")],
            app="proxy",
            path="/v1/chat/completions",
            body='{"model":"summary","user":"u-42","messages":[{"role":"user","content":"Summarise this"}]}',
        )
    ],
    "openai-agents": [
        Page([*PYTHON, "agent.py"], [RESPONSE.format(user="u-42", endpoint="summary-agent")], "agents-python"),
        Page([*NODE, "agent.mjs"], [RESPONSE.format(user="u-42", endpoint="summary-agent")], "agents-javascript"),
    ],
    "langchain-python": [
        Page([*PYTHON, "chain.py"], [CHAT.format(user="u-42", endpoint="summary-chain")] * 2, "langchain-python")
    ],
    "langchain-js": [
        Page([*NODE, "chain.mjs"], [CHAT.format(user="u-42", endpoint="summary-chain")] * 2, "langchain-javascript")
    ],
    "vercel-ai-sdk": [Page([*NODE, "ask.mjs"], [CHAT.format(user="u-42", endpoint="summary")] * 2, "ai-sdk")],
}


def write(page, folder):
    """The blocks of a page that name a file in their first line."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    text = (PAGES / f"{page}.md").read_text()
    for kind, block in re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        name = re.match(r"(?://|#) (\S+)\n", block)
        assert name, f"{page}.md: a block of {kind} does not begin with the name of its file"
        file = folder / name[1]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block)
    (folder / "package.json").write_text('{"private":true,"type":"module"}')


def install_client():
    """Copies the Node client as its package has it: bundlers do not follow links out of their folder."""
    client, installed = ROOT / "clients/typescript", PACKAGES / "node_modules/tallyd"
    shutil.rmtree(installed, ignore_errors=True)
    shutil.copytree(client / "dist", installed / "dist")
    shutil.copy(client / "package.json", installed)


def environment(daemon, stub, port):
    outside = {name: value for name, value in os.environ.items() if not name.startswith("TALLYD_")}
    return {
        **outside,
        "TALLYD_ENDPOINT": f"unix:{daemon.socket}",
        "PYTHONPATH": str(ROOT / "clients/python"),
        "PYTHONWARNINGS": "ignore",
        "PORT": str(port),
        "ANTHROPIC_API_KEY": "k",
        "ANTHROPIC_BASE_URL": stub.url,
        "ANTHROPIC_API_BASE": stub.url,
        "OPENAI_API_KEY": "k",
        "OPENAI_BASE_URL": f"{stub.url}/v1",
        "NEXT_TELEMETRY_DISABLED": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        # Without this LiteLLM downloads its list of prices when it starts.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MASTER_KEY": PROXY_KEY,
    }


def ask(page, port, process, log):
    url, body = f"http://127.0.0.1:{port}{page.path}", page.body.encode() or None
    headers = {"x-user": "u-42", "content-type": "application/json", "authorization": f"Bearer {PROXY_KEY}"}
    request = urllib.request.Request(url, body, headers)

    def listens():
        assert process.poll() is None, log.read_text()[-3000:]
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", port)) == 0

    until("the server listens", listens, 120)
    # Sent once: a second request would be a second paid call.
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            text = answer.read()
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{error}: {error.read()[:500]}\n{log.read_text()[-3000:]}") from None
    assert b"A short answer." in text, text


def run(name, page, daemon, stub):
    folder = WORK / name
    port = free_port()
    settings = environment(daemon, stub, port)
    for command in page.prepare:
        done = subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    log, begun = folder / "log", time.time()
    command = [part.format(port=port) for part in page.run]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=settings, stdout=output, stderr=output, start_new_session=True
        )
    try:
        if page.path:
            ask(page, port, process, log)
            process.send_signal(signal.SIGTERM)
        code = process.wait(PATIENCE)
        # A server without a handler for SIGTERM ends by the signal.
        assert code in ((0, -signal.SIGTERM, 143) if page.path else (0,)), f"{code}: {log.read_text()[-3000:]}"
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    columns = "provider, model, user_id, endpoint, input_tokens, output_tokens, cache_read_tokens, status"
    sql = f"SELECT {columns} FROM api_usage_log WHERE app = '{page.app}' AND occurred_at >= to_timestamp({begun})"
    until(f"the calls of {name} are stored", lambda: len(daemon.psql(sql)) >= len(page.rows))
    assert daemon.psql(sql) == page.rows, f"{daemon.psql(sql)}, not {page.rows}\n{log.read_text()[-3000:]}"


def main():
    pages = {path.stem for path in PAGES.glob("*.md")} - {"README"}
    assert pages == set(PROGRAMS), f"pages without a program here, or the reverse: {sorted(pages ^ set(PROGRAMS))}"
    wanted = sys.argv[1:] or sorted(pages)
    if any(page.run[0] == NODE[0] or page.prepare for name in wanted for page in PROGRAMS[name]):
        install_client()
    failed = []
    daemon, stub = Daemon(TALLYD_OTLP_GRPC_LISTEN="").up(), Stub()
    try:
        until("there is a schema", lambda: daemon.psql("SELECT to_regclass('api_usage_log') IS NOT NULL") == ["t"])
        for name in wanted:
            write(name, WORK / name)
            for page in PROGRAMS[name]:
                begun = time.monotonic()
                label = f"{name}: {' '.join(Path(part).name for part in page.run[:2])}"
                try:
                    run(name, page, daemon, stub)
                    print(f"ok      {label} ({time.monotonic() - begun:.1f} s)", flush=True)
                except Exception as error:
                    failed.append(label)
                    print(f"FAILED  {label}: {error}", flush=True)
        reconciled = daemon.run("reconcile")
        assert reconciled.returncode == 0, reconciled.stdout + reconciled.stderr
    finally:
        stub.shutdown()
        daemon.down()
    print(f"{len(failed)} failed" if failed else "all passed")
    sys.exit(bool(failed))


main()
