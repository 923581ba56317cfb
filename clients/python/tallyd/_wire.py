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
"""The daemon's bound before its welcome states one."""
ANSWER_BYTES = 8 << 20
"""Bound of a daemon's frame, in bytes."""
HEAD_BYTES = 48
"""Bound of the bytes around the records of a `records` body."""

_NAMES = tuple(name for name, _ in FIELDS)
_KNOWN = frozenset(_NAMES)


def exact(value: Any) -> Union[int, str]:
    """The wire's form of an amount or a quantity. Raises TypeError for a float, which is already rounded."""
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError(f"{value} is not an amount")
        return format(value, "f")
    if isinstance(value, (int, str)) and not isinstance(value, bool):
        return value
    raise TypeError(f"{value!r} is no exact number: give a Decimal, an int or decimal text")


def tag_texts(tags: Mapping[str, Any]) -> Dict[str, str]:
    """Tags as the wire has them. A tag of None is left out; a number or a UUID becomes its text."""
    said = {str(tag): str(value) for tag, value in tags.items() if value is not None}
    return {tag: said[tag] for tag in sorted(said, key=lambda tag: tag.encode())}


def metadata_text(value: Any) -> str:
    """Metadata as JSON text. Raises TypeError or ValueError for a value that JSON cannot hold."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str)


def _values(fields: Mapping[str, Any]) -> Tuple[List[Any], int]:
    """The wire's form of each field, and the number of fields up to the last one that is not at its default."""
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
    """The array form, without trailing defaults.

    Raises TypeError, ValueError or OverflowError for a value that the wire cannot carry. The daemon checks the bounds.
    """
    values, length = _values(fields)
    encoded: bytes = msgpack.packb(values[: max(length, 3)])
    return encoded


def decode_record(encoded: bytes) -> Dict[str, Any]:
    """The fields that :func:`encode_record` wrote and that are not at their defaults."""
    values: List[Any] = msgpack.unpackb(encoded)
    said = {name: value for (name, default), value in zip(FIELDS, values) if value != default}
    if "id" in said:
        # 17 bytes if the client made it.
        said["id"] = uuid.UUID(bytes=said["id"][-16:])
    return said


def encode_json(fields: Mapping[str, Any]) -> bytes:
    """As `encode_record`, but a JSON object for the HTTP API. Raises the same errors."""
    values, _ = _values(fields)
    said = {name: value for (name, default), value in zip(FIELDS, values) if value != default}
    if isinstance(said.get("id"), bytes):
        # 17 bytes if the client made it; over HTTP it is a plain UUID.
        said["id"] = str(uuid.UUID(bytes=said["id"][-16:]))
    return json.dumps(said, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def frame(body: bytes) -> bytes:
    """A body after its length."""
    return struct.pack(">I", len(body)) + body


def new_secret() -> str:
    """128 random bits, in hexadecimal digits, which prove that the producer's name is this recorder's."""
    return os.urandom(16).hex()


def hello(
    producer: str,
    secret: str,
    token: Optional[str] = None,
    want_costs: bool = False,
    client: str = CLIENT,
    ack: str = "durable",
) -> bytes:
    """The first frame of a connection."""
    body: Dict[str, Any] = {"protocol": PROTOCOL, "producer": producer, "secret": secret, "client": client}
    if token is not None:
        body["token"] = token
    body["want_costs"] = want_costs
    if ack != "durable":  # A daemon that does not know the key refuses the message.
        body["ack"] = ack
    return frame(msgpack.packb({"hello": body}))


def watch() -> bytes:
    """Asks for the state of budgets at each change. Only for a daemon whose welcome has `budgets`."""
    return frame(msgpack.packb({"watch": {}}))


def records(first_seq: int, encoded: List[bytes]) -> bytes:
    """A frame of records from :func:`encode_record`."""
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
    """The bytes do not come from a tallyd daemon."""


class Inbox:
    """Bytes in, messages out. Holds one unfinished frame at most, and refuses lengths beyond the daemon's bound."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> None:
        self._bytes += data

    def next(self) -> Optional[Tuple[str, Dict[str, Any]]]:
        """The next message's name and body; None until one is complete. Raises Garbage."""
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
    """An id that the client made; the application did not state one.

    The daemon does not look it up, because the sequence number prevents a second count.
    """

    __slots__ = ()


def new_id(micros: Optional[int] = None) -> MadeId:
    """A UUID of version 7 for a call at `micros` microseconds since 1970; default: now."""
    millis = (micros if micros is not None else time.time_ns() // 1000) // 1000
    value = (millis & (2**48 - 1)) << 80 | int.from_bytes(os.urandom(10), "big")
    return MadeId(int=value & ~(0xF << 76) & ~(0x3 << 62) | 7 << 76 | 2 << 62)
