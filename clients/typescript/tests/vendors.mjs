// A server that answers as Anthropic, OpenAI and RentCast do, and counts its answers.

import { createServer } from "node:http";

const USAGE = { input_tokens: 1000, output_tokens: 200, cache_read_input_tokens: 5000, cache_creation_input_tokens: 300, cache_creation: { ephemeral_5m_input_tokens: 200, ephemeral_1h_input_tokens: 100 }, server_tool_use: { web_search_requests: 2 }, service_tier: "standard" };
const CHAT = { prompt_tokens: 900, completion_tokens: 50, total_tokens: 950, prompt_tokens_details: { cached_tokens: 400 } };

function sse(response, events) {
  if (!response.headersSent) response.setHeader("content-type", "text/event-stream");
  for (const [name, data] of events) response.write(`${name ? `event: ${name}\n` : ""}data: ${typeof data === "string" ? data : JSON.stringify(data)}\n\n`);
}

function anthropic(body, response) {
  const message = { id: "msg_1", type: "message", role: "assistant", model: body.model, content: [{ type: "text", text: "Hello there" }], stop_reason: "end_turn", stop_sequence: null, usage: USAGE };
  response.setHeader("request-id", "req_anthropic_1");
  if (!body.stream) return response.setHeader("content-type", "application/json").end(JSON.stringify(message));
  sse(response, [
    ["message_start", { type: "message_start", message: { ...message, content: [], stop_reason: null, usage: { ...USAGE, output_tokens: 1 } } }],
    ["content_block_start", { type: "content_block_start", index: 0, content_block: { type: "text", text: "" } }],
    ["ping", { type: "ping" }],
    ["content_block_delta", { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "Hello" } }],
  ]);
  if (body.max_tokens === 13) return; // It hangs here until the client goes away.
  sse(response, [
    ["content_block_delta", { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: " there" } }],
    ["content_block_stop", { type: "content_block_stop", index: 0 }],
    ["message_delta", { type: "message_delta", delta: { stop_reason: "end_turn", stop_sequence: null }, usage: { output_tokens: 200 } }],
    ["message_stop", { type: "message_stop" }],
  ]);
  response.end();
}

function chat(body, response) {
  response.setHeader("x-request-id", "req_openai_1");
  const base = { id: "chatcmpl-1", created: 1, model: body.model, service_tier: "default" };
  if (!body.stream) {
    return response.setHeader("content-type", "application/json").end(JSON.stringify({ ...base, object: "chat.completion", choices: [{ index: 0, message: { role: "assistant", content: "Hi" }, finish_reason: "stop" }], usage: CHAT }));
  }
  const chunk = (delta, finish_reason = null) => [undefined, { ...base, object: "chat.completion.chunk", choices: [{ index: 0, delta, finish_reason }] }];
  sse(response, [chunk({ role: "assistant", content: "" }), chunk({ content: "Hi" }), chunk({}, "stop")]);
  if (body.stream_options?.include_usage) sse(response, [[undefined, { ...base, object: "chat.completion.chunk", choices: [], usage: CHAT }]]);
  sse(response, [[undefined, "[DONE]"]]);
  response.end();
}

function responses(body, response) {
  const answer = { id: "resp_1", object: "response", model: body.model, status: "completed", output: [], usage: { input_tokens: 700, output_tokens: 30, total_tokens: 730, input_tokens_details: { cached_tokens: 100 }, output_tokens_details: { reasoning_tokens: 0 } } };
  if (!body.stream) return response.setHeader("content-type", "application/json").end(JSON.stringify(answer));
  sse(response, [["response.created", { type: "response.created", response: { ...answer, usage: null } }], ["response.completed", { type: "response.completed", response: answer }]]);
  response.end();
}

function gemini(url, response) {
  const chunk = (said, more = {}) => ({ modelVersion: "gemini-2.5-flash", candidates: [{ content: { parts: [{ text: "Hi" }] }, ...more }], usageMetadata: { promptTokenCount: 10, candidatesTokenCount: said, thoughtsTokenCount: 4, totalTokenCount: 14 + said } });
  if (!url.includes("alt=sse")) return response.setHeader("content-type", "application/json").end(JSON.stringify([chunk(2), chunk(5, { finishReason: "STOP" })]));
  sse(response, [[undefined, chunk(2)], [undefined, chunk(5, { finishReason: "STOP" })]]);
  response.end();
}

/** Starts the server. While `served.fail` is above 0, calls fail with 529, and each lowers it by 1. */
export async function startVendors() {
  const served = { anthropic: 0, openai: 0, google: 0, rentcast: 0, fail: 0 };
  const server = createServer(async (request, response) => {
    let text = "";
    for await (const piece of request) text += piece;
    const body = text ? JSON.parse(text) : {};
    const path = new URL(request.url, "http://stub").pathname;
    if (served.fail > 0) {
      served.fail -= 1;
      return response.writeHead(529, { "content-type": "application/json", "request-id": "req_failed" }).end('{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}');
    }
    if (path === "/v1/messages") return (served.anthropic += 1), anthropic(body, response);
    if (path === "/v1/chat/completions") return (served.openai += 1), chat(body, response);
    if (path === "/v1/responses") return (served.openai += 1), responses(body, response);
    if (/:(stream)?generateContent$/i.test(path)) return (served.google += 1), gemini(request.url, response);
    if (/\/(models|batches|count_tokens|moderations)/.test(path)) return response.setHeader("content-type", "application/json").end(JSON.stringify({ id: "batch_1", object: "list", data: [], input_tokens: 12 }));
    if (path === "/v1/images/generations") return response.setHeader("content-type", "application/json").end('{"created":1,"data":[{"b64_json":""}]}');
    served.rentcast += 1;
    return response.setHeader("content-type", "application/json").end(JSON.stringify({ price: 250_000, path }));
  });
  // On a slow machine a kept connection would be closed while the SDK reuses it, and the SDK would try once more.
  server.keepAliveTimeout = 600_000;
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { served, url: `http://127.0.0.1:${server.address().port}`, stop: () => (server.closeAllConnections(), new Promise((resolve) => server.close(resolve))) };
}
