"""google-genai against the stub: each way to call, the records, and that the application sees no difference."""

import asyncio

import pytest
from google import genai
from stub import WORDS
from support import having

import tallyd

TEXT = "".join(WORDS)
MODEL = "gemini-2.5-flash"
PATH = f"/v1beta/models/{MODEL}:generateContent"
GEMINI = {
    "provider": "google",
    "model": MODEL,
    "endpoint": PATH,
    "status": 200,
    "input_tokens": 100,
    "output_tokens": 48,
    "cache_read_tokens": 20,
    "metadata": None,
}


@pytest.fixture
def gemini(stub, caught):
    return tallyd.instrument(
        genai.Client(api_key="k", http_options={"base_url": stub.url, "api_version": "v1beta"}), caught
    )


def test_an_answer_and_a_stream(gemini, caught):
    with tallyd.context(user_id="u-1"):
        answer = gemini.models.generate_content(model=MODEL, contents="hello")
    assert answer.text == TEXT and answer.usage_metadata.total_token_count == 168
    having(caught.only(), user_id="u-1", **GEMINI)
    caught.clear()
    parts = list(gemini.models.generate_content_stream(model=MODEL, contents="hello"))
    assert "".join(part.text for part in parts) == TEXT
    having(caught.only(), **{**GEMINI, "endpoint": PATH.replace("generate", "streamGenerate")})


def test_async_calls_are_recorded_too(stub, caught, gemini):
    async def calls():
        answer = await gemini.aio.models.generate_content(model=MODEL, contents="hello")
        assert answer.text == TEXT
        stream = await gemini.aio.models.generate_content_stream(model=MODEL, contents="hello")
        assert "".join([part.text async for part in stream]) == TEXT

    asyncio.run(calls())
    assert [record["input_tokens"] for record in caught] == [100, 100]
    assert all(record["status"] == 200 and record.get("metadata") is None for record in caught)


def test_a_failure_has_its_model_and_status_and_what_is_not_billed_is_not_recorded(gemini, caught):
    with pytest.raises(genai.errors.ClientError):
        gemini.models.generate_content(model="gemini-missing", contents="hello")
    having(caught.only(), status=404, model="gemini-missing", provider="google")
    caught.clear()
    assert gemini.models.count_tokens(model=MODEL, contents="hello").total_tokens == 12
    assert not caught


def test_a_client_is_instrumented_once(gemini, caught):
    tallyd.instrument(gemini, caught).models.generate_content(model=MODEL, contents="hello")
    having(caught.only(), **GEMINI)
