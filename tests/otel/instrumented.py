"""Calls a vendor's SDK under one instrumentation: `instrumented.py NAME STUB_URL`. OTEL_EXPORTER_OTLP_* says where spans go.

Each process has one instrumentation, so that none sees another's spans.
"""

import os
import sys

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

QUESTION = [{"role": "user", "content": "a question"}]


def openai_call(stub):
    import openai

    client = openai.OpenAI(api_key="stub", base_url=f"{stub}/v1")
    client.chat.completions.create(model="gpt-4o-mini", messages=QUESTION)


def main():
    name, stub = sys.argv[1:]
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    if name == "opentelemetry-instrumentation-openai-v2":
        from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor

        OpenAIInstrumentor().instrument(tracer_provider=provider)
        openai_call(stub)
    elif name == "opentelemetry-instrumentation-openai":
        from opentelemetry.instrumentation.openai import OpenAIInstrumentor

        OpenAIInstrumentor().instrument(tracer_provider=provider)
        openai_call(stub)
    elif name == "openinference-instrumentation-openai":
        from openinference.instrumentation.openai import OpenAIInstrumentor

        OpenAIInstrumentor().instrument(tracer_provider=provider)
        openai_call(stub)
    elif name == "litellm":
        os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
        import litellm

        litellm.callbacks = ["otel"]
        litellm.completion(model="openai/gpt-4o-mini", api_key="stub", api_base=f"{stub}/v1", messages=QUESTION)
        import time

        # Its callback runs in a thread of its own, which gives no sign when it is done.
        time.sleep(3)
    provider.force_flush()
    provider.shutdown()


if __name__ == "__main__":
    main()
