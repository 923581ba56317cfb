"""A server on this machine that answers as Anthropic, OpenAI and RentCast do, and counts its answers.

The prompt chooses the answer: `overloaded` gets a 529, and `limited` a 429 for the first of two attempts. `broken` is a
stream that breaks off in the middle, `failing` an error event inside a stream, `slow` no answer at all.
"""

import gzip
import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ANTHROPIC_USAGE = {
    "input_tokens": 100,
    "cache_creation_input_tokens": 30,
    "cache_read_input_tokens": 2000,
    "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
    "output_tokens": 50,
    "server_tool_use": {"web_search_requests": 2},
    "service_tier": "standard",
}
CHAT_USAGE = {
    "prompt_tokens": 120,
    "completion_tokens": 40,
    "total_tokens": 160,
    "prompt_tokens_details": {"cached_tokens": 20, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 8, "audio_tokens": 0},
}
RESPONSE_USAGE = {
    "input_tokens": 300,
    "input_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 50},
    "output_tokens": 60,
    "output_tokens_details": {"reasoning_tokens": 10},
    "total_tokens": 360,
}
GEMINI_END = {
    "modelVersion": "gemini-2.5-flash",
    "usageMetadata": {
        "promptTokenCount": 120,
        "candidatesTokenCount": 40,
        "thoughtsTokenCount": 8,
        "cachedContentTokenCount": 20,
        "totalTokenCount": 168,
    },
}
WORDS = ["A ", "short ", "answer."]


def message(model):
    return {
        "id": "msg_stub",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": "".join(WORDS)}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": ANTHROPIC_USAGE,
    }


def message_events(model, prompt):
    begun = {**message(model), "content": [], "stop_reason": None, "usage": {**ANTHROPIC_USAGE, "output_tokens": 1}}
    yield "message_start", {"message": begun}
    yield "content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}
    yield "ping", {}
    for word in WORDS:
        yield "content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": word}}
        if prompt == "failing":
            yield "error", {"error": {"type": "overloaded_error", "message": "Overloaded"}}
            return
        if prompt == "broken":
            raise BrokenPipeError
    yield "content_block_stop", {"index": 0}
    yield "message_delta", {"delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 50}}
    yield "message_stop", {}


def completion(model):
    return {
        "id": "chatcmpl-stub",
        "object": "chat.completion",
        "created": 1764000000,
        "model": model,
        "service_tier": "default",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "".join(WORDS)}}],
        "usage": CHAT_USAGE,
    }


def chunks(model, with_usage):
    base = {"id": "chatcmpl-stub", "object": "chat.completion.chunk", "created": 1764000000, "model": model}
    base["service_tier"] = "default"
    if with_usage:
        base["usage"] = None
    for word in WORDS:
        yield {**base, "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]}
    yield {**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    if with_usage:
        yield {**base, "choices": [], "usage": CHAT_USAGE}


def response(model, status="completed"):
    text = {"type": "output_text", "text": "".join(WORDS), "annotations": []}
    return {
        "id": "resp_stub",
        "object": "response",
        "created_at": 1764000000,
        "model": model,
        "status": status,
        "output": [
            {
                "type": "web_search_call",
                "id": "ws_1",
                "status": "completed",
                "action": {"type": "search", "query": "q"},
            },
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [text]},
        ],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "service_tier": "default",
        "usage": RESPONSE_USAGE if status == "completed" else None,
    }


def response_events(model):
    yield {"type": "response.created", "sequence_number": 0, "response": response(model, "in_progress")}
    for number, word in enumerate(WORDS, 1):
        place = {"item_id": "msg_1", "output_index": 1, "content_index": 0, "logprobs": []}
        yield {"type": "response.output_text.delta", "sequence_number": number, "delta": word, **place}
    yield {"type": "response.completed", "sequence_number": 9, "response": response(model)}


def gemini(text):
    return {
        "candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP", "index": 0}]
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        if "missing" in self.path:
            self.json({"status": 404, "error": "resource/not-found"}, 404)
            return
        self.server.served[self.path.split("?")[0]] += 1
        if "/models" in self.path:
            self.json({"object": "list", "data": [], "has_more": False})
        elif "/batches" in self.path:
            self.json({"id": "batch_stub", "object": "batch", "status": "completed"})
        else:
            self.json({"rent": 1850})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append(body)
        model = body.get("model", "")
        prompt = prompt_of(body)
        if prompt == "slow":
            self.server.released.wait(60)
            self.close_connection = True
        elif prompt == "overloaded":
            self.json({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, 529)
        elif prompt == "limited" and self.headers.get("x-stainless-retry-count") == "0":
            self.json({"error": {"type": "rate_limit_error", "message": "slower"}}, 429, {"retry-after-ms": "1"})
        else:
            self.server.served[model] += 1
            self.answer(body, model, prompt)

    def answer(self, body, model, prompt):
        stream, path = body.get("stream"), self.path.split("?")[0]
        if ":" in path:
            self.google(path)
        elif path == "/v1/messages":
            if stream:
                events = message_events(model, prompt)
                self.events(f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n" for name, data in events)
            else:
                self.json(message(model))
        elif path == "/v1/chat/completions":
            if stream:
                asked = (body.get("stream_options") or {}).get("include_usage")
                lines = (f"data: {json.dumps(chunk, separators=(',', ':'))}\n\n" for chunk in chunks(model, asked))
                self.events([*lines, "data: [DONE]\n\n"])
            else:
                self.json(completion(model))
        elif path == "/v1/responses":
            if stream:
                self.events(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in response_events(model))
            else:
                self.json(response(model))
        elif path == "/v1/embeddings":
            vector = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
            usage = {"prompt_tokens": 7, "total_tokens": 7}
            self.json({"object": "list", "data": vector, "model": model, "usage": usage})
        elif path == "/v1/images/generations":
            self.json({"created": 1764000000, "data": [{"b64_json": ""}]})
        elif path.endswith("/batches"):
            self.json({"id": "batch_stub", "object": "batch", "status": "in_progress"})
        else:
            self.json({"input_tokens": 12})

    def google(self, path):
        """Gemini's answers. The path names the model."""
        if path.endswith(":streamGenerateContent"):
            parts = [gemini(WORDS[0]), {**gemini("".join(WORDS[1:])), **GEMINI_END}]
            self.events(f"data: {json.dumps(part)}\r\n\r\n" for part in parts)
        elif path.endswith(":countTokens"):
            self.json({"totalTokens": 12})
        elif path.endswith("/models/gemini-missing:generateContent"):
            self.json({"error": {"code": 404, "message": "not found", "status": "NOT_FOUND"}}, 404)
        else:
            self.json({**gemini("".join(WORDS)), **GEMINI_END})

    def head(self, status, kind, more):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("request-id" if "/messages" in self.path else "x-request-id", "req_stub")
        for name, value in more.items():
            self.send_header(name, value)
        self.end_headers()

    def json(self, body, status=200, more=()):
        data, more = json.dumps(body).encode(), dict(more)
        if "gzip" in self.headers.get("accept-encoding", ""):
            data = gzip.compress(data)
            more["content-encoding"] = "gzip"
        self.head(status, "application/json", {**more, "content-length": str(len(data))})
        self.wfile.write(data)

    def events(self, texts):
        self.head(200, "text/event-stream", {"transfer-encoding": "chunked"})
        try:
            for text in texts:
                data = text.encode()
                # In two pieces, so that lines are split.
                for part in (data[:9], data[9:]):
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True


def prompt_of(body):
    if "messages" in body:
        content = body["messages"][0]["content"]
        return content if isinstance(content, str) else content[0].get("text")
    if "contents" in body:
        return body["contents"][0]["parts"][0].get("text")
    return body.get("input")


class Stub(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.served = Counter()
        self.released = threading.Event()
        """Set when answers to `slow` may end, unanswered."""
        self.asked = []
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def handle_error(self, *_):
        pass  # The client went away.
