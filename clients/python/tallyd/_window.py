"""The window: every record that left the queue and is not settled yet, encoded once, in order.

A frame gets its sequence numbers when it is first written, and keeps them once the socket has taken all of it: from
then on the daemon may have it. A frame that a broken connection cut short cannot have been accepted, so its numbers
are given back. Thus a record that was never sent is never mistaken for a durable one.

Records of a spool come with their numbers, and keep them: nobody else has the spool's secret, and another process may
have to send them again.
"""

from __future__ import annotations

from collections import deque
from typing import Deque, List, Optional, Tuple

from ._wire import HEAD_BYTES

FRAME_RECORDS = 1024
FRAME_SIZE = 64 * 1024


class Frame:
    """Some encoded records. `first_seq` is 0 until the frame is numbered."""

    __slots__ = ("first_seq", "records", "size", "numbered", "closed", "written")

    def __init__(self, records: List[bytes], first_seq: int = 0) -> None:
        self.first_seq = first_seq
        self.records = records
        self.size = sum(map(len, records))
        self.numbered = first_seq != 0
        """Whether its records came with their numbers."""
        self.closed = False
        """Whether it was handed out: it takes no more records, unless its numbers are given back."""
        self.written = False

    @property
    def last_seq(self) -> int:
        return self.first_seq + len(self.records) - 1

    def is_open(self) -> bool:
        return not self.closed and len(self.records) < FRAME_RECORDS and self.size < FRAME_SIZE


class Window:
    """The window, for one thread. See the module."""

    def __init__(self, max_bytes: int) -> None:
        self.frames: Deque[Frame] = deque()
        self.bytes = 0
        self.cursor = 0
        self.next_seq = 1
        self.known_seq = 0
        self.settled = 0
        """The number of records that were ever settled, in the order of their arrival."""
        self.added = 0
        self._max_bytes = max_bytes

    def has_room(self) -> bool:
        return self.bytes < self._max_bytes

    def awaits_ack(self) -> bool:
        return self.cursor > 0

    def add(self, encoded: bytes, seq: int = 0) -> None:
        """Appends a record. `seq`: its number, if it has one, as in a spool."""
        tail = self.frames[-1] if self.frames else None
        if tail is None or not tail.is_open() or (seq and tail.last_seq + 1 != seq):
            tail = Frame([], seq)
            self.frames.append(tail)
        tail.records.append(encoded)
        tail.size += len(encoded)
        self.bytes += len(encoded)
        self.added += 1

    def welcome(self, last_seq: int) -> None:
        """Begins a connection. The daemon has everything up to `last_seq`, which settles those records."""
        self.disconnected()
        while self.frames and self.frames[0].first_seq and self.frames[0].last_seq <= last_seq:
            self._pop()
        self.next_seq = max(self.next_seq, last_seq + 1)
        self.known_seq = max(self.known_seq, last_seq)

    def disconnected(self) -> None:
        """Ends a connection: all frames will be written again, in order."""
        self.cursor = 0
        cut = False
        for item in self.frames:
            if item.numbered:
                continue
            if item.first_seq and not item.written and not cut:
                cut = True
                self.next_seq = item.first_seq
            if cut:
                item.first_seq, item.closed = 0, False

    def next(self, max_records: int, max_bytes: int) -> Optional[Frame]:
        """The next frame to write, split to the daemon's bounds; None if everything is written."""
        if self.cursor >= len(self.frames):
            return None
        item = self.frames[self.cursor]
        while len(item.records) > 1 and (len(item.records) > max_records or item.size + HEAD_BYTES > max_bytes):
            self._split(item)
        item.closed = True
        if not item.first_seq:
            item.first_seq = self.next_seq
            self.next_seq += len(item.records)
        return item

    def _split(self, item: Frame) -> None:
        keep = len(item.records) // 2
        rest = Frame(item.records[keep:], item.first_seq + keep if item.first_seq else 0)
        rest.numbered, rest.closed, rest.written = item.numbered, item.closed, item.written
        item.records = item.records[:keep]
        item.size -= rest.size
        self.frames.insert(self.cursor + 1, rest)

    def wrote(self) -> None:
        """Marks the frame of the last `next` as taken by the socket."""
        item = self.frames[self.cursor]
        item.written = True
        self.known_seq = max(self.known_seq, item.last_seq)
        self.cursor += 1

    def place(self, seq: int) -> Optional[Tuple[int, bytes]]:
        """The position of the record numbered `seq` among all records, and its bytes; None if it is not here."""
        at = self.settled
        for item in self.frames:
            if item.first_seq and item.first_seq <= seq <= item.last_seq:
                return at + seq - item.first_seq, item.records[seq - item.first_seq]
            at += len(item.records)
        return None

    def settle(self, seq: int) -> int:
        """Settles frames up to `seq`. Returns the number of records of the frame that ends with `seq`, else 0."""
        ending = 0
        while self.cursor and self.frames[0].last_seq <= seq:
            ending = len(self.frames[0].records) if self.frames[0].last_seq == seq else 0
            self._pop()
            self.cursor -= 1
        return ending

    def _pop(self) -> None:
        item = self.frames.popleft()
        self.bytes -= item.size
        self.settled += len(item.records)
