"""The bytes of a spool file, as §13 of the protocol's specification has them."""

from __future__ import annotations

import struct
import zlib
from typing import List, NamedTuple, Tuple

HEAD_BYTES = 4096
"""Bytes of the head, before the entries."""
UNIT = 64
"""Entries begin at multiples of this, counted from the end of the head."""
ENTRY_BYTES = 16
"""Bytes of an entry before its record."""
SETTLED_AT = 512
"""Where the head has the highest settled number."""

_MAGIC, _VERSION = b"tallydsp", 1
_CHECKED = slice(16, 320)
_PRODUCER, _SECRET = slice(64, 192), slice(192, 320)
_ENTRY = struct.Struct("<QII")
_FIRST = struct.Struct("<QII48x")
"""A unit, as the first of an entry."""


class Head(NamedTuple):
    """A file's constant properties. `salt`: random bytes that begin each entry's checksum, so that a record's text
    cannot pass for an entry. `area`: bytes for entries, a multiple of UNIT."""

    producer: str
    secret: str
    salt: bytes
    area: int


class Unreadable(Exception):
    """The file is not a spool of this version."""


def head_bytes(head: Head) -> bytes:
    """The head's bytes. Nothing is settled yet."""
    data = bytearray(HEAD_BYTES)
    struct.pack_into("<8sI", data, 0, _MAGIC, _VERSION)
    struct.pack_into("<Q8s", data, 16, head.area, head.salt)
    struct.pack_into("128s128s", data, 64, head.producer.encode(), head.secret.encode())
    struct.pack_into("<I", data, 12, zlib.crc32(data[_CHECKED]))
    return bytes(data)


def units(record_bytes: int) -> int:
    """The units that an entry takes."""
    return -(-(ENTRY_BYTES + record_bytes) // UNIT)


def entry_bytes(salted: int, seq: int, record: bytes) -> bytes:
    """An entry. `salted` is the checksum of the head's salt; the entry's is of the salt, the record, and the number."""
    checksum = zlib.crc32(seq.to_bytes(8, "little"), zlib.crc32(record, salted))
    return _ENTRY.pack(seq, len(record), checksum) + record


def read_head(data: bytes) -> Head:
    """Reads a head. Raises Unreadable."""
    if len(data) < HEAD_BYTES or data[:8] != _MAGIC:
        raise Unreadable("it is not a spool file")
    version, checksum, area, salt = struct.unpack_from("<IIQ8s", data, 8)
    if version != _VERSION:
        raise Unreadable("it is of another version")
    if checksum != zlib.crc32(data[_CHECKED]):
        raise Unreadable("its head is damaged")
    producer, secret = (data[part].split(b"\0")[0].decode(errors="replace") for part in (_PRODUCER, _SECRET))
    return Head(producer, secret, salt, area)


def read(data: bytes) -> Tuple[Head, List[Tuple[int, bytes]]]:
    """The head, and the number and bytes of each record that is not settled, by rising number. Raises Unreadable.

    Skips bytes that are not a whole entry: those of a record whose `record()` had not returned when the process was
    killed, and those of settled entries.
    """
    head = read_head(data)
    (settled,) = struct.unpack_from("<Q", data, SETTLED_AT)
    salted, end = zlib.crc32(head.salt), min(len(data), HEAD_BYTES + head.area)
    area = data[HEAD_BYTES:end] + bytes(-(end - HEAD_BYTES) % UNIT)
    entries, following = [], HEAD_BYTES
    for at, (seq, size, checksum) in enumerate(_FIRST.iter_unpack(area)):
        at = HEAD_BYTES + at * UNIT
        stop = at + ENTRY_BYTES + size
        if seq <= settled or at < following or size == 0 or stop > end:
            continue
        record = data[at + ENTRY_BYTES : stop]
        if checksum == zlib.crc32(data[at : at + 8], zlib.crc32(record, salted)):
            entries.append((seq, record))
            following = at + units(size) * UNIT
    return head, sorted(entries)
