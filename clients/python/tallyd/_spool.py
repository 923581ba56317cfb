"""The folder of spools: a memory-mapped file for each recorder, locked while its process lives.

`put` copies the record into the map before it returns, so it is in the page cache: a SIGKILL of the process leaves it
there, a loss of power may not. Nothing is synced.

The lock is `flock`, which the kernel releases when the process ends, however it ends. A process that finds a file
without a lock owns it, if the file still has its name: between the opening and the lock, the former owner may have
delivered and removed it.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import threading
import zlib
from collections import deque
from pathlib import Path
from typing import Deque, List, Optional, Tuple, Union

from ._spool_format import HEAD_BYTES, SETTLED_AT, UNIT, Head, entry_bytes, head_bytes, read, units

_AREA = (4 << 20, 1 << 36)
"""Bounds of the room for entries: more than twice the largest record, so that one fits wherever the last one ended."""
_ROOM_BYTES = 64 * 1024
"""The free bytes that `room()` waits for."""

Folder = Union[str, "os.PathLike[str]"]


class Spool:
    """The file of one recorder. Safe from several threads."""

    def __init__(self, folder: Path, size: int, producer: str, secret: str) -> None:
        """Makes the file in a folder that is prepared. Raises OSError if the file cannot be made. Its room is
        allocated, so that a full disk is an error here."""
        self.folder = folder
        area = -(-min(_AREA[1], max(_AREA[0], size)) // UNIT) * UNIT
        salt = os.urandom(8)
        self._file, self.path = _create(self.folder)
        try:
            os.write(self._file, head_bytes(Head(producer, secret, salt, area)))
            _allocate(self._file, HEAD_BYTES + area)
            self._map = mmap.mmap(self._file, HEAD_BYTES + area)
        except OSError:
            os.unlink(self.path)
            os.close(self._file)
            raise
        self._area, self._salted = area // UNIT, zlib.crc32(salt)
        self._lock = threading.RLock()
        self._is_writing = False
        self._last = self._settled = 0
        """The last number, and the highest settled one."""
        self._tail = self._freed = 0
        """The first free unit, and the first one that is not free, counted over all laps."""
        self._ends: Deque[int] = deque()
        """Where each entry that is not settled ends."""

    def put(self, record: bytes) -> int:
        """Keeps an encoded record. Returns its sequence number, or 0 if there is no room."""
        size = units(len(record))
        with self._lock:
            at = self._place(size)
            # A signal handler that interrupts this very method would take the same place.
            if at is None or self._is_writing:
                return 0
            self._is_writing = True
            try:
                # In this order: an exception of a signal handler, at any place, costs this record's number at most.
                self._tail = at + size
                self._ends.append(self._tail)
                seq = self._last = self._last + 1
                entry = entry_bytes(self._salted, seq, record)
                start = HEAD_BYTES + at % self._area * UNIT
                self._map[start : start + len(entry)] = entry
                return seq
            finally:
                self._is_writing = False

    def settle(self, seq: int) -> bool:
        """Gives the room of all records up to this number away. Returns whether there were any."""
        with self._lock:
            if seq <= self._settled:
                return False
            self._map[SETTLED_AT : SETTLED_AT + 8] = seq.to_bytes(8, "little")
            while self._settled < seq:
                self._freed = self._ends.popleft()
                self._settled += 1
            return True

    def has_room(self) -> bool:
        with self._lock:
            return self._place(units(_ROOM_BYTES)) is not None

    def remove(self) -> None:
        """Deletes the file: everything in it is settled."""
        try:
            os.unlink(self.path)
        except OSError:
            pass  # The next start finds nothing in it, and deletes it.
        self.release()

    def release(self) -> None:
        """Leaves the file to the next start. In a forked child: to the parent, which keeps the lock."""
        self._map.close()
        os.close(self._file)

    def _place(self, size: int) -> Optional[int]:
        """The first of these units in one piece; None if they are not free."""
        left = self._area - self._tail % self._area
        at = self._tail + left if size > left else self._tail
        return at if at + size - self._freed <= self._area else None


class Orphan:
    """The file of a process that has ended, which this process owns now."""

    def __init__(self, file: int, path: Path) -> None:
        """Raises Unreadable or OSError."""
        self._file, self._path = file, path
        self.head, self.entries = read(path.read_bytes())

    def remove(self) -> None:
        """Deletes the file: everything in it is delivered."""
        os.unlink(self._path)

    def release(self) -> None:
        os.close(self._file)


def files(folder: Path) -> List[Path]:
    """The paths of all files, those of living processes included."""
    return sorted(folder.glob("*.spool"))


def adopt(path: Path) -> Optional[Orphan]:
    """Takes the file over, if its process has ended. None if it lives, and if the file is gone or was empty.

    Raises Unreadable or OSError.
    """
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    orphan = None
    try:
        if _lock(file):
            if os.fstat(file).st_size == 0:
                os.unlink(path)
            else:
                orphan = Orphan(file, path)
        return orphan
    finally:
        if orphan is None:
            os.close(file)


def prepare(name: Folder) -> Path:
    """Makes the folder. Raises OSError if it cannot be made, or if others may put files into it."""
    folder = Path(name)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = folder.stat()
    if kept.st_uid != os.geteuid() or kept.st_mode & 0o002:
        # Others could put files of theirs into it, which this process would deliver as its own.
        raise PermissionError(
            "the folder belongs to another user, or everybody may write to it. "
            "hint: name a folder within it, which the recorder makes"
        )
    return folder


def _create(folder: Path) -> Tuple[int, Path]:
    while True:
        path = folder / f"{os.urandom(16).hex()}.spool"
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        if _lock(file):
            return file, path
        # Another process looked for left-over files just now, and removes this one, because it is empty.
        os.close(file)


def _lock(file: int) -> bool:
    """Locks the file, if nobody else has, and it still has its name."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(file).st_nlink > 0


def _allocate(file: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
        return
    zeros = bytes(1 << 20)
    os.lseek(file, HEAD_BYTES, os.SEEK_SET)
    for at in range(HEAD_BYTES, size, len(zeros)):
        os.write(file, zeros[: size - at])
