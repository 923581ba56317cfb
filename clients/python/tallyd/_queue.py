"""What waits to be sent: records as they were given, or encoded already, and how much memory they may take."""

from __future__ import annotations

import uuid
from decimal import Decimal
from sys import getsizeof
from typing import Any, Dict, Optional, Tuple, Union

from . import _wire
from ._sender import Waiter

Item = Union[Dict[str, Any], bytes]
Waiting = Tuple[Optional[Item], Optional[Waiter], int]
"""A record and who waits for it, with the bytes that they take. Without a record: who waits for those before."""

ROOM_BYTES = 64 * 1024
"""What `room()` waits for: more than most records take."""
_PLACE_BYTES = 192
"""The place in the queue, and what the id takes beside its object."""
_VALUE_BYTES = 64
"""A value without its text."""
_CHARACTER_BYTES = 4
"""A character, at most: what is exact takes a microsecond more."""
_WAITER_BYTES = 2048
_SMALL = frozenset((int, float, Decimal, type(None), uuid.UUID, _wire.MadeId))


def own(fields: Dict[str, Any]) -> None:
    """Copies what the caller may change before it is written."""
    metadata, units = fields.get("metadata"), fields.get("extra_units")
    if metadata is not None and not isinstance(metadata, str):
        fields["metadata"] = _wire.metadata_text(dict(metadata))
    if isinstance(units, dict):
        fields["extra_units"] = dict(units)


def bytes_of(item: Item, waiter: Optional[Waiter]) -> int:
    """What they take of the memory, at most: text that several records share is counted for each."""
    size = _PLACE_BYTES + getsizeof(item) + (0 if waiter is None else _WAITER_BYTES)
    if isinstance(item, bytes):
        return size
    size += _VALUE_BYTES * len(item)
    for value in item.values():
        kind = value.__class__
        if kind is str:
            size += _CHARACTER_BYTES * len(value)
        elif kind not in _SMALL:
            size += getsizeof(value)
            if kind is dict:  # The units.
                size += sum(map(getsizeof, value)) + sum(map(getsizeof, value.values()))
    return size
