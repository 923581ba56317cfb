"""Observes a response's body while it passes.

While the body is read, the response has a class derived from its own. An attribute with a wrapper that refers to the
response would be a cycle, and a stream that the application drops would stay open until the garbage collector runs.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, AsyncIterator, Iterator, Optional, Type

if TYPE_CHECKING:
    from ._instrument import Call

_CHOICES = (b'"choices":[]', b'"choices": []')
_LEFT, _UNANSWERED = 499, 599


class Hide:
    """Removes the chunk that has only usage from a stream of server-sent events."""

    def __init__(self) -> None:
        self._rest = b""
        self._drop_blank = False

    def feed(self, data: bytes) -> bytes:
        """The bytes that can be passed on."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        kept = b"".join(line + b"\n" for line in lines if not self._is_hidden(line))
        # Passes on an unfinished line that cannot be the usage chunk.
        if self._rest and not b"data:".startswith(self._rest[:5]) and not self._rest.startswith(b"data:"):
            kept, self._rest = kept + self._rest, b""
        return kept

    def _is_hidden(self, line: bytes) -> bool:
        if self._drop_blank:
            self._drop_blank = False
            return not line.strip()
        is_usage = b'"usage"' in line and any(choices in line for choices in _CHOICES)
        self._drop_blank = is_usage
        return is_usage

    def end(self) -> bytes:
        """The rest, at the end."""
        rest, self._rest = self._rest, b""
        return b"" if self._is_hidden(rest) else rest


def observe(response: Any, call: Call) -> None:
    """Follows the response to its end, then settles the call."""
    call.answered(response)
    answer = call.answer
    if answer is None:
        call.settle()
    elif hasattr(response, "_content"):  # It has been read already.
        answer.feed(response.content)
        answer.end()
        call.settle()
    else:
        response._tallyd_call = call
        response._tallyd_inside = False
        response.__class__ = _class(type(response))  # type: ignore[arg-type]


class _Body:
    """One pass over a body: handles each chunk, for sync and async iteration."""

    def __init__(self, response: Any) -> None:
        self.response = response
        self.call: Call = response._tallyd_call
        self.hide = Hide() if self.call.hides_usage else None
        self.status: Optional[int] = _LEFT
        response._tallyd_inside = True

    def chunk(self, data: bytes) -> bytes:
        self.response._tallyd_inside = False
        if self.call.answer is not None:
            try:
                self.call.answer.feed(data)
            except Exception:  # The application gets its bytes despite an error in recording.
                self.call.answer = None
        return data if self.hide is None else self.hide.feed(data)

    def again(self) -> None:
        self.response._tallyd_inside = True

    def ended(self) -> bytes:
        self.status = None
        answer = self.call.answer
        if answer is not None:
            try:
                answer.end()
            except Exception:  # As in chunk().
                self.call.answer = None
            if answer.is_stream and not answer.complete:
                self.status = _UNANSWERED  # Its last event is missing, so the stream broke off.
        return b"" if self.hide is None else self.hide.end()

    def over(self) -> None:
        _settle(self.response, self.status)


def _settle(response: Any, status: Optional[int]) -> None:
    call: Optional[Call] = response.__dict__.pop("_tallyd_call", None)
    if call is not None:
        response.__class__ = type(response).__bases__[0]
        call.settle(status)


def _closed(response: Any) -> None:
    """Called when the response is closed. An iteration under way closes it, too, and settles the call itself."""
    if "_tallyd_call" in response.__dict__ and not response._tallyd_inside:
        # A body that was read in its raw form passed unseen; the call itself did not fail.
        unseen = response.is_stream_consumed and response._tallyd_call.answer.is_unread()
        _settle(response, None if unseen else _LEFT)


@functools.lru_cache(maxsize=None)
def _class(base: Type[Any]) -> Type[Any]:
    class Observed(base):  # type: ignore[misc]
        def iter_bytes(self, chunk_size: Optional[int] = None) -> Iterator[bytes]:
            if "_tallyd_call" not in self.__dict__:
                yield from base.iter_bytes(self, chunk_size)
                return
            body = _Body(self)
            try:
                for data in base.iter_bytes(self, chunk_size):
                    seen = body.chunk(data)
                    if seen:
                        yield seen
                    body.again()
                rest = body.ended()
                if rest:
                    yield rest
            except Exception:
                body.status = _UNANSWERED
                raise
            finally:
                body.over()

        async def aiter_bytes(self, chunk_size: Optional[int] = None) -> AsyncIterator[bytes]:
            if "_tallyd_call" not in self.__dict__:
                async for data in base.aiter_bytes(self, chunk_size):
                    yield data
                return
            body = _Body(self)
            try:
                async for data in base.aiter_bytes(self, chunk_size):
                    seen = body.chunk(data)
                    if seen:
                        yield seen
                    body.again()
                rest = body.ended()
                if rest:
                    yield rest
            except Exception:
                body.status = _UNANSWERED
                raise
            finally:
                body.over()

        def close(self) -> None:
            base.close(self)
            _closed(self)

        async def aclose(self) -> None:
            await base.aclose(self)
            _closed(self)

    Observed.__name__, Observed.__qualname__ = base.__name__, base.__qualname__
    Observed.__module__ = base.__module__
    return Observed
