"""The thread that delivers the spools of processes that have ended: earlier ones of this application, or neighbours.

Each file is sent under its own producer and numbers, so the daemon skips the records that it has. A file is removed
once all its records are settled. If the daemon is away, the locks are released until the next attempt. Later the folder
is looked at once a minute.

A file that cannot be read, or whose producer the daemon refuses, stays, and does not keep the others from being
delivered. The recorder's end does not wait for it.
"""

from __future__ import annotations

import random
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

from . import _spool, _wire
from ._spool_format import Unreadable
from ._window import FRAME_RECORDS, FRAME_SIZE

if TYPE_CHECKING:
    from ._recorder import Recorder

_BACKOFF = (0.05, 5.0)
_INTERVAL = 60.0
_TIMEOUT = 10.0


class Refused(Exception):
    """The daemon refuses the producer of a file."""


class Drain:
    """The thread. See the module."""

    def __init__(self, recorder: Recorder, folder: Path) -> None:
        self.recovered = 0
        """Records that were delivered."""
        self._recorder, self._folder = recorder, folder
        self._stop_at: Optional[float] = None
        self._changed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tallyd-spool", daemon=True)
        self._thread.start()

    def stop(self, deadline: float) -> None:
        """Ends the thread, at the deadline at the latest, once the files that were found are delivered."""
        self._stop_at = deadline
        self._changed.set()
        self._thread.join(max(0.0, deadline - time.monotonic()) + 0.2)

    def _run(self) -> None:
        failures = 0
        while True:
            is_refused = False
            try:
                self._pass()
                failures = 0
            except Exception as error:  # Whatever it is, the files stay, and the next attempt may do better.
                failures += 1
                is_refused = isinstance(error, Refused)
                self._recorder.not_recovered(f"records of an earlier process wait in {self._folder}: {error}")
            if self._stop_at is not None:
                if failures == 0 or is_refused or time.monotonic() >= self._stop_at:
                    return
                time.sleep(_BACKOFF[0])
                continue
            wait = min(_BACKOFF[1], _BACKOFF[0] * 2 ** min(failures, 10)) if failures else _INTERVAL
            self._changed.wait(wait * random.uniform(0.5, 1.0))

    def _pass(self) -> None:
        """Delivers every file that has lost its process. Raises Refused after all of them had their turn, and any other
        error at once, because it concerns all of them."""
        own = self._recorder.spool
        refused: Optional[Refused] = None
        for path in _spool.files(self._folder):
            if own is not None and path == own.path:
                continue  # At the recorder's end it loses its lock, and is for the next start.
            try:
                orphan = _spool.adopt(path)
            except (Unreadable, OSError) as error:
                self._recorder.not_read(f"{path} is left as it is: {error}")
                continue
            if orphan is None:
                continue
            try:
                if orphan.entries:
                    self._deliver(orphan)
                orphan.remove()
            except Refused as error:
                refused = error
            finally:
                orphan.release()
        if refused is not None:
            raise refused

    def _deliver(self, orphan: _spool.Orphan) -> None:
        endpoint = self._recorder.endpoint
        with endpoint.connect(_TIMEOUT) as sock:
            inbox = _wire.Inbox()
            sock.settimeout(_TIMEOUT)
            hello = _wire.hello(orphan.head.producer, orphan.head.secret, endpoint.token, ack=self._recorder.ack)
            sock.sendall(hello)
            welcome = _answer(sock, inbox, "welcome")
            most = int(welcome["max_frame_bytes"]) - _wire.HEAD_BYTES
            rest: List[Tuple[int, bytes]] = []
            for seq, record in orphan.entries:
                if seq <= int(welcome["last_seq"]):
                    continue
                if len(record) > most:
                    self._refuse(record, "client", f"the record is {len(record)} bytes, a frame holds {most}")
                else:
                    rest.append((seq, record))
            while rest:
                if self._stop_at is not None and time.monotonic() >= self._stop_at:
                    raise TimeoutError("the recorder was closed")
                count = _frame_of(rest, min(int(welcome["max_records"]), FRAME_RECORDS), min(most, FRAME_SIZE))
                sent, rest = rest[:count], rest[count:]
                sock.sendall(_wire.records(sent[0][0], [record for _, record in sent]))
                self._settle(_answer(sock, inbox, "ack"), dict(sent))

    def _settle(self, ack: Dict[str, Any], sent: Dict[int, bytes]) -> None:
        if int(ack["seq"]) < max(sent):
            raise ValueError(f"an ack for {ack['seq']}, which is below its frame")
        rejected = ack.get("rejected") or []
        for one in rejected:
            self._refuse(sent[int(one["seq"])], str(one.get("code")), str(one.get("message")))
        self.recovered += len(sent) - len(rejected)

    def _refuse(self, record: bytes, code: str, message: str) -> None:
        self._recorder.tell_refused(_wire.decode_record(record).get("id"), code, message)


def _answer(sock: socket.socket, inbox: _wire.Inbox, wanted: str) -> Dict[str, Any]:
    """Waits for a message of this name. Raises Refused, OSError or ValueError."""
    while True:
        while (message := inbox.next()) is None:
            data = sock.recv(65536)
            if not data:
                raise ConnectionError("tallyd closed the connection")
            inbox.feed(data)
        name, body = message
        if name == wanted:
            return body
        if name == "error":
            raise Refused(f"tallyd refused the connection ({body.get('code')}): {body.get('message')}")


def _frame_of(rest: List[Tuple[int, bytes]], max_records: int, max_bytes: int) -> int:
    """The number of records for the next frame, at least 1: numbers that rise by one, within the bounds."""
    size = 0
    for count, (seq, record) in enumerate(rest):
        size += len(record)
        if count and (count == max_records or size > max_bytes or seq != rest[count - 1][0] + 1):
            return count
    return len(rest)
