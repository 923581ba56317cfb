// Exports spans of model calls by OpenTelemetry's SDK for Node.js: `node export.mjs http|proto COUNT`.
//
// OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_EXPORTER_OTLP_HEADERS have their documented meaning.
import { SpanKind } from "@opentelemetry/api";
import { OTLPTraceExporter as Json } from "@opentelemetry/exporter-trace-otlp-http";
import { OTLPTraceExporter as Protobuf } from "@opentelemetry/exporter-trace-otlp-proto";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchSpanProcessor, TracerProvider } from "@opentelemetry/sdk-trace";

const [encoding, count] = process.argv.slice(2);
const exporter = encoding === "proto" ? new Protobuf() : new Json();
const provider = new TracerProvider({
  resource: resourceFromAttributes({ "service.name": `node-${encoding}` }),
  spanProcessors: [new BatchSpanProcessor({ exporter })],
});
const tracer = provider.getTracer("test");
const agent = tracer.startSpan("invoke_agent", {
  attributes: { "gen_ai.operation.name": "invoke_agent", "gen_ai.usage.input_tokens": 1_000_000 },
});
for (let number = 0; number < Number(count); number++) {
  tracer
    .startSpan("chat claude-sonnet-4-5", {
      kind: SpanKind.CLIENT,
      attributes: {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude-sonnet-4-5",
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 100,
        "gen_ai.response.finish_reasons": ["end_turn"],
        "enduser.id": `u-${number % 3}`,
      },
    })
    .end();
}
agent.end();
await provider.forceFlush();
await provider.shutdown();
