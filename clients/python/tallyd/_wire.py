"""Records and frames: the bytes of tallyd's protocol, version 2 (see protocol/README.md).

Nothing here does I/O. A record is encoded once, in its array form, and resent as those bytes.
"""

from __future__ import annotations

import json
import os
import struct
import time
import uuid
from decimal import Decimal
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

import msgpack

from ._fields import FIELDS

PROTOCOL = 2
CLIENT = "tallyd-py/0.1.0"
FRAME_BYTES = 1 << 20
"""What a daemon accepts before its welcome says otherwise."""
ANSWER_BYTES = 8 << 20
"""The largest frame that a daemon sends."""
HEAD_BYTES = 48
"""Bytes of a `records` body around its records, at most."""

_NAMES = tuple(name for name, _ in FIELDS)
_KNOWN = frozenset(_NAMES)


def exact(value: Any) -> Union[int, str]:
    """Money or a quantity as the wire has it. A float is refused: it has been rounded already."""
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError(f"{value} is no amount")
        return format(value, "f")
    if isinstance(value, (int, str)) and not isinstance(value, bool):
        return value
    raise TypeError(f"{value!r} is no exact number: give a Decimal, an int or decimal text")


def tag_texts(tags: Mapping[str, Any]) -> Dict[str, str]:
    """Tags as the wire has them. A tag of None is left out; a number or a UUID becomes its text."""
    said = {str(tag): str(value) for tag, value in tags.items() if value is not None}
    return {tag: said[tag] for tag in sorted(said, key=lambda tag: tag.encode())}


def metadata_text(value: Any) -> str:
    """Metadata as JSON text. Raises TypeError or ValueError for what JSON cannot hold."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str)


def _values(fields: Mapping[str, Any]) -> Tuple[List[Any], int]:
    """Each field as the wire has it, and how many there are up to the last that is not at its default."""
    unknown = fields.keys() - _KNOWN
    if unknown:
        raise TypeError(f"a record has no field {sorted(unknown)[0]!r}; it has {', '.join(_NAMES)}")
    values: List[Any] = []
    length = 0
    for index, (name, default) in enumerate(FIELDS):
        value = fields.get(name)
        if value is None:
            value = default
        elif name == "id":
            made = isinstance(value, MadeId)
            value = (value if isinstance(value, uuid.UUID) else uuid.UUID(str(value))).bytes
            if made:
                value = b"\x01" + value
        elif name == "cost_usd":
            value = exact(value)
        elif name == "extra_units":
            value = {unit: str(exact(value[unit])) for unit in sorted(value, key=lambda unit: str(unit).encode())}
        elif name == "tags":
            value = tag_texts(value)
        elif name == "metadata" and not isinstance(value, str):
            value = metadata_text(value)
        if value != default:
            length = index + 1
        values.append(value)
    return values, length


def encode_record(fields: Mapping[str, Any]) -> bytes:
    """The array form, trailing defaults left off.

    Raises TypeError, ValueError or OverflowError for what the wire cannot carry; the daemon judges the bounds.
    """
    values, length = _values(fields)
    encoded: bytes = msgpack.packb(values[: max(length, 3)])
    return encoded


def decode_record(encoded: bytes) -> Dict[str, Any]:
    """The fields that :func:`encode_record` wrote and that are not at their defaults."""
    values: List[Any] = msgpack.unpackb(encoded)
    said = {name: value for (name, default), value in zip(FIELDS, values) if value != default}
    if "id" in said:
        # 17 bytes, if it was made here.
        said["id"] = uuid.UUID(bytes=said["id"][-16:])
    return said


def encode_json(fields: Mapping[str, Any]) -> bytes:
    """The same as a JSON object, for the HTTP API. Raises as `encode_record` does."""
    values, _ = _values(fields)
    said = {name: value for (name, default), value in zip(FIELDS, values) if value != default}
    if isinstance(said.get("id"), bytes):
        # 17 bytes, if it was made here: over HTTP an id is an id.
        said["id"] = str(uuid.UUID(bytes=said["id"][-16:]))
    return json.dumps(said, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def frame(body: bytes) -> bytes:
    """A body with its length before it."""
    return struct.pack(">I", len(body)) + body


def new_secret() -> str:
    """128 random bits: what makes a producer's name its own."""
    return os.urandom(16).hex()


def hello(
    producer: str, secret: str, token: Optional[str] = None, want_costs: bool = False, client: str = CLIENT
) -> bytes:
    """The first frame of a connection."""
    body: Dict[str, Any] = {"protocol": PROTOCOL, "producer": producer, "secret": secret, "client": client}
    if token is not None:
        body["token"] = token
    body["want_costs"] = want_costs
    return frame(msgpack.packb({"hello": body}))


def watch() -> bytes:
    """Asks to be told where the budgets stand. Only for a daemon whose welcome has told it."""
    return frame(msgpack.packb({"watch": {}}))


def records(first_seq: int, encoded: List[bytes]) -> bytes:
    """A frame of records that :func:`encode_record` made."""
    packer = msgpack.Packer(autoreset=False)
    packer.pack_map_header(1)
    packer.pack("records")
    packer.pack_map_header(2)
    packer.pack("first_seq")
    packer.pack(first_seq)
    packer.pack("records")
    packer.pack_array_header(len(encoded))
    return frame(packer.bytes() + b"".join(encoded))


class Garbage(Exception):
    """What answers is not tallyd."""


class Inbox:
    """Bytes in, messages out. Holds one unfinished frame at most, and refuses one that no daemon sends."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> None:
        self._bytes += data

    def next(self) -> Optional[Tuple[str, Dict[str, Any]]]:
        """The next message's name and body, None until one is whole. Raises Garbage."""
        if len(self._bytes) < 4:
            return None
        (length,) = struct.unpack_from(">I", self._bytes)
        if not 0 < length <= ANSWER_BYTES:
            raise Garbage(f"a frame of {length} bytes")
        if len(self._bytes) < 4 + length:
            return None
        body = bytes(self._bytes[4 : 4 + length])
        del self._bytes[: 4 + length]
        try:
            ((name, value),) = msgpack.unpackb(body).items()
        except (ValueError, AttributeError, msgpack.UnpackException) as error:
            raise Garbage(f"a frame that is no message: {error}") from error
        if not isinstance(name, str) or not isinstance(value, dict):
            raise Garbage("a frame that is no message")
        return name, value


class MadeId(uuid.UUID):
    """An id that is made here, and not stated by the application.

    The daemon does not look it up: its record's number keeps it from counting twice.
    """

    __slots__ = ()


def new_id(micros: Optional[int] = None) -> MadeId:
    """A UUID of version 7."""
    millis = (micros if micros is not None else time.time_ns() // 1000) // 1000
    value = (millis & (2**48 - 1)) << 80 | int.from_bytes(os.urandom(10), "big")
    return MadeId(int=value & ~(0xF << 76) & ~(0x3 << 62) | 7 << 76 | 2 << 62)
