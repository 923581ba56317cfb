"""The Model Context Protocol's official client asks `tallyd mcp`, which asks a real daemon."""

import asyncio
import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "clients/python/tests"), str(ROOT / "clients/python")]

from mcp import Client, MCPError, StdioServerParameters  # noqa: E402
from support import PROGRAM, Daemon, until  # noqa: E402

TOOLS = {
    "alerts": {},
    "budgets": {},
    "costs": {"days": 30, "group_by": "model,tag:team", "bucket": "total", "tags": {"team": "search & find"}},
    "explain_change": {"group_by": "user", "limit": 3},
    "forecast": {"provider": "claude"},
    "top_movers": {"from": "2026-03-02", "to": "2026-03-02", "before_from": "2026-03-01", "before_to": "2026-03-01"},
    "unpriced_models": {},
    "user_history": {"id": "u/1 ü", "from": "2026-03-01", "to": "2026-03-02"},
}
CALLS = [
    {"model": "claude-sonnet-4-5", "user_id": "u/1 ü", "occurred_at": "2026-03-01T12:00:00Z", "input_tokens": 100_000},
    {"model": "claude-sonnet-4-5", "user_id": "u/1 ü", "occurred_at": "2026-03-02T12:00:00Z", "input_tokens": 200_000},
    {"model": "claude-sonnet-4-5", "tags": {"team": "search & find"}, "input_tokens": 100_000},
    {"model": "a-model-without-a-price", "input_tokens": 1},
]


def server(daemon, token, **more):
    environment = {"TALLYD_HTTP": daemon.url, "TALLYD_HTTP_TOKEN": token, **more}
    return StdioServerParameters(command=PROGRAM, args=["mcp"], env=environment, cwd=daemon.home.name)


async def ask(client, name, arguments):
    """The answer of a tool, or its error."""
    result = await client.call_tool(name, arguments)
    (content,) = result.content
    if result.is_error:
        return content.text
    return json.loads(content.text, parse_float=Decimal)


async def read(daemon, token):
    async with Client(server(daemon, token)) as client:
        listed = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(listed) == set(TOOLS), set(listed)
        for tool in listed.values():
            assert tool.annotations.read_only_hint and not tool.input_schema["additionalProperties"], tool
        answers = {name: await ask(client, name, arguments) for name, arguments in TOOLS.items()}
        for name, answer in answers.items():
            assert isinstance(answer, dict), (name, answer)
        (row,) = answers["costs"]["rows"]
        assert (row["model"], row["cost_usd"], row["tag:team"]) == ("claude-sonnet-4-5", "0.3", "search & find"), row
        (mover,) = answers["top_movers"]["movers"]
        assert (mover["before_usd"], mover["after_usd"], mover["difference_usd"]) == ("0.3", "0.6", "0.3"), mover
        parts = answers["explain_change"]["parts"]
        total = sum(Decimal(part["usd"]) for part in parts)
        assert total == Decimal(answers["explain_change"]["difference_usd"]), parts
        assert answers["unpriced_models"]["models"][0]["model"] == "a-model-without-a-price"
        assert [day["cost_usd"] for day in answers["user_history"]["days"]] == ["0.6", "0.3"], answers["user_history"]
        for name, arguments, says in [
            ("costs", {"days": 0}, "answered 400: days: 0 is not within"),
            ("costs", {"colour": 1}, 'no parameter "colour"; it has days'),
            ("costs", {"group_by": "colour"}, "no such dimension"),
            ("user_history", {"id": "../../prices"}, "answered 404"),
            ("explain_change", {"from": "2026-03-02", "to": "2026-03-01"}, "hint: either days=30, or from="),
        ]:
            told = await ask(client, name, arguments)
            assert isinstance(told, str) and says in told, (name, arguments, told)
        try:
            await client.call_tool("drop_everything", {})
            raise AssertionError("an unknown tool was run")
        except MCPError as error:
            assert "there is no tool" in str(error), error


async def refused(parameters, says):
    async with Client(parameters) as client:
        told = await ask(client, "budgets", {})
        assert isinstance(told, str) and says in told, told


def main():
    daemon = Daemon().up()
    try:
        token = daemon.token()
        done = subprocess.run(
            [PROGRAM, "record", "--stdin"],
            input="\n".join(json.dumps({"provider": "claude", **call}) for call in CALLS),
            env=daemon.environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        until("the calls are loaded", lambda: daemon.psql("SELECT count(*) FROM api_usage_log") == [str(len(CALLS))])
        asyncio.run(read(daemon, token))
        asyncio.run(refused(server(daemon, daemon.token("ingest")), "needs the role `read`"))
        asyncio.run(refused(server(daemon, "tallyd_no-such-token"), "answered 401"))
        asyncio.run(refused(server(daemon, token, TALLYD_HTTP="http://127.0.0.1:9"), "hint: the daemon is asked at"))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TALLYD_")}
        done = subprocess.run([PROGRAM, "mcp"], env=environment, cwd=daemon.home.name, capture_output=True, text=True)
        assert done.returncode == 1 and "hint: `tallyd token create" in done.stderr, done
    finally:
        daemon.down()
    print("the official client reads costs, movers, causes, the forecast, budgets, alerts, unpriced models and users")


main()
