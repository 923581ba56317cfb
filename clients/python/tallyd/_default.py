"""The process's default recorder, made at its first use."""

from __future__ import annotations

import os
import threading
from typing import Any, Optional

from ._recorder import Recorder
from ._standing import Check

_lock = threading.Lock()
_recorder: Optional[Recorder] = None


def configure(endpoint: Optional[str] = None, **options: Any) -> Recorder:
    """Makes the process's default recorder with the options of `Recorder`, and returns it. Closes an earlier one.

    Raises ValueError for an invalid endpoint.
    """
    global _recorder
    made = Recorder(endpoint, **options)
    with _lock:
        before, _recorder = _recorder, made
    if before is not None:
        before.close()
    return made


def default_recorder() -> Recorder:
    """The recorder of `configure`; without one, a recorder for `TALLYD_ENDPOINT` or the default socket."""
    global _recorder
    with _lock:
        if _recorder is None:
            _recorder = Recorder()
        return _recorder


def record(provider: str, **fields: Any) -> bool:
    """Records a call with the default recorder, as `Recorder.record` does."""
    return default_recorder().record(provider, **fields)


def check(**call: Any) -> Check:
    """Whether a call may be made, as `Recorder.check` of the default recorder says."""
    return default_recorder().check(**call)


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()  # A thread of the parent may hold the old lock.


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
