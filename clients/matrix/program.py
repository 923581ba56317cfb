"""The program that run.mjs runs on each Python: instrumented SDKs, a burst, and one of two ends."""

import multiprocessing
import os

import anthropic
import openai

import tallyd


def work() -> None:
    vendors = os.environ["VENDORS"]
    recorder = tallyd.Recorder(app=os.environ["APP"])
    claude = tallyd.instrument(anthropic.Anthropic(api_key="k", base_url=vendors, max_retries=0), recorder)
    gpt = tallyd.instrument(openai.OpenAI(api_key="k", base_url=vendors + "/v1", max_retries=0), recorder)
    messages = [{"role": "user", "content": "Hello"}]
    ask = {"model": "claude-sonnet-5", "max_tokens": 100, "messages": messages}
    claude.messages.create(**ask)
    list(claude.messages.create(**ask, stream=True))
    gpt.chat.completions.create(model="gpt-4o", messages=messages)
    for chunk in gpt.chat.completions.create(model="gpt-4o", messages=messages, stream=True):
        assert len(chunk.choices) == 1, "usage that nobody asked for"
    gpt.responses.create(model="gpt-4o", input="Hello")
    with tallyd.context(user_id="u7"):
        recorder.record("rentcast")
    for number in range(int(os.environ["BURST"])):
        recorder.record("rentcast", request_id=str(number))


if __name__ == "__main__":
    if os.environ["END"] == "exit":  # A child, which ends with os._exit.
        child = multiprocessing.get_context("fork").Process(target=work)
        child.start()
        child.join()
        assert child.exitcode == 0
    else:
        work()
