"""The usage of a complete answer, and of a stream of events, for every family."""

from __future__ import annotations

from typing import Any, Mapping, Optional

from ._counts import mapping, mappings, text
from ._gemini import google
from ._usage import Fields, anthropic, openai


def usage_of(family: str, answer: Any) -> Optional[Fields]:
    """The record's usage fields in a complete answer (parsed JSON); None without usage.

    `family`: the form of the usage, `anthropic`, `openai` or `google`. `openai` includes all vendors that use its form.
    """
    if family == "google" and isinstance(answer, list):  # A stream that was requested as an array.
        stream = StreamUsage(family)
        for event in mappings(answer):
            stream.event(event)
        return stream.result()
    if family == "google":
        return google(mapping(answer))
    return (anthropic if family == "anthropic" else openai)(mapping(answer))


class StreamUsage:
    """Collects the usage of a stream's events. An incomplete stream has its usage so far, and a mark in metadata."""

    def __init__(self, family: str) -> None:
        self._family = family
        self._answer: Fields = {}
        self._usage: Fields = {}
        self._found: Optional[Fields] = None
        self._whole = False

    def event(self, event: Mapping[str, Any]) -> None:
        if self._family == "anthropic":
            self._of_anthropic(event)
        elif self._family == "google":
            self._of_google(event)
        else:
            is_response = text(event.get("type")).startswith("response.")
            self._found = openai(mapping(event.get("response")) if is_response else event) or self._found

    def _of_anthropic(self, event: Mapping[str, Any]) -> None:
        kind = event.get("type")
        if kind == "message_start":
            self._answer = dict(mapping(event.get("message")))
            self._usage = dict(mapping(self._answer.get("usage")))
        elif kind == "message_delta":  # Its counts are cumulative, and some may be missing.
            told = mapping(event.get("usage"))
            self._usage.update({name: value for name, value in told.items() if value is not None})
            self._answer["stop_reason"] = mapping(event.get("delta")).get("stop_reason")
        elif kind == "message_stop":
            self._whole = True

    def _of_google(self, event: Mapping[str, Any]) -> None:
        candidates = mappings(event.get("candidates"))
        self._whole = self._whole or any(one.get("finishReason") for one in candidates)
        for name in ("modelVersion", "usageMetadata"):
            if event.get(name) is not None:
                self._answer[name] = event[name]
        if any(one.get("groundingMetadata") for one in candidates):
            self._answer["candidates"] = candidates

    def result(self) -> Optional[Fields]:
        if self._family == "openai":
            return self._found
        if self._family == "anthropic":
            fields = anthropic({**self._answer, "usage": self._usage})
        else:
            fields = google(self._answer)
        if fields is not None and not self._whole:
            fields["metadata"] = {"incomplete": True, **fields.get("metadata", {})}
        return fields
