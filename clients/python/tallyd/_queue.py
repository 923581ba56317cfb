"""What waits to be sent: records as they were given, or encoded already, and how much memory they may take."""

from __future__ import annotations

from operator import length_hint
from sys import getsizeof
from typing import Any, Dict, Optional, Tuple, Union

from ._sender import Waiter

Item = Union[Dict[str, Any], bytes]
Waiting = Tuple[Optional[Item], Optional[Waiter], int]
"""A record and who waits for it, with the bytes that they take. Without a record: who waits for those before."""

ROOM_BYTES = 64 * 1024
"""What `room()` waits for: more than most records take."""
_PLACE_BYTES = 192
"""The place in the queue, and what the id takes beside its object."""
_VALUE_BYTES = 128
"""A value without its text, and its place among the fields."""
_CHARACTER_BYTES = 4
"""A character, at most: what is exact takes a microsecond more."""
_UNIT_BYTES = 256
"""A unit or a tag."""
_WAITER_BYTES = 2048


def bytes_of_fields(fields: Dict[str, Any], waiter: Optional[Waiter]) -> int:
    """What a record may take of the memory: text that several share is counted for each. `record()` waits for this."""
    characters = sum(map(length_hint, fields.values()))
    size = _PLACE_BYTES + _VALUE_BYTES * len(fields) + _CHARACTER_BYTES * characters
    for entries in (fields.get("extra_units"), fields.get("tags")):
        if entries and isinstance(entries, dict):
            size += sum(
                _UNIT_BYTES + _CHARACTER_BYTES * (len(str(name)) + length_hint(entries[name])) for name in entries
            )
    return size if waiter is None else size + _WAITER_BYTES


def bytes_of(item: Item, waiter: Optional[Waiter]) -> int:
    """What a record takes, encoded or not."""
    if isinstance(item, dict):
        return bytes_of_fields(item, waiter)
    return _PLACE_BYTES + getsizeof(item) + (0 if waiter is None else _WAITER_BYTES)
