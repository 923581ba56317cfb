"""The real LiteLLM against the stub: sync and async, plain and streamed, success and failure, two providers."""

import asyncio
import os

import pytest
from support import having, until

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # Otherwise it downloads its price list.
litellm = pytest.importorskip("litellm")

import tallyd  # noqa: E402
from tallyd.litellm import TallydLogger  # noqa: E402

CLAUDE = {
    "provider": "claude",
    "model": "claude-sonnet-4-5",
    "status": 200,
    "input_tokens": 100,
    "output_tokens": 50,
    "cache_read_tokens": 2000,
    "cache_write_5m_tokens": 10,
    "cache_write_1h_tokens": 20,
    "extra_units": {"web_search": 2},
}
CHAT = {
    "provider": "openai",
    "model": "gpt-5.5",
    "status": 200,
    "input_tokens": 100,
    "output_tokens": 40,
    "cache_read_tokens": 20,
}


LOGGER = TallydLogger()


@pytest.fixture
def logged(caught):
    # LiteLLM keeps the first callback of a class, so the class's one callback gets the test's recorder.
    LOGGER._recorder = caught
    litellm.callbacks = [LOGGER]
    return caught


def call(stub, model, prompt="hello", **more):
    base = stub.url if model.startswith("anthropic") else stub.url + "/v1"
    messages = [{"role": "user", "content": prompt}]
    return {"model": model, "api_key": "k", "api_base": base, "messages": messages, "num_retries": 0, **more}


def settled(logged, count):
    until(f"{count} calls are told of", lambda: len(logged) >= count, 20)
    return list(logged)


def test_plain(stub, logged):
    litellm.completion(**call(stub, "anthropic/claude-sonnet-4-5", user="u-7"))
    litellm.completion(**call(stub, "openai/gpt-5.5"))
    first, second = sorted(settled(logged, 2), key=lambda record: record["provider"])
    having(first, user_id="u-7", **CLAUDE)
    having(second, **CHAT)


def test_team_key_and_tags(stub, logged):
    metadata = {"user_api_key_team_alias": "search", "user_api_key_alias": "ci", "tags": ["job:7", "nightly", "x" * 99]}
    litellm.completion(**call(stub, "openai/gpt-5.5", metadata=metadata))
    having(settled(logged, 1)[0], tags={"job": "7", "nightly": "true", "team": "search", "key_alias": "ci"})


def test_streamed(stub, logged):
    list(litellm.completion(**call(stub, "anthropic/claude-sonnet-4-5", stream=True)))
    options = {"stream": True, "stream_options": {"include_usage": True}}
    list(litellm.completion(**call(stub, "openai/gpt-5.5", **options)))
    first, second = sorted(settled(logged, 2), key=lambda record: record["provider"])
    having(first, **CLAUDE)
    having(second, **CHAT)


def test_failed(stub, logged):
    with pytest.raises(litellm.exceptions.InternalServerError, match="Overloaded"):
        litellm.completion(**call(stub, "anthropic/claude-sonnet-4-5", "overloaded"))
    # LiteLLM's status for a 529. The call is not billed.
    having(settled(logged, 1)[0], status=500, model="claude-sonnet-4-5", metadata=None)


def test_responses(stub, logged):
    base = {"model": "openai/gpt-5.5", "input": "hello", "api_key": "k", "api_base": stub.url + "/v1"}
    litellm.responses(**base)
    list(litellm.responses(**base, stream=True))
    right = {
        "provider": "openai",
        "model": "gpt-5.5",
        "input_tokens": 150,
        "output_tokens": 60,
        "cache_read_tokens": 100,
    }
    for record in settled(logged, 2):
        having(record, status=200, cache_write_5m_tokens=50, extra_units={"web_search": 1}, metadata=None, **right)


def test_a_call_that_times_out_is_unpriced(stub, logged):
    with pytest.raises(litellm.exceptions.Timeout):
        litellm.completion(**call(stub, "openai/gpt-5.5", "slow", timeout=0.5))
    having(settled(logged, 1)[0], status=408, metadata={"tallyd.not_understood": "usage"})


def test_async(stub, logged):
    async def calls():
        await litellm.acompletion(**call(stub, "anthropic/claude-sonnet-4-5"))
        async for _ in await litellm.acompletion(**call(stub, "anthropic/claude-sonnet-4-5", stream=True)):
            pass
        deadline = asyncio.get_running_loop().time() + 20
        while len(logged) < 2 and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)

    asyncio.run(calls())
    assert len(logged) == 2
    having(logged[0], **CLAUDE)
    having(logged[1], endpoint="completion", **CLAUDE)


def test_refused(stub, logged, monkeypatch):
    monkeypatch.setattr(tallyd.Recorder, "_start", lambda self: None)
    recorder = tallyd.Recorder("unix:/nowhere", quiet=True)
    used_up = [{"tag:team": ["ads"]}, {"provider": ["claude"], "model": ["claude-sonnet-4-5"]}, {"user": ["u-7"]}]
    recorder.standing.hear({"used_up": used_up})
    monkeypatch.setattr(LOGGER, "_recorder", recorder)
    monkeypatch.setattr(LOGGER, "_enforces", True)
    metadata = {"user_api_key_team_alias": "ads"}

    async def ask():
        for refused in (
            call(stub, "openai/gpt-5.5", metadata=metadata),
            call(stub, "anthropic/claude-sonnet-4-5", stream=True),
            call(stub, "openai/gpt-5.5", user="u-7"),
        ):
            with pytest.raises(tallyd.BudgetExceeded, match="the call was not made") as raised:
                await litellm.acompletion(**refused)
            assert raised.value.status_code == 403, "the proxy's answer"
        assert not stub.served
        await litellm.acompletion(**call(stub, "openai/gpt-5.5"))
        deadline = asyncio.get_running_loop().time() + 20
        while not recorder.queue and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)

    asyncio.run(ask())
    assert len(recorder.queue) == 1 and sum(stub.served.values()) == 1
