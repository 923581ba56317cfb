"""Settings that an application changes at once and that become durable in the background; a refresh every minute.

One thread does both, so that a setting is written before a following request for an answer that includes it. A write is
repeated until the daemon accepts or refuses it. A newer write of the same path replaces it, so there is one a path at
most. The handler is called once for each write that failed for good. A forked child starts without writes, because the
parent sends its own.
"""

from __future__ import annotations

import atexit
import os
import random
import threading
import time
import weakref
from typing import Any, Callable, Dict, Optional

from ._costs import Costs, CostsError

INTERVAL = 60.0
"""Seconds between two refreshes."""
_BACKOFF = (0.5, 30.0)
_CLOSE_TIMEOUT = 5.0

Failed = Callable[[Exception], None]


def _nothing() -> None:
    pass


class _Write:
    __slots__ = ("path", "body", "done", "refused", "is_pending", "due", "failures")

    def __init__(self, path: str, body: Any, done: Callable[[], None], refused: Callable[[], None]) -> None:
        self.path, self.body, self.done, self.refused = path, body, done, refused
        self.is_pending = True
        """Whether the first attempt is still to come, or an attempt is under way."""
        self.due = 0.0
        self.failures = 0


class Background:
    """The thread. `failed` must not raise; `refresh` may."""

    def __init__(self, costs: Costs, refresh: Callable[[], None], failed: Failed, disabled: bool = False) -> None:
        self._costs, self._refresh, self._failed, self._disabled = costs, refresh, failed, disabled
        self._begin()
        _all.add(self)
        atexit.register(_close_weakly, weakref.ref(self))

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._writes: Dict[str, _Write] = {}
        self._refresh_at = 0.0
        self._thread: Optional[threading.Thread] = None
        self._closed = False

    def start(self) -> None:
        """Starts the thread if it does not run, as after a fork."""
        if self._thread is not None or self._closed or self._disabled:
            return
        with self._changed:
            if self._thread is None and not self._closed:
                thread = threading.Thread(target=self._run, name="tallyd-settings", daemon=True)
                thread.start()
                self._thread = thread

    def put(
        self, path: str, body: Any, done: Callable[[], None] = _nothing, refused: Callable[[], None] = _nothing
    ) -> None:
        """Writes a setting in the background. Calls `done` once the daemon has it, or `refused` if it never will."""
        if self._disabled:
            return
        with self._changed:
            closed = self._closed
            if not closed:
                self._writes.pop(path, None)
                self._writes[path] = _Write(path, body, done, refused)
                self._changed.notify_all()
        if closed:
            self._give_up(path)
        else:
            self.start()

    def tried(self, timeout: float) -> bool:
        """Waits for the first attempt of each earlier write; a following answer includes them. False: time is up."""
        with self._changed:
            return self._changed.wait_for(self._is_idle, timeout)

    def close(self, timeout: float) -> None:
        """Waits `timeout` seconds for writes under way, ends the thread, and reports settings that were not written."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            if self._thread is not None:
                self._changed.wait_for(self._is_idle, timeout)
            left = list(self._writes)
            self._writes.clear()
        for path in left:
            self._give_up(path)

    def after_fork(self) -> None:
        """In a forked child: starts afresh, with a new lock, because a thread of the parent may hold the old one."""
        closed = self._closed
        self._begin()
        self._closed = closed

    def _is_idle(self) -> bool:
        return not any(write.is_pending for write in self._writes.values())

    def _give_up(self, path: str) -> None:
        self._failed(CostsError(f"the tracker was closed before tallyd had taken {path}"))

    def _run(self) -> None:
        while True:
            with self._changed:
                now = time.monotonic()
                write = next((one for one in self._writes.values() if one.due <= now), None)
                if write is not None:
                    write.is_pending = True
                elif self._closed:
                    return
                elif self._refresh_at > now:
                    next_at = min([self._refresh_at, *(one.due for one in self._writes.values())])
                    self._changed.wait(next_at - now)
                    continue
                else:
                    self._refresh_at = now + INTERVAL
            if write is not None:
                self._try(write)
            else:
                self._ask()

    def _ask(self) -> None:
        try:
            self._refresh()
        except Exception:  # The last answer stays until the daemon answers again.
            pass

    def _try(self, write: _Write) -> None:
        error: Optional[Exception] = None
        try:
            self._costs.post(write.path, write.body)
        except Exception as said:
            error = said
        again = isinstance(error, CostsError) and _passes(error.status)
        with self._changed:
            is_newest = self._writes.get(write.path) is write
            if is_newest and not again:
                del self._writes[write.path]
            elif is_newest:
                low, high = _BACKOFF
                pause = min(high, low * 2 ** min(write.failures, 10))
                write.failures += 1
                write.due = time.monotonic() + pause * random.uniform(0.5, 1.0)
                write.is_pending = False
            self._changed.notify_all()
        if error is None:
            write.done()
        elif is_newest and not again:
            write.refused()
            self._failed(error)


def _passes(status: int) -> bool:
    """Whether another attempt may help: no answer, a fault of the daemon or its database, 408 or 429."""
    return status == 0 or status >= 500 or status in (408, 429)


_all: weakref.WeakSet[Background] = weakref.WeakSet()


def _close_weakly(reference: weakref.ref[Background]) -> None:
    background = reference()
    if background is not None and not background._closed:
        background.close(_CLOSE_TIMEOUT)


def _after_fork_in_child() -> None:
    for background in list(_all):
        background.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
