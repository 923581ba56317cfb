"""Calls that were recorded by looking on, for a tracker that is told of the same calls once more.

An application that moves from `CostTracker.record_claude` to `instrument` has both for a while, and each would record
the call. So a tracker looks here first. A call is the same if its model and its tokens are, or its path at RentCast,
and the daemon that was told of it is the tracker's; each is found once, within ten minutes. Nothing is kept before the
process has a tracker.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import deque
from typing import Any, Deque, Mapping, Optional, Tuple

from ._sender import Waiter

_KEPT = 1024
_SECONDS = 600.0
_CLAUDE = re.compile(r"claude[a-z0-9.-]*?(?=([-@]\d{8})?(-v\d+)?(:\d+)?$)")
_CACHES = ("cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")

Noted = Tuple[float, Mapping[str, Any], Waiter, str]
"""When it was seen, its record, who waits for that, and the recorder's endpoint."""

_lock = threading.Lock()
_noted: Deque[Noted] = deque()
_is_watched = False


def watch() -> None:
    """From here on calls are noted."""
    global _is_watched
    _is_watched = True


def record(recorder: Any, fields: Mapping[str, Any]) -> None:
    """Records what was seen of a call, and notes it for a tracker."""
    begin = getattr(recorder, "begin", None) if _is_watched else None
    if begin is None:
        recorder.record(**fields)
        return
    said = dict(fields)
    waiter = begin(said.pop("provider"), said)
    if waiter is not None and fields.get("status", 200) < 400:
        with _lock:
            _noted.append((time.monotonic(), fields, waiter, str(recorder.endpoint)))
            while len(_noted) > _KEPT or _noted[0][0] < time.monotonic() - _SECONDS:
                _noted.popleft()[2].is_abandoned = True
    elif waiter is not None:
        waiter.is_abandoned = True


def take(record: Mapping[str, Any], endpoint: str) -> Optional[Tuple[Mapping[str, Any], Waiter]]:
    """The same call as it was seen, which is then forgotten; None if the daemon at this endpoint was not told of it."""
    if not _noted:
        return None
    since = time.monotonic() - _SECONDS
    with _lock:
        for at, (when, seen, waiter, told) in enumerate(_noted):
            if when >= since and told == endpoint and _is_same(seen, record):
                del _noted[at]
                return seen, waiter
    return None


def _is_same(seen: Mapping[str, Any], told: Mapping[str, Any]) -> bool:
    if told["provider"] == "rentcast":
        one, other = str(seen.get("endpoint") or ""), str(told.get("endpoint") or "")
        return seen["provider"] == "rentcast" and bool(other) and (one.endswith(other) or other.endswith(one))
    inputs = seen.get("input_tokens") or 0
    # People also tell the whole prompt, caches included.
    prompts = (inputs, inputs + sum(seen.get(name) or 0 for name in _CACHES))
    model = _model(seen)
    same = bool(model) and model == _model(told) and told.get("input_tokens") in prompts
    return same and told.get("output_tokens") == (seen.get("output_tokens") or 0)


def _model(record: Mapping[str, Any]) -> str:
    """Without what a platform or a date adds."""
    found = _CLAUDE.search(str(record.get("model") or "").strip().lower())
    return found[0] if found else ""


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()  # Another thread of the parent may have held it.
    _noted.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
