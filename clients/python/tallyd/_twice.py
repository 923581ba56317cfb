"""Calls that instrumented clients have recorded, so that a tracker does not record them again.

An application that moves from `CostTracker.record_claude` to `instrument` uses both for a while, and each would record
the call. So a tracker looks here first. Two calls are the same if they went to the same daemon and have the same model
and tokens, or the same path at RentCast. Each is found once, within ten minutes. Nothing is kept in a process without a
tracker.
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
"""The time, the record, its waiter, and the recorder's endpoint."""

_lock = threading.Lock()
_noted: Deque[Noted] = deque()
_is_watched = False


def watch() -> None:
    """Keeps calls from here on."""
    global _is_watched
    _is_watched = True


def record(recorder: Any, fields: Mapping[str, Any]) -> None:
    """Records an instrumented call, and keeps it for a tracker."""
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
    """Finds and removes the same call; None if the daemon at `endpoint` did not get it."""
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
    # Some callers count the whole prompt as input, caches included.
    prompts = (inputs, inputs + sum(seen.get(name) or 0 for name in _CACHES))
    model = _model(seen)
    same = bool(model) and model == _model(told) and told.get("input_tokens") in prompts
    return same and told.get("output_tokens") == (seen.get("output_tokens") or 0)


def _model(record: Mapping[str, Any]) -> str:
    """The model's name without a platform's prefix and suffix, and without a date."""
    found = _CLAUDE.search(str(record.get("model") or "").strip().lower())
    return found[0] if found else ""


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()  # A thread of the parent may hold the old lock.
    _noted.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
