"""The recorder: `record()` never blocks and never raises; a thread of its own does the rest.

Bounds: `queue_bytes` of memory for the queue, `window_bytes` of encoded records behind it. A record waits as given, and
the thread encodes it. Once a quarter of the queue is full, `record()` encodes records itself: they then take a third of
the memory, so that a burst fits, and the thread has less work. With a spool, `record()` encodes each record and copies
it into a file, which is the bound then. A record that does not fit is counted and goes to
`on_drop`; `room()` waits for room. After a fork the child starts afresh as another producer, with its own name and
secret. The parent sends the records that it took, so nothing is sent twice.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
import uuid
from collections import deque
from dataclasses import dataclass
from typing import Any, Callable, Deque, Dict, List, Mapping, Optional, Tuple

from . import _context, _ends, _queue, _wire
from ._drain import Drain
from ._endpoint import Endpoint
from ._http_sender import HttpSender
from ._notices import Notices
from ._sender import Sender, Waiter
from ._spool import Folder, Spool, prepare
from ._standing import UNKNOWN, Check, Estimate, Standing, amount


class RecordError(Exception):
    """An awaited record was refused, dropped, or not settled in time."""


@dataclass(frozen=True)
class Stats:
    """Counts since the recorder was made, or since the fork in a child."""

    recorded: int
    """Records that `record()` took."""
    settled: int
    """Records that the daemon reported as durable or refused."""
    rejected: int
    """Records that the daemon refused, or that could not be encoded."""
    dropped: int
    """Lost records: the bound was reached, or the recorder was closed first."""
    connected: bool
    last_error: str
    """Why the last connection ended; empty if none did."""
    last_warning: str = ""
    """The daemon's last warning, such as `name_in_use`: another process uses this producer's name."""
    recovered: int = 0
    """Records that were delivered from the spools of processes that had ended."""


Drop = Callable[[Mapping[str, Any]], None]
Reject = Callable[[Optional[uuid.UUID], str, str], None]


class Recorder:
    """Records paid API calls. One a process; its threads share it. Raises ValueError for an invalid endpoint or `ack`.

    `queue_bytes` and `window_bytes` bound the memory of waiting and of sent records. `backoff` is the shortest and
    longest pause between connections, `ack_timeout` the wait for an overdue ack, `close_timeout` the wait at the
    process's end; all in seconds. `on_drop(fields)` and `on_reject(id, code, message)` are called on the thread that
    notices, and must not block. Without them a warning is logged, once a kind; not with `quiet`. `disabled` (default:
    `TALLYD_DISABLED`) makes a recorder that keeps nothing and opens nothing, for tests. `tags` go
    into all records, such as `{"environment": "production"}`; tags of the context and of the record win.
    `deny_unknown` makes `check` deny calls while the state of budgets is not known. `ack` says when records are
    acknowledged: `"durable"`, after the sync of the daemon's disk, or `"committed"`, after PostgreSQL's COMMIT, so that
    nothing acknowledged is lost with that disk. The daemon's own setting holds if it is stricter, and always over HTTP.
    `ca` is a PEM file with the authorities of an `https://` endpoint, in place of the system's.

    `spool` is a folder: a record is then in a file before `record()` returns, and survives a SIGKILL of the process.
    The next recorder with this folder delivers it once, from its first record on. `spool_bytes` is the file's room,
    which takes the place of `queue_bytes`. For a socket or TCP: with an HTTP endpoint it raises ValueError.
    """

    def __init__(
        self,
        endpoint: Optional[str] = None,
        *,
        token: Optional[str] = None,
        app: str = "",
        tags: Optional[Mapping[str, Any]] = None,
        producer: Optional[str] = None,
        queue_bytes: int = 64 << 20,
        window_bytes: int = 32 << 20,
        on_drop: Optional[Drop] = None,
        on_reject: Optional[Reject] = None,
        backoff: Tuple[float, float] = (0.05, 10.0),
        ack_timeout: float = 30.0,
        close_timeout: float = 5.0,
        quiet: bool = False,
        disabled: Optional[bool] = None,
        deny_unknown: bool = False,
        ack: str = "durable",
        ca: Optional[str] = None,
        spool: Optional[Folder] = None,
        spool_bytes: int = 64 << 20,
    ) -> None:
        if ack not in ("durable", "committed"):
            raise ValueError(f'ack is "durable" or "committed", not {ack!r}')
        self.ack = ack
        self.ca = ca
        self.is_disabled = _is_on(os.environ.get("TALLYD_DISABLED")) if disabled is None else disabled
        self.notices = Notices(quiet)
        self.endpoint = Endpoint.parse(endpoint, token)
        self.app = app
        self.tags = dict(tags or {})
        self.window_bytes = window_bytes
        self.backoff = backoff
        self.ack_timeout = ack_timeout
        self._max_queue_bytes, self._eager_bytes = queue_bytes, queue_bytes // 4
        self._on_drop, self._on_reject = on_drop, on_reject
        self._close_timeout, self._deny_unknown = close_timeout, deny_unknown
        self._spool_folder, self._spool_bytes = spool, spool_bytes
        if spool is not None and self.endpoint.url is not None:
            raise ValueError("a spool needs the daemon's socket or TCP: over HTTP a record could count twice")
        base = (producer or f"{app or 'python'}-{socket.gethostname()}").replace("\0", "")
        self._base = base.encode()[:96].decode(errors="ignore")  # The protocol's bound is 128 bytes in all.
        self._begin()
        _ends.watch(self)

    def _begin(self) -> None:
        """The state before the first record. The name includes the process id: two processes never share one."""
        self.producer = f"{self._base}-{os.getpid()}-{os.urandom(4).hex()}"
        self.secret = _wire.new_secret()
        self.queue: Deque[_queue.Waiting] = deque()
        self._queue_bytes = 0
        self._roomless: List[Waiter] = []
        self.standing = Standing(self._deny_unknown)
        self._welcomed = threading.Event()
        self._lock = threading.RLock()
        self._thread: Optional[threading.Thread] = None
        self.spool: Optional[Spool] = None
        self._drain: Optional[Drain] = None
        self._left = 0
        self._sender = Sender(self) if self.endpoint.url is None else HttpSender(self)
        self._closed = False
        self._dropped = self._rejected = self._unencodable = self._lost = 0
        self._connected, self._last_error, self._last_warning = False, "", ""

    def record(self, provider: str = "", **fields: Any) -> bool:
        """Records a call; returns at once, and never raises. False: it was dropped, counted, and given to `on_drop`.

        `fields` are those of the protocol's record. Amounts are Decimal, int or decimal text, never float.
        """
        try:
            return self._put(provider, fields, None)
        except Exception as error:  # The promise never to raise: a record that cannot be queued is a drop.
            self.drop({"provider": provider, **fields}, f"the record cannot be read: {error}")
            return False

    def _put(self, provider: str, fields: Dict[str, Any], waiter: Optional[Waiter]) -> bool:
        if self.is_disabled:
            fields.update(provider=provider, id=fields.get("id") or _wire.new_id())
            if waiter is not None:
                waiter.finish()
            return True
        at = fields.get("occurred_at")
        if at is None:
            at = fields["occurred_at"] = time.time_ns() // 1000
        fields["provider"] = provider
        if fields.get("id") is None:
            fields["id"] = _wire.new_id(at if isinstance(at, int) else None)
        # Copied, because the caller may change it before the thread reads it.
        metadata = fields.get("metadata")
        if metadata is not None and not isinstance(metadata, str):
            fields["metadata"] = _wire.metadata_text(dict(metadata))
        for name in ("extra_units", "tags"):
            if isinstance(fields.get(name), dict):
                fields[name] = dict(fields[name])
        _context.complete(fields)
        if self.app and not fields.get("app"):
            fields["app"] = self.app
        if self.tags:
            fields["tags"] = {**self.tags, **(fields.get("tags") or {})}
        if self._closed:
            self.drop(fields, "the recorder is closed")
            return False
        if self._thread is None:
            self._start()
        if self.spool is not None:
            return self._put_spooled(self.spool, fields, waiter)
        item: _queue.Item = fields
        size = _queue.bytes_of_fields(fields, waiter)
        if self._queue_bytes + size > self._eager_bytes:
            item = self._sender.packed(fields)
            size = _queue.bytes_of(item, waiter)
        with self._lock:
            fits = self._queue_bytes + size <= self._max_queue_bytes
            if fits:
                self._queue_bytes += size
                self.queue.append((item, waiter, size, 0))
        if not fits:
            self.drop(fields, "the queue is full: the daemon is away, or too slow")
            return False
        self._leave_nothing()
        return True

    def _put_spooled(self, spool: Spool, fields: Dict[str, Any], waiter: Optional[Waiter]) -> bool:
        """Copies the record into the spool. From then on a kill of the process does not lose it."""
        item, seq = self._sender.packed(fields), 0
        with self._lock:
            # One that cannot be encoded waits as it is, and is refused in its turn. It has no number.
            if isinstance(item, bytes):
                seq = spool.put(item)
            fits = seq > 0 or not isinstance(item, bytes)
            if fits:
                self.queue.append((item, waiter, 0, seq))
        if not fits:
            self.drop(fields, "the spool is full: the daemon is away, or too slow")
            return False
        self._leave_nothing()
        return True

    def _leave_nothing(self) -> None:
        """If the recorder was closed meanwhile, the thread may not have seen the record."""
        if self._sender.ended.is_set():
            for left in self.drop_queue():
                left.error = "the recorder was closed first"
                left.finish()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._closed:
                if self._spool_folder is not None:
                    self._begin_spool(self._spool_folder)
                thread = threading.Thread(target=self._sender.run, name="tallyd-sender", daemon=True)
                thread.start()
                self._thread = thread

    def _begin_spool(self, folder: Folder) -> None:
        """Makes the file, and delivers those that were left. Without a file, records are in memory; those that were
        left are delivered also then, because a full disk may be full of them."""
        try:
            path = prepare(folder)
            try:
                self.spool = Spool(path, self._spool_bytes, self.producer, self.secret)
            finally:
                self._drain = Drain(self, path)
        except (OSError, RuntimeError) as error:
            self._last_error = f"there is no spool in {folder}, so records are in memory alone: {error}"
            self.notices.tell("spool", "tallyd: %s", self._last_error)

    def flush(self, timeout: float = 5.0) -> bool:
        """Waits until all earlier records are durable or refused. False: not within `timeout` seconds."""
        waiter = self._wait_in_line()
        return waiter is None or (waiter.done.wait(timeout) and waiter.error is None)

    async def aflush(self, timeout: float = 5.0) -> bool:
        """`flush` for asyncio."""
        done = asyncio.Event()
        waiter = self._wait_in_line(waker(done))
        if waiter is None:
            return True
        try:
            await asyncio.wait_for(done.wait(), timeout)
        except asyncio.TimeoutError:
            return False
        return waiter.error is None

    def _wait_in_line(self, call: Optional[Callable[[Waiter], None]] = None) -> Optional[Waiter]:
        if self._thread is None or self._sender.ended.is_set():
            return None
        waiter = Waiter(call=call)
        self.queue.append((None, waiter, 0, 0))
        self._sender.wake()
        return waiter

    def room(self, timeout: float = 5.0) -> bool:
        """Waits until the queue has room for a record. For bursts that are larger than the queue.

        False: not within `timeout` seconds, or the recorder is closed.
        """
        deadline = time.monotonic() + timeout
        while (waiter := self._wait_for_room()) is not None:
            if not waiter.done.wait(max(0.0, deadline - time.monotonic())):
                self._wait_no_longer(waiter)
                return False
        return not self._closed

    async def aroom(self, timeout: float = 5.0) -> bool:
        """`room` for asyncio."""
        deadline, done = time.monotonic() + timeout, asyncio.Event()
        wake = waker(done)
        while (waiter := self._wait_for_room(wake)) is not None:
            try:
                await asyncio.wait_for(done.wait(), max(0.0, deadline - time.monotonic()))
            except asyncio.TimeoutError:
                return False
            finally:
                self._wait_no_longer(waiter)
            done.clear()
        return not self._closed

    def _wait_for_room(self, call: Optional[Callable[[Waiter], None]] = None) -> Optional[Waiter]:
        with self._lock:
            if self._has_room() or self._closed:
                return None
            waiter = Waiter(call=call)
            self._roomless.append(waiter)
        self._sender.wake()
        return waiter

    def _wait_no_longer(self, waiter: Waiter) -> None:
        with self._lock:
            if waiter in self._roomless:
                self._roomless.remove(waiter)

    def _has_room(self) -> bool:
        if self.spool is not None:
            return self.spool.has_room()
        return self._queue_bytes + min(_queue.ROOM_BYTES, self._max_queue_bytes) <= self._max_queue_bytes

    async def record_and_wait(self, provider: str = "", *, timeout: float = 10.0, **fields: Any) -> uuid.UUID:
        """Records a call and waits until it is durable; returns its id. Does not block the event loop.

        Raises RecordError if it is refused, dropped, or not settled within `timeout` seconds. In the last case it may
        still become durable.
        """
        done = asyncio.Event()
        waiter = self.begin(provider, fields, waker(done))
        if waiter is None:
            raise RecordError("the record was dropped: the queue is full or the recorder is closed")
        try:
            await asyncio.wait_for(done.wait(), timeout)
        except asyncio.TimeoutError:
            raise RecordError(f"the record was not settled in {timeout:g} s; it is still being sent") from None
        finally:
            waiter.is_abandoned = True
        if waiter.error is not None:
            raise RecordError(waiter.error)
        identity = fields["id"]
        return identity if isinstance(identity, uuid.UUID) else uuid.UUID(str(identity))

    def begin(
        self, provider: str, fields: Dict[str, Any], call: Optional[Callable[[Waiter], None]] = None
    ) -> Optional[Waiter]:
        """Records a call at once, for a caller that waits for its ack and may abandon the waiter. None: dropped."""
        waiter = Waiter(is_record=True, call=call)
        if not self._put(provider, fields, waiter):
            return None
        if not self.is_disabled:
            self._sender.wake()
        return waiter

    @property
    def budget(self) -> Dict[str, Any]:
        """State of the budgets of everything: `should_throttle`, `status`. Empty without such a budget, and if the
        daemon's last message is older than 5 minutes."""
        self._listen()
        return self.standing.budget

    def check(
        self,
        *,
        provider: str = "",
        model: str = "",
        user: str = "",
        app: str = "",
        tags: Optional[Mapping[str, Any]] = None,
        estimate: Optional[Estimate] = None,
    ) -> Check:
        """Whether a call may be made, by the budgets that it counts towards. The answer is true if it may be.

        These are budgets of everything, of its provider, model (or the model's family), user, application and tags.
        User, application and tags that are left out come from the context and the recorder, as for `record`. `estimate`
        is the USD that the call may cost: it is refused if a budget has less left. Returns at once, from the daemon's
        last message, which counts for 5 minutes. Before the first message (see `ready`), and always over HTTP, the
        state is not known: `deny_unknown` decides. Raises ValueError for an estimate that is not an amount.
        """
        cost = None if estimate is None else amount(estimate)
        if self.is_disabled:
            return UNKNOWN
        if self._thread is None:
            self._listen()
        if _context.is_given():
            if tags or self.tags or _context.value("tags"):
                tags = {**self.tags, **(_context.value("tags") or {}), **(tags or {})}
            user = user or _context.value("user_id") or ""
            app = app or _context.value("app") or ""
        elif self.tags:
            tags = {**self.tags, **(tags or {})}
        tags = tags or {}
        return self.standing.check((provider, model, user, app or self.app or tags.get("app") or "", tags), cost)

    def ready(self, timeout: float = 5.0) -> bool:
        """Waits until the daemon has answered for the first time. False: not within `timeout` seconds.

        For programs that check once whether to hold back, and end.
        """
        self._listen()
        return not self.is_disabled and self._welcomed.wait(timeout)

    def _listen(self) -> None:
        """Connects without a record. Not before a budget is asked for: a process that forks should have no thread."""
        if self._thread is None and not self.is_disabled:
            try:
                self._start()
            except RuntimeError:
                pass  # At its end the interpreter starts no thread.

    @property
    def is_connected(self) -> bool:
        """`stats().connected`, but faster."""
        return self._connected

    def close(self, timeout: Optional[float] = None) -> bool:
        """Sends the rest within `timeout` seconds, then ends the thread.

        False: records were lost, and counted, or are in the spool for the next start.
        """
        self._closed = True
        self.took(0)
        if self._thread is None:
            return True
        lost = self._lost + self._dropped
        self._sender.stop_at = time.monotonic() + (self._close_timeout if timeout is None else timeout)
        self._sender.wake()
        self._thread.join(max(0.0, self._sender.stop_at - time.monotonic()) + 1.0)
        if self._drain is not None:
            self._drain.stop(self._sender.stop_at)
        self._connected = False
        lost = self._lost + self._dropped - lost
        for count, where in ((lost, "lost"), (self._left, f"in {self._spool_folder} for the next start")):
            if count:
                records, are = ("record was", "is") if count == 1 else ("records were", "are")
                self.notices.tell(
                    "end", "tallyd: %d %s not delivered before the end, and %s %s", count, records, are, where
                )
        return lost == 0 and self._left == 0 and self._sender.ended.is_set()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def stats(self) -> Stats:
        """The counts so far."""
        window = self._sender.window
        waiting = sum(1 for item in list(self.queue) if item[0] is not None)
        return Stats(
            recorded=window.added + self._unencodable + waiting,
            settled=window.settled,
            rejected=self._rejected,
            dropped=self._dropped + self._lost,
            connected=self._connected,
            last_error=self._last_error,
            last_warning=self._last_warning,
            recovered=0 if self._drain is None else self._drain.recovered,
        )

    # Called by the sender.

    def drop(self, fields: Mapping[str, Any], reason: str = "") -> None:
        """Counts a lost record. With a reason it also warns."""
        with self._lock:
            self._dropped += 1
        if self._on_drop is not None:
            try:
                self._on_drop(fields)
            except Exception:  # An error in the callback must not reach the caller of record().
                pass
        elif reason:
            kind, message = reason.split(":")[0], "tallyd: a record was not kept: %s. stats().dropped counts them"
            self.notices.tell(kind, message, reason)

    def took(self, size: int) -> None:
        """Takes `size` bytes off the queue's sum, and wakes callers that wait for room."""
        with self._lock:
            self._queue_bytes -= size
            resumed: List[Waiter] = []
            if self._roomless and (self._has_room() or self._closed):
                resumed, self._roomless = self._roomless, []
        for waiter in resumed:
            waiter.finish()

    def drop_queue(self) -> List[Waiter]:
        """Counts queued records as lost; returns their waiters. Safe from two threads."""
        waiters: List[Waiter] = []
        while True:
            try:
                item, waiter, size, seq = self.queue.popleft()
            except IndexError:
                return waiters
            self.took(size)
            if seq:
                self._left += 1
            elif item is not None:
                self.drop(self._sender.unpacked(item))
            if waiter is not None:
                waiters.append(waiter)

    def lost(self, records: int) -> None:
        """Counts the window's records as lost, at the end, or as left in the spool."""
        if self.spool is None:
            self._lost += records
        else:
            self._left += records

    def end_spool(self) -> None:
        """Deletes the spool's file, unless records are in it. A later `record()` finds it closed, and drops."""
        with self._lock:
            if self.spool is None:
                return
            if self._left or self.queue:
                self.spool.release()
            else:
                self.spool.remove()

    def refuse(self, identity: Optional[uuid.UUID], code: str, message: str) -> None:
        """Counts a refused record, and reports it."""
        with self._lock:
            self._rejected += 1
            self._unencodable += code == "client"
        self.tell_refused(identity, code, message)

    def tell_refused(self, identity: Optional[uuid.UUID], code: str, message: str) -> None:
        """Reports a refused record."""
        if self._on_reject is not None:
            try:
                self._on_reject(identity, code, message)
            except Exception:  # As in drop().
                pass
        else:
            message = f"{code}: {message}"
            self.notices.tell("refused", "tallyd: a record was refused: %s. stats().rejected counts them", message)

    def connected(self) -> None:
        self._connected = True
        self._welcomed.set()

    def disconnected(self, error: str) -> None:
        self._connected, self._last_error = False, error
        if self._sender.stop_at is None:
            message = "tallyd: no connection to %s, records wait: %s"
            self.notices.tell("away", message, self.endpoint, error)

    def not_recovered(self, error: str) -> None:
        self._last_error = error

    def not_read(self, error: str) -> None:
        """A spool of another process cannot be read."""
        self._last_error = error
        self.notices.tell("spool", "tallyd: %s", error)

    def warned(self, warning: Optional[Mapping[str, Any]]) -> None:
        """Keeps the daemon's warning, and logs the first one."""
        if warning:
            self._last_warning = f"{warning.get('code')}: {warning.get('message')}"
            self.notices.tell("warning", "tallyd: producer %s: %s", self.producer, self._last_warning)

    def after_fork(self) -> None:
        """In a forked child: starts afresh, with new locks, because threads of the parent may hold the old ones."""
        self._sender.forget()
        if self.spool is not None:
            self.spool.release()
        closed = self._closed
        self._begin()
        self._closed = closed


def _is_on(text: Optional[str]) -> bool:
    return (text or "").strip().lower() in ("1", "true", "yes", "on")


def waker(done: asyncio.Event) -> Callable[[Waiter], None]:
    """A callback that sets an event of the running loop from the sender thread."""
    loop = asyncio.get_running_loop()

    def wake(_: Waiter) -> None:
        try:
            loop.call_soon_threadsafe(done.set)
        except RuntimeError:
            pass  # The loop has ended, and its tasks with it.

    return wake
