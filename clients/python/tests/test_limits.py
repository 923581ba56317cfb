"""Calls that are checked before they are made: by `check`, by instrumented clients, and by the LiteLLM callback."""

import asyncio
import pickle
from decimal import Decimal

import anthropic
import httpx
import openai
import pytest
import requests
from google import genai

import tallyd
from tallyd import BudgetExceeded, Recorder

TEAM = {"used_up": [{"tag:team": ["ads"]}]}
REASON = 'tallyd: the call was not made: the budget of tag team "ads" is used up'
ASK = {"model": "claude-sonnet-4-5", "max_tokens": 64, "messages": [{"role": "user", "content": "hello"}]}
CHAT = {"model": "gpt-5.5", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def knowing(monkeypatch):
    """Makes recorders without a thread, which know a state of budgets and keep their records."""
    monkeypatch.setattr(Recorder, "_start", lambda self: None)

    def make(told, **options):
        recorder = Recorder("unix:/nowhere", quiet=True, **options)
        if told is not None:
            recorder.standing.hear(told)
        return recorder

    return make


def refused(call):
    with pytest.raises(BudgetExceeded, match="^" + REASON + "$") as raised:
        call()
    assert raised.value.check.scope == {"tag:team": "ads"}


def test_a_call_has_the_tags_user_and_application_of_the_context_and_the_recorder_and_its_own_come_first(knowing):
    told = [{"tag:team": ["ads"]}, {"user": ["u-1"]}, {"app": ["nightly"], "tag:environment": ["test"]}]
    key = {"tag:api_key": ["sha256:f8dc9db173ee"]}
    tags = {"environment": "production", "team": "none"}
    recorder = knowing({"used_up": [*told, key]}, app="nightly", tags=tags)

    def scope(**call):
        return recorder.check(**call).scope

    assert recorder.check() == (True, True, "", None, None)
    assert scope(tags={"team": "ads"}) == {"tag:team": "ads"}
    assert scope(tags={"environment": "test"}) == {"app": "nightly", "tag:environment": "test"}
    assert scope(tags={"environment": "test"}, app="web") is None
    assert scope(tags={"api_key": "sk-live-1"}) == {"tag:api_key": "sha256:f8dc9db173ee"}
    with tallyd.tags(team="ads"):
        assert scope() == {"tag:team": "ads"} and scope(tags={"team": "search"}) is None
        assert scope(tags={"team": None}) is None, "the record would not have the tag"
    with tallyd.context(user_id=lambda: "u-1", endpoint=lambda: 1 / 0):
        assert scope() == {"user": "u-1"} and scope(user="u-2") is None
    recorder.standing.hear({"left": [{"scope": {"provider": ["claude"]}, "usd": "0.25"}, {"scope": {}, "usd": "much"}]})
    assert recorder.check(provider="claude").remaining == Decimal("0.25")
    for estimate, allowed in ((0.25, True), ("0.2500001", False), (Decimal("0.2500"), True), (1, False), (1e-9, True)):
        assert recorder.check(provider="claude", estimate=estimate).allowed is allowed, estimate
    for estimate in (float("nan"), float("inf"), -1, "-1", "", "much", Decimal("sNaN"), [1, 2, 3], {}):
        with pytest.raises(ValueError, match="an amount in USD"):
            recorder.check(estimate=estimate)


def test_while_the_state_is_not_known_a_setting_decides(knowing):
    allows, denies = knowing(None), knowing(None, deny_unknown=True)
    assert allows.check(provider="claude", estimate=1)[:2] == (True, False)
    assert knowing(None, deny_unknown=True, disabled=True).check()[:2] == (True, False)
    check = denies.check()
    assert not check and check[:2] == (False, False) and "not known" in check.reason
    session = tallyd.meter_http(requests.Session(), "rentcast", recorder=denies, limits="enforce")
    with pytest.raises(BudgetExceeded, match="not known"):
        session.get("http://127.0.0.1:9/v1/avm")
    with pytest.raises(ValueError, match="limits is 'yes'"):
        tallyd.meter_http(requests.Session(), "rentcast", limits="yes")


def test_the_sdks_do_not_send_a_call_that_is_refused_and_raise_the_error_itself_once(stub, knowing):
    recorder = knowing(TEAM)
    limits = {"recorder": recorder, "limits": "enforce"}
    claude = tallyd.instrument(anthropic.Anthropic(api_key="k", base_url=stub.url, max_retries=2), **limits)
    gpt = openai.OpenAI(api_key="k", base_url=stub.url + "/v1", max_retries=2)
    tallyd.instrument(gpt, recorder)
    tallyd.instrument(gpt, **limits)
    gemini = genai.Client(api_key="k", http_options={"base_url": stub.url})
    tallyd.instrument(gemini, **limits)
    metered = tallyd.meter_http(httpx.Client(), "rentcast", **limits)
    session = tallyd.meter_http(requests.Session(), "rentcast", **limits)

    def streamed():
        with claude.messages.stream(**ASK) as stream:
            stream.until_done()

    with tallyd.tags(team="ads"):
        refused(lambda: claude.messages.create(**ASK))
        refused(lambda: list(claude.messages.create(**ASK, stream=True)))
        refused(streamed)
        refused(lambda: claude.with_options(timeout=5).messages.create(**ASK))
        refused(lambda: claude.messages.with_raw_response.create(**ASK))
        refused(lambda: gpt.chat.completions.create(**CHAT))
        refused(lambda: list(gpt.chat.completions.create(**CHAT, stream=True)))
        refused(lambda: gpt.responses.create(model="gpt-5.5", input="hello"))
        refused(lambda: gemini.models.generate_content(model="gemini-2.5-pro", contents="hello"))
        refused(lambda: metered.get(stub.url + "/v1/avm"))
        refused(lambda: metered.send(httpx.Request("GET", stub.url + "/v1/avm")))
        refused(lambda: session.get(stub.url + "/v1/avm"))
        gpt.models.list()
    assert stub.served == {"/v1/models": 1} and not recorder.queue
    with tallyd.tags(team="search"):
        assert claude.messages.create(**ASK).content
        *_, last = gpt.chat.completions.create(**CHAT, stream=True)
    assert last.choices, "the chunk with the usage was not asked for, and is hidden"
    assert len(stub.asked) == 2 and len(recorder.queue) == 2
    recorder.standing.hear({"used_up": [{"model": ["gpt-5.5"]}]})
    with pytest.raises(BudgetExceeded, match='the budget of model "gpt-5.5" is used up') as raised:
        gpt.chat.completions.create(**CHAT)
    again = pickle.loads(pickle.dumps(raised.value))
    assert (str(again), again.check) == (str(raised.value), raised.value.check)
    claude.messages.create(**ASK)


def test_async_calls_are_refused_likewise(stub, knowing):
    recorder = knowing(TEAM)
    limits = {"recorder": recorder, "limits": "enforce"}

    async def ask():
        claude = tallyd.instrument(anthropic.AsyncAnthropic(api_key="k", base_url=stub.url), **limits)
        gpt = tallyd.instrument(openai.AsyncOpenAI(api_key="k", base_url=stub.url + "/v1"), **limits)
        metered = tallyd.meter_http(httpx.AsyncClient(), "rentcast", **limits)

        async def streamed():
            async for _ in await gpt.chat.completions.create(**CHAT, stream=True):
                pass

        with tallyd.tags(team="ads"):
            for call in (
                claude.messages.create(**ASK),
                gpt.chat.completions.create(**CHAT),
                streamed(),
                metered.get(stub.url + "/v1/avm"),
            ):
                with pytest.raises(BudgetExceeded, match="^" + REASON + "$"):
                    await call
        assert not stub.served and not recorder.queue
        assert (await claude.messages.create(**ASK)).content

    asyncio.run(ask())
    assert len(recorder.queue) == 1
