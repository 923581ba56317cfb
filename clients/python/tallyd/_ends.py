"""Delivery at the ends of processes: a recorder sends its records before the end, if the end can be noticed.

* The interpreter's end: `atexit`.
* A child of multiprocessing ends with `os._exit`, which skips `atexit` but runs multiprocessing's own finalizers.
* A child of Celery's pool ends with `os._exit` and runs no finalizer. Celery sends one of its signals before.
* A POSIX signal is the application's to handle. `close_on_signal` is for applications without a handler.

A process that calls `os._exit` itself must call `close()` before. A kill cannot be noticed.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import weakref
from typing import TYPE_CHECKING, Any, Optional, Sequence

if TYPE_CHECKING:
    from ._recorder import Recorder

_log = logging.getLogger("tallyd")
_all: weakref.WeakSet[Recorder] = weakref.WeakSet()


def watch(recorder: Recorder) -> None:
    """Closes the recorder at the end of this process, and starts it afresh in each forked child."""
    _all.add(recorder)
    atexit.register(_close_weakly, weakref.ref(recorder))
    _watch_child(recorder)


def _watch_child(recorder: Recorder) -> None:
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.Finalize(recorder, _close_weakly, args=(weakref.ref(recorder),), exitpriority=10)
    celery = sys.modules.get("celery.signals")
    if celery is not None:
        celery.worker_process_shutdown.connect(_close_all, weak=False, dispatch_uid="tallyd")


def close_on_signal(
    recorder: Optional[Recorder] = None, timeout: float = 5.0, signals: Sequence[int] = (signal.SIGTERM,)
) -> None:
    """On a signal, closes within `timeout` seconds, then lets the signal end the process as usual.

    Default for `recorder`: every recorder of the process, and of processes that are forked later. A signal that has
    a handler already, or is ignored, stays as it is: call `close()` in that handler. Call this in the main thread;
    elsewhere it raises ValueError.
    """

    def end(number: int, _frame: Any) -> None:
        for one in list(_all) if recorder is None else [recorder]:
            one.close(timeout)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    for number in signals:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, end)
        else:
            name = signal.Signals(number).name
            _log.warning("tallyd: %s has a handler already, which is left: call the recorder's close() there", name)


def _close_weakly(reference: weakref.ref[Recorder]) -> None:
    recorder = reference()
    if recorder is not None:
        recorder.close()


def _close_all(**_: Any) -> None:
    for recorder in list(_all):
        recorder.close()


def _after_fork_in_child() -> None:
    # A multiprocessing child clears its finalizers at the start, then runs the functions that are registered here.
    util = sys.modules.get("multiprocessing.util")
    for recorder in list(_all):
        recorder.after_fork()
        if util is not None:
            util.register_after_fork(recorder, _watch_child)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
