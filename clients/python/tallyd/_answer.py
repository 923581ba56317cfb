"""Reads an answer while it passes: a JSON body as a whole, server-sent events line by line. Pure, and bounded.

In memory are one unfinished line, or the one body. A line or a body beyond `MAX_BYTES` passes unread; without usage
the call is unpriced.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List, Mapping, Optional

from ._counts import mapping
from ._stream import StreamUsage, usage_of
from ._usage import UNTOLD

MAX_BYTES = 16 << 20
_NAMES = (b'"usage"', b'"message_stop"', b'"error"', b'"usageMetadata"', b'"finishReason"', b'"groundingMetadata"')
_LAST = ("message_stop", "response.completed", "response.incomplete", "response.failed", "response.done")
"""The types of a stream's last event."""


class Answer:
    """The state of one answer so far. `feed` never raises."""

    def __init__(self, family: str, is_stream: bool) -> None:
        self.family = family
        self.model = ""
        self.complete = False
        """Whether the answer ended as the provider ends it."""
        self.failed: Optional[int] = None
        """The HTTP status for an error inside a stream."""
        self._stream = StreamUsage(family)
        self._fields: Optional[Dict[str, Any]] = None
        self.is_stream = is_stream
        self._parts: List[bytes] = []
        self._size = 0
        self._fed = False

    def is_unread(self) -> bool:
        """Whether no byte of the body was seen."""
        return not self._fed

    def feed(self, data: bytes) -> None:
        """Takes decompressed bytes of the body."""
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
        """Takes the end of the body."""
        rest = self._take()
        if self.is_stream:
            self._line(rest)
        else:
            self._whole(_parse(rest))

    def fields(self) -> Dict[str, Any]:
        """The record's fields. Without usage: a mark that makes the call unpriced, since 0 tokens would cost 0."""
        fields = self._stream.result() if self.is_stream else self._fields
        if fields is not None:
            return fields
        return {"model": self.model, "metadata": dict(UNTOLD)} if self.model else {"metadata": dict(UNTOLD)}

    def has_usage(self) -> bool:
        return (self._stream.result() if self.is_stream else self._fields) is not None

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
        # Parses only events that have one of the usage names, because a stream has thousands of others.
        elif not self.model or any(name in data for name in _NAMES):
            self._event(mapping(_parse(data)))

    def _whole(self, body: Any) -> None:
        self._fields = usage_of(self.family, body)
        self.model = str(mapping(body).get("model") or "")
        self.complete = self._fields is not None

    def _event(self, event: Mapping[str, Any]) -> None:
        self._stream.event(event)
        kind = event.get("type")
        inner = event.get("message") or event.get("response") or event
        self.model = str(mapping(inner).get("model") or event.get("modelVersion") or self.model)
        if kind in _LAST or (self.family == "google" and self._has_finished(event)):
            self.complete = True
            self.failed = 500 if kind == "response.failed" else None
        elif kind == "error" or (self.family == "openai" and event.get("error")):
            overloaded = mapping(event.get("error")).get("type") == "overloaded_error"
            self.failed = 529 if overloaded else 500

    @staticmethod
    def _has_finished(event: Mapping[str, Any]) -> bool:
        candidates = event.get("candidates")
        return isinstance(candidates, list) and any(mapping(one).get("finishReason") for one in candidates)


def _parse(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None
