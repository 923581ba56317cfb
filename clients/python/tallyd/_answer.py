"""Reads an answer while it passes: a JSON body whole, server-sent events one by one. Pure, and bounded.

Nothing is held back but one unfinished line, or the one body. A line or a body beyond `MAX_BYTES` is passed on unread:
the call is then recorded without its usage, and says so.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List, Mapping, Optional

from . import _usage

MAX_BYTES = 16 << 20


class Answer:
    """What is known of one answer so far. `feed` never raises."""

    def __init__(self, family: str, is_stream: bool) -> None:
        self.family = family
        self.model = ""
        self.complete = False
        """Whether the provider said all that it had to say."""
        self.failed: Optional[int] = None
        """The status that an error inside a stream stands for."""
        self._usage: Dict[str, Any] = {}
        self._body: Mapping[str, Any] = {}
        self.is_stream = is_stream
        self._parts: List[bytes] = []
        self._size = 0
        self._fed = False

    def is_unread(self) -> bool:
        """Whether nothing of the body was seen."""
        return not self._fed

    def feed(self, data: bytes) -> None:
        """Some bytes of the body, decompressed."""
        self._fed = True
        if not self.is_stream:
            self._keep(data)
            return
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._keep(line)
            self._line(self._take())
        self._keep(rest)

    def end(self) -> None:
        """The body has ended."""
        rest = self._take()
        if self.is_stream:
            self._line(rest)
        else:
            self._whole(_parse(rest))

    def fields(self) -> Dict[str, Any]:
        """The record's fields; without usage, those of an empty one."""
        if self.family == "anthropic":
            fields = _usage.anthropic(self._usage)
        else:
            fields = _usage.openai(self._usage, self._body)
        if self.model:
            fields["model"] = self.model
        return fields

    def has_usage(self) -> bool:
        return bool(self._usage)

    def _keep(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= MAX_BYTES:
            self._parts.append(data)

    def _take(self) -> bytes:
        whole = b"".join(self._parts) if self._size <= MAX_BYTES else b""
        self._parts, self._size = [], 0
        return whole

    def _line(self, line: bytes) -> None:
        if not line.startswith(b"data:"):
            return
        data = line[5:].strip()
        if data == b"[DONE]":
            self.complete = True
        # Of the thousands of deltas most are not worth a parse: what matters has one of these names.
        elif b'"usage"' in data or b'"message_stop"' in data or b'"error"' in data or not self.model:
            event = _parse(data)
            if self.family == "anthropic":
                self._anthropic(event)
            else:
                self._openai(event)

    def _whole(self, body: Mapping[str, Any]) -> None:
        self._body = body
        self._know(body)
        self.complete = bool(self._usage)

    def _anthropic(self, event: Mapping[str, Any]) -> None:
        kind = event.get("type")
        if kind == "message_start":
            self._know(_mapping(event.get("message")))
        elif kind == "message_delta":  # Its counts are the message's so far, and it leaves some of them out.
            self._merge(event.get("usage"))
        elif kind == "message_stop":
            self.complete = True
        elif kind == "error":
            overloaded = _mapping(event.get("error")).get("type") == "overloaded_error"
            self.failed = 529 if overloaded else 500

    def _openai(self, event: Mapping[str, Any]) -> None:
        kind = event.get("type")
        if isinstance(kind, str) and kind.startswith("response."):
            response = _mapping(event.get("response"))
            self._know(response)
            if kind in ("response.completed", "response.incomplete", "response.failed"):
                self.complete, self._body = True, response
                self.failed = 500 if kind == "response.failed" else None
        elif event.get("error") or kind == "error":
            self.failed = 500
        else:
            self._body = {**self._body, **{name: event[name] for name in ("service_tier",) if event.get(name)}}
            self._know(event)

    def _know(self, body: Mapping[str, Any]) -> None:
        model = body.get("model")
        if isinstance(model, str) and model:
            self.model = model
        self._merge(body.get("usage"))

    def _merge(self, usage: Any) -> None:
        self._usage.update({name: value for name, value in _mapping(usage).items() if value is not None})


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _parse(data: bytes) -> Mapping[str, Any]:
    try:
        return _mapping(json.loads(data))
    except ValueError:
        return {}
