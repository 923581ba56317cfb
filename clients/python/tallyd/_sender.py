"""The sender thread: takes records out of the queue, and gets them to the daemon.

Each turn: queue -> window, window -> socket, acks -> counters, then waiters. The thread naps on the socket for 0.5 ms
to 20 ms, so that `record()` does not have to wake it; a flush does. Only this thread touches the window and the
connection. At the window's bound it leaves the queue alone. The queue then fills up, and `record()` drops.
"""

from __future__ import annotations

import random
import select
import socket
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Callable, Deque, Dict, Mapping, Optional, Sequence

from . import _wire
from ._window import Window

if TYPE_CHECKING:
    from ._queue import Item
    from ._recorder import Recorder

_NAP = (0.0005, 0.02)
_INTAKE = 1024
_INTAKES = 16
_WAITERS = 1024
_CONNECT_TIMEOUT = 10.0
_SLOW_CODES = ("fenced", "unauthorized", "protocol_version", "producer", "secret", "reserved_name", "sequence")


class Waiter:
    """A caller that waits until earlier records are settled. `error`: why its record was refused or dropped."""

    __slots__ = ("done", "position", "error", "is_record", "call", "is_told", "cost", "is_abandoned")

    def __init__(self, is_record: bool = False, call: Optional[Callable[[Waiter], None]] = None) -> None:
        self.done = threading.Event()
        self.position = 0
        self.error: Optional[str] = None
        self.is_record = is_record
        self.call = call
        """Called on the sender thread when done."""
        self.is_told = False
        """Whether the ack had the record's cost."""
        self.cost: Optional[str] = None
        """USD as decimal text; None if the record is unpriced."""
        self.is_abandoned = False
        """Set by a caller that has stopped waiting."""

    def finish(self) -> None:
        self.done.set()
        if self.call is not None:
            self.call(self)


class Broken(Exception):
    """The connection has to end. `slow`: use the slow interval. `wait`: seconds before the next connection."""

    def __init__(self, message: str, slow: bool = False, wait: Optional[float] = None) -> None:
        super().__init__(message)
        self.slow, self.wait = slow, wait


class Sender:
    """The thread's loop. See the module."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.window = Window(recorder.window_bytes)
        self.sock: Optional[socket.socket] = None
        self._inbox = _wire.Inbox()
        self._out = memoryview(b"")
        self._max_records = 0
        self._max_bytes = _wire.FRAME_BYTES
        self._is_told = False
        """Whether the daemon sends the state of all budgets. If not, its acks have a part of it."""
        self._failures = 0
        self._retry_at = 0.0
        self._heard_at = 0.0
        self._waiters: Deque[Waiter] = deque()
        self._sweep_at = _WAITERS
        self._spooled = 0
        """The number of the last record that was taken from the spool."""
        self.wake_read, self.wake_write = socket.socketpair()
        self.wake_read.setblocking(False)
        self.wake_write.setblocking(False)
        self.stop_at: Optional[float] = None
        self.ended = threading.Event()

    def wake(self) -> None:
        """Ends the nap."""
        try:
            self.wake_write.send(b"!")
        except OSError:
            pass  # Full: the thread is awake already. Closed: it has ended.

    def forget(self) -> None:
        """In a forked child: closes this process's copies of the descriptors. The parent's stay open."""
        for sock in (self.sock, self.wake_read, self.wake_write):
            if sock is not None:
                sock.close()

    def run(self) -> None:
        """The thread's body."""
        nap = _NAP[0]
        try:
            while True:
                moved = self._take_in()
                moved = self._drive() or moved
                self._settle_spool()
                self._settle_waiters()
                if self.stop_at is not None:
                    idle = not self._recorder.queue and self.window.settled == self.window.added
                    if idle or time.monotonic() >= self.stop_at:
                        return
                nap = _NAP[0] if moved else min(nap * 2, _NAP[1])
                if not moved:
                    self._nap(nap)
        finally:
            self._end()

    def _end(self) -> None:
        if self.sock is not None:
            self.sock.close()
        self.sock = None
        self._settle_spool()
        self._recorder.lost(self.window.added - self.window.settled)
        self.ended.set()
        self._waiters.extend(self._recorder.drop_queue())
        self._recorder.end_spool()
        for waiter in self._waiters:
            waiter.error = waiter.error or "the recorder was closed first"
            waiter.finish()
        self.wake_read.close()
        self.wake_write.close()

    def _settle_spool(self) -> None:
        """Gives the room of settled records in the spool away."""
        spool, frames = self._recorder.spool, self.window.frames
        if spool is not None and spool.settle(frames[0].first_seq - 1 if frames else self._spooled):
            self._recorder.took(0)

    def _nap(self, seconds: float) -> None:
        poll = select.poll()
        poll.register(self.wake_read, select.POLLIN)
        if self.sock is not None:
            poll.register(self.sock, select.POLLIN | (select.POLLOUT if self._out else 0))
        poll.poll(seconds * 1000)
        try:
            while self.wake_read.recv(4096):
                pass
        except OSError:
            pass

    def _take_in(self) -> bool:
        queue, took, size = self._recorder.queue, 0, 0
        while queue and took < _INTAKE and self.window.has_room():
            item, waiter, takes, seq = queue.popleft()
            took += 1
            size += takes
            error = self._encode(item, seq) if item is not None else None
            if waiter is None:
                continue
            waiter.position = self.window.added
            if error is None:
                self._sweep()
                self._waiters.append(waiter)
            else:
                waiter.error = error
                waiter.finish()
        if size:
            self._recorder.took(size)
        return took > 0

    def _sweep(self) -> None:
        """Removes abandoned waiters: while the daemon is away, each call would add one."""
        if len(self._waiters) >= self._sweep_at:
            self._waiters = deque(waiter for waiter in self._waiters if not waiter.is_abandoned)
            self._sweep_at = 2 * len(self._waiters) + _WAITERS

    def packed(self, fields: Dict[str, Any]) -> Item:
        """The record, encoded on the calling thread. If that fails, it stays as it is, and is refused in its turn."""
        try:
            return self._encoded(fields)
        except Exception:
            return fields

    def unpacked(self, item: Item) -> Mapping[str, Any]:
        """The fields of a record, encoded or not."""
        return self._decoded(item) if isinstance(item, bytes) else item

    def _encode(self, item: Item, seq: int) -> Optional[str]:
        self._spooled = max(self._spooled, seq)
        try:
            encoded = item if isinstance(item, bytes) else self._encoded(item)
            if self._recorder.spool is not None and not seq:
                raise ValueError("it was changed while it waited, and is not in the spool")
            if len(encoded) + _wire.HEAD_BYTES > self._max_bytes:
                raise ValueError(f"the record is {len(encoded)} bytes, a frame holds {self._max_bytes}")
        except Exception as error:  # The error concerns this record only, whichever value caused it.
            self._recorder.refuse(self.unpacked(item).get("id"), "client", str(error))
            return str(error)
        self.window.add(encoded, seq)
        return None

    def _encoded(self, fields: Mapping[str, Any]) -> bytes:
        return _wire.encode_record(fields)

    def _decoded(self, encoded: bytes) -> Mapping[str, Any]:
        return _wire.decode_record(encoded)

    def _settle_waiters(self) -> None:
        while self._waiters and self._waiters[0].position <= self.window.settled:
            self._waiters.popleft().finish()

    def _drive(self) -> bool:
        try:
            return self._exchange()
        except (Broken, OSError, _wire.Garbage) as error:
            self._disconnect(error)
        except (KeyError, TypeError, ValueError) as error:
            self._disconnect(Broken(f"what answers is not tallyd: {error!r}", slow=True))
        return False

    def _exchange(self) -> bool:
        if self.sock is None:
            return self._connect()
        wrote = self._write()
        return self._read() or wrote

    def _disconnect(self, error: Exception) -> None:
        if self.sock is not None:
            self.sock.close()
        self.sock = None
        self._out = memoryview(b"")
        self.window.disconnected()
        low, high = self._recorder.backoff
        wait = high * 3 if isinstance(error, Broken) and error.slow else min(high, low * 2 ** min(self._failures, 20))
        self._failures += 1
        said = error.wait if isinstance(error, Broken) else None
        self._retry_at = time.monotonic() + (wait * random.uniform(0.5, 1.0) if said is None else said)
        self._recorder.disconnected(str(error))

    def _connect(self) -> bool:
        now = time.monotonic()
        if now < self._retry_at:
            return False
        recorder = self._recorder
        self._inbox = _wire.Inbox()
        self.sock = recorder.endpoint.connect(self._left(now + _CONNECT_TIMEOUT))
        hello = _wire.hello(
            recorder.producer, recorder.secret, recorder.endpoint.token, want_costs=True, ack=recorder.ack
        )
        self.sock.sendall(hello)
        while (message := self._inbox.next()) is None:
            left = self._left(now + _CONNECT_TIMEOUT)
            # Takes records in meanwhile: a daemon that accepts and does not answer must not fill the queue while the
            # window has room. Also notices a close.
            for _ in range(_INTAKES):
                if not self._take_in():
                    break
            self.sock.settimeout(min(_NAP[1], left))
            try:
                self._receive()
            except socket.timeout:
                if left <= 0.01:
                    raise
        name, body = message
        if name == "error":
            raise _refused(body)
        if name != "welcome" or body.get("protocol") != _wire.PROTOCOL:
            raise Broken(f"a {name} came for a welcome of protocol {_wire.PROTOCOL}", slow=True)
        self._max_records = max(1, int(body["max_records"]))
        self._max_bytes = int(body["max_frame_bytes"])
        self.window.welcome(int(body["last_seq"]))
        budgets = body.get("budgets")
        self._is_told = budgets is not None
        if budgets is not None:
            recorder.standing.hear(budgets)
            self.sock.sendall(_wire.watch())
        self.sock.setblocking(False)
        self._heard_at = time.monotonic()
        recorder.warned(body.get("warning"))
        recorder.connected()
        return True

    def _left(self, deadline: float) -> float:
        """Seconds until the deadline or the recorder's end, at least 0.01."""
        if self.stop_at is not None:
            deadline = min(deadline, self.stop_at)
        return max(0.01, deadline - time.monotonic())

    def _receive(self) -> None:
        assert self.sock is not None
        data = self.sock.recv(65536)
        if not data:
            raise Broken("tallyd closed the connection")
        self._inbox.feed(data)

    def _write(self) -> bool:
        assert self.sock is not None
        moved = False
        while True:
            if not self._out:
                following = self.window.next(self._max_records, self._max_bytes)
                if following is None:
                    return moved
                self._out = memoryview(_wire.records(following.first_seq, following.records))
            try:
                sent = self.sock.send(self._out)
            except BlockingIOError:
                return moved
            except OSError as error:
                raise self._last_words(error) from error
            self._out = self._out[sent:]
            moved = True
            if not self._out:
                if not self.window.awaits_ack():
                    self._heard_at = time.monotonic()
                self.window.wrote()

    def _last_words(self, error: OSError) -> Exception:
        """A daemon that closes a connection sends an error frame first, which says more than EPIPE."""
        try:
            self._read()
        except Broken as said:
            return said
        except (OSError, _wire.Garbage):
            pass
        return error

    def _read(self) -> bool:
        moved = False
        try:
            self._receive()
            moved = True
        except BlockingIOError:
            if self.window.awaits_ack() and time.monotonic() - self._heard_at > self._recorder.ack_timeout:
                raise Broken(f"no ack in {self._recorder.ack_timeout:g} s") from None
        while (message := self._inbox.next()) is not None:
            name, body = message
            if name == "error":
                raise _refused(body)
            if name == "ack":
                self._take_ack(body)
            elif name == "budgets":
                self._failures = 0
                self._recorder.standing.hear(body)
        return moved

    def _take_ack(self, body: Mapping[str, Any]) -> None:
        self._failures = 0
        self._heard_at = time.monotonic()
        seq = int(body["seq"])
        if seq > self.window.known_seq:
            raise Broken(f"an ack of {seq}, but {self.window.known_seq} was the last record sent")
        # What the ack says is known before a caller is woken by it.
        if body.get("budget") and not self._is_told:
            self._recorder.standing.hear({"budget": body["budget"]})
        self._recorder.warned(body.get("warning"))
        for item in body.get("rejected") or ():
            self._take_refusal(int(item["seq"]), str(item.get("code")), str(item.get("message")))
        self._take_costs(body.get("costs") or (), self.window.settle(seq))

    def _take_costs(self, costs: Sequence[Optional[str]], ending: int) -> None:
        """Gives waiters the costs of the acknowledged frame: the last `ending` records of the settled ones."""
        if len(costs) != ending:
            return
        before = self.window.settled - ending
        for waiter in self._waiters:
            if waiter.position > self.window.settled:
                return
            if waiter.is_record and waiter.position > before:
                waiter.is_told, waiter.cost = True, costs[waiter.position - before - 1]

    def _take_refusal(self, seq: int, code: str, message: str) -> None:
        found = self.window.place(seq)
        if found is None:
            return
        position, encoded = found
        self._recorder.refuse(self._decoded(encoded)["id"], code, message)
        for waiter in self._waiters:
            if waiter.is_record and waiter.position == position + 1:
                waiter.error = f"{code}: {message}"


def _refused(body: Mapping[str, Any]) -> Broken:
    code = str(body.get("code"))
    return Broken(f"tallyd refused the connection ({code}): {body.get('message')}", code in _SLOW_CODES)
