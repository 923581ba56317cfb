"""The real SDKs against the stub: each way to call, the records, and that the application sees no difference."""

import asyncio
import gc
import json

import anthropic
import httpx
import openai
import pytest
from stub import WORDS
from support import having, until

import tallyd

TEXT = "".join(WORDS)
MODEL = "claude-sonnet-4-5"
CLAUDE = {
    "provider": "claude",
    "model": MODEL,
    "endpoint": "/v1/messages",
    "request_id": "req_stub",
    "status": 200,
    "input_tokens": 100,
    "output_tokens": 50,
    "cache_read_tokens": 2000,
    "cache_write_5m_tokens": 10,
    "cache_write_1h_tokens": 20,
    "extra_units": {"web_search": 2},
    "service_tier": "standard",
    "metadata": None,
}
CHAT = {
    "provider": "openai",
    "model": "gpt-5.5",
    "endpoint": "/v1/chat/completions",
    "request_id": "req_stub",
    "status": 200,
    "input_tokens": 100,
    "output_tokens": 40,
    "cache_read_tokens": 20,
    "service_tier": "standard",
    "metadata": None,
}
RESPONSE = {
    "provider": "openai",
    "endpoint": "/v1/responses",
    "input_tokens": 150,
    "output_tokens": 60,
    "cache_read_tokens": 100,
    "cache_write_5m_tokens": 50,
    "extra_units": {"web_search": 1},
    "status": 200,
    "metadata": None,
}


def ask(prompt="hello", **more):
    return {"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": prompt}], **more}


def chat(prompt="hello", **more):
    return {"model": "gpt-5.5", "messages": [{"role": "user", "content": prompt}], **more}


@pytest.fixture
def claude(stub, caught):
    return tallyd.instrument(anthropic.Anthropic(api_key="k", base_url=stub.url, max_retries=1), caught)


@pytest.fixture
def gpt(stub, caught):
    return tallyd.instrument(openai.OpenAI(api_key="k", base_url=stub.url + "/v1", max_retries=1), caught)


def test_a_message(claude, caught):
    with tallyd.context(user_id="u-1"):
        answer = claude.messages.create(**ask())
    assert answer.content[0].text == TEXT and answer._request_id == "req_stub"
    having(caught.only(), user_id="u-1", **CLAUDE)
    assert caught[0]["latency_ms"] >= 0 and caught[0]["occurred_at"] > 1_700_000_000_000_000


def test_a_stream_of_events(claude, caught):
    events = list(claude.messages.create(**ask(stream=True)))
    assert [event.type for event in events].count("content_block_delta") == 3
    having(caught.only(), **CLAUDE)


def test_the_stream_helper(claude, caught):
    with claude.messages.stream(**ask()) as stream:
        assert "".join(stream.text_stream) == TEXT
        assert stream.get_final_message().usage.output_tokens == 50
    having(caught.only(), **CLAUDE)


def test_raw_and_streaming_responses(claude, caught):
    raw = claude.messages.with_raw_response.create(**ask())
    assert raw.headers["request-id"] == "req_stub" and raw.parse().content[0].text == TEXT
    with claude.messages.with_streaming_response.create(**ask()) as response:
        assert json.loads(response.read())["usage"]["output_tokens"] == 50
    for record in caught:
        having(record, **CLAUDE)
    assert len(caught) == 2


def test_a_copy_of_the_client_is_recorded_once(claude, caught):
    tallyd.instrument(claude, caught).with_options(timeout=5).messages.create(**ask())
    having(caught.only(), **CLAUDE)


def test_what_bills_nothing_is_not_recorded(claude, caught):
    claude.messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": "x"}])
    claude.models.list()
    claude.messages.batches.create(requests=[{"custom_id": "a", "params": ask()}])
    claude.messages.batches.retrieve("batch_stub")
    assert not caught


def test_what_bills_nothing_at_openai_is_not_recorded(gpt, caught):
    gpt.models.list()
    gpt.batches.create(input_file_id="f", endpoint="/v1/responses", completion_window="24h")
    gpt.batches.retrieve("batch_stub")
    gpt.moderations.create(input="hello")
    assert not caught


def test_a_paid_answer_without_usage_is_unpriced(gpt, caught):
    gpt.images.generate(model="dall-e-3", prompt="a boat")
    having(caught.only(), status=200, model="dall-e-3", metadata={"tallyd.not_understood": "usage"})


def test_a_call_that_times_out_is_unpriced(stub, caught):
    client = tallyd.instrument(openai.OpenAI(api_key="k", base_url=stub.url + "/v1", max_retries=0), caught)
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.5).chat.completions.create(**chat("slow"))
    having(caught.only(), status=599, metadata={"incomplete": True, "tallyd.not_understood": "usage"})


def test_the_host_tells_the_vendor(caught):
    for host, provider in (("openrouter.ai/api/v1", "openrouter"), ("x.openai.azure.com", "azure"), ("a.b", "openai")):
        client = openai.OpenAI(api_key="k", base_url=f"https://{host}", max_retries=0)
        refuse = httpx.MockTransport(lambda _: httpx.Response(429))
        client._client = httpx.Client(transport=refuse)
        with pytest.raises(openai.RateLimitError):
            tallyd.instrument(client, caught).chat.completions.create(**chat())
        having(caught[-1], provider=provider)


def test_each_attempt_is_a_record(claude, caught):
    claude.messages.create(**ask("limited"))
    assert [record["status"] for record in caught] == [429, 200]
    having(caught[0], model=MODEL, provider="claude", metadata=None)
    assert not caught[0].get("input_tokens")


def test_errors_reach_the_application_and_the_log(claude, caught):
    with pytest.raises(anthropic.APIStatusError) as error:
        claude.with_options(max_retries=0).messages.create(**ask("overloaded"))
    assert error.value.status_code == 529 and error.value.body["error"]["type"] == "overloaded_error"
    having(caught.only(), status=529, model=MODEL, request_id="req_stub")


def test_an_error_inside_a_stream(claude, caught):
    with pytest.raises(anthropic.APIStatusError):
        list(claude.messages.create(**ask("failing", stream=True)))
    having(caught.only(), status=529, input_tokens=100, output_tokens=1, metadata={"incomplete": True})


def test_a_stream_that_breaks_off(claude, caught):
    with pytest.raises(Exception, match="(?i)incomplete|closed"):
        list(claude.messages.create(**ask("broken", stream=True)))
    having(caught.only(), status=599, input_tokens=100, metadata={"incomplete": True})


def test_a_stream_that_is_left_early_is_an_abort(claude, caught):
    stream = claude.messages.create(**ask(stream=True))
    assert next(iter(stream)).type == "message_start"
    stream.close()
    having(caught.only(), status=499, input_tokens=100, output_tokens=1, metadata={"incomplete": True})


def test_a_stream_that_is_dropped_needs_no_garbage_collector(claude, caught):
    gc.disable()
    try:
        for event in claude.messages.create(**ask(stream=True)):
            assert event.type == "message_start"
            break
        having(caught.only(), status=499)
    finally:
        gc.enable()


def test_nobody_there(caught):
    client = anthropic.Anthropic(api_key="k", base_url="http://127.0.0.1:9", max_retries=0)
    with pytest.raises(anthropic.APIConnectionError):
        tallyd.instrument(client, caught).messages.create(**ask())
    having(caught.only(), status=599, model=MODEL, metadata={"incomplete": True})


def test_async_calls(stub, caught):
    async def calls():
        client = tallyd.instrument(anthropic.AsyncAnthropic(api_key="k", base_url=stub.url), caught)
        async with client:
            assert (await client.messages.create(**ask())).content[0].text == TEXT
            async for _ in await client.messages.create(**ask(stream=True)):
                pass
            async with client.messages.stream(**ask()) as stream:
                assert await stream.get_final_text() == TEXT
            async with client.messages.stream(**ask()) as stream:
                async for _ in stream:
                    break
            task = asyncio.create_task(client.messages.create(**ask()))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(calls())
    for record in caught[:3]:
        having(record, **CLAUDE)
    having(caught[3], status=499, metadata={"incomplete": True})
    assert [record["status"] for record in caught[4:]] in ([], [499])


def test_a_chat_completion(gpt, caught):
    assert gpt.chat.completions.create(**chat()).choices[0].message.content == TEXT
    having(caught.only(), **CHAT)


def test_a_chat_stream_is_asked_for_its_usage_and_looks_the_same(gpt, stub, caught):
    plain = openai.OpenAI(api_key="k", base_url=stub.url + "/v1")
    expected = [chunk.to_dict() for chunk in plain.chat.completions.create(**chat(stream=True))]
    seen = [chunk.to_dict() for chunk in gpt.chat.completions.create(**chat(stream=True))]
    assert [{k: v for k, v in chunk.items() if k != "usage"} for chunk in seen] == expected
    assert stub.asked[-1]["stream_options"] == {"include_usage": True}
    having(caught.only(), **CHAT)


def test_a_chat_stream_that_asked_itself_keeps_its_usage(gpt, caught):
    seen = list(gpt.chat.completions.create(**chat(stream=True, stream_options={"include_usage": True})))
    assert seen[-1].usage.completion_tokens == 40
    having(caught.only(), **CHAT)


def test_a_chat_stream_left_as_it_is(stub, caught):
    client = openai.OpenAI(api_key="k", base_url=stub.url + "/v1")
    list(tallyd.instrument(client, caught, stream_usage=False).chat.completions.create(**chat(stream=True)))
    assert "stream_options" not in stub.asked[-1]
    having(caught.only(), status=200, input_tokens=None, metadata={"tallyd.not_understood": "usage"})


def test_the_chat_stream_helper(gpt, caught):
    with gpt.chat.completions.stream(**chat()) as stream:
        for _ in stream:
            pass
        assert stream.get_final_completion().choices[0].message.content == TEXT
    having(caught.only(), **CHAT)


def test_responses(gpt, caught):
    assert gpt.responses.create(model="gpt-5.6", input="hello").output_text == TEXT
    types = [event.type for event in gpt.responses.create(model="gpt-5.6", input="hello", stream=True)]
    assert types[-1] == "response.completed"
    with gpt.responses.stream(model="gpt-5.6", input="hello") as stream:
        assert stream.get_final_response().output_text == TEXT
    for record in caught:
        having(record, model="gpt-5.6", **RESPONSE)
    assert len(caught) == 3


def test_embeddings_and_raw_responses(gpt, caught):
    raw = gpt.embeddings.with_raw_response.create(model="text-embedding-3-small", input="x", encoding_format="float")
    assert raw.parse().data[0].embedding == [0.5]
    having(caught.only(), input_tokens=7, output_tokens=0, endpoint="/v1/embeddings", metadata=None)


def test_async_openai(stub, caught):
    async def calls():
        async with openai.AsyncOpenAI(api_key="k", base_url=stub.url + "/v1") as client:
            tallyd.instrument(client, caught, provider="deepseek")
            await client.chat.completions.create(**chat())
            async for chunk in await client.chat.completions.create(**chat(stream=True)):
                assert chunk.choices
            async for _ in await client.responses.create(model="gpt-5.6", input="x", stream=True):
                pass

    asyncio.run(calls())
    having(caught[0], **{**CHAT, "provider": "deepseek"})
    having(caught[1], **{**CHAT, "provider": "deepseek"})
    having(caught[2], **{**RESPONSE, "provider": "deepseek"})


def test_the_route_that_is_served_is_the_endpoint(claude, caught):
    with tallyd.context(endpoint="/report/{id}"):
        claude.messages.create(**ask())
    having(caught.only(), endpoint="/report/{id}")


def test_a_broken_recorder_breaks_no_call(stub):
    class Broken:
        def record(self, **_):
            raise RuntimeError("no")

    client = tallyd.instrument(anthropic.Anthropic(api_key="k", base_url=stub.url), Broken())
    assert client.messages.create(**ask()).content[0].text == TEXT
    assert len(list(client.messages.create(**ask(stream=True)))) > 5


def test_only_the_sdks_are_instrumented():
    with pytest.raises(TypeError, match="meter_http"):
        tallyd.instrument(object())


def test_the_default_recorder_is_used(daemon, stub):
    recorder = tallyd.configure(daemon.socket, app="default")
    tallyd.instrument(anthropic.Anthropic(api_key="k", base_url=stub.url)).messages.create(**ask())
    assert tallyd.default_recorder() is recorder and tallyd.record("rentcast", endpoint="/avm")
    assert recorder.close()
    until("both are settled", lambda: recorder.stats().settled == 2)
    daemon.until_stored(2, "default")
    sql = "SELECT trim_scale(cost_usd) FROM api_usage_log WHERE app = 'default' AND provider = 'claude'"
    assert daemon.psql(sql) == ["0.0218075"]


def test_sdks_over_one_http_client_are_each_recorded_once(stub, caught):
    with httpx.Client() as shared:
        gpt = openai.OpenAI(api_key="k", base_url=stub.url + "/v1", http_client=shared)
        other = openai.OpenAI(api_key="k", base_url=stub.url + "/other/v1", http_client=shared)
        for client, provider in ((gpt, None), (other, "deepseek"), (gpt, None)):
            tallyd.instrument(client, caught, provider=provider)
        tallyd.meter_http(shared, "rentcast", recorder=caught)
        gpt.chat.completions.create(**chat())
        other.chat.completions.create(**chat())
        gpt.with_options(timeout=5).chat.completions.create(**chat())
        shared.get(stub.url.replace("127.0.0.1", "localhost") + "/v1/avm/rent/long-term?address=1+Main+St")
    assert [record["provider"] for record in caught] == ["openai", "deepseek", "openai", "rentcast"]
