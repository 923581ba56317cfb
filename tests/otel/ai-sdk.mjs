// The AI SDK with its telemetry on: `node ai-sdk.mjs ai-sdk-openai|ai-sdk-anthropic STUB_URL`.
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchSpanProcessor, TracerProvider } from "@opentelemetry/sdk-trace";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { generateText } from "ai";

const [name, stub] = process.argv.slice(2);
const provider = new TracerProvider({
  resource: resourceFromAttributes({ "service.name": name }),
  spanProcessors: [new BatchSpanProcessor({ exporter: new OTLPTraceExporter() })],
});
const settings = { apiKey: "stub", baseURL: `${stub}/v1` };
const model =
  name === "ai-sdk-openai"
    ? createOpenAI(settings).chat("gpt-4o-mini")
    : createAnthropic(settings)("claude-sonnet-4-5");
await generateText({
  model,
  prompt: "a question",
  experimental_telemetry: { isEnabled: true, tracer: provider.getTracer("ai") },
});
await provider.forceFlush();
await provider.shutdown();
