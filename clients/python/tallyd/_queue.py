"""Records that wait to be sent, as given or encoded, and bounds of their memory."""

from __future__ import annotations

from operator import length_hint
from sys import getsizeof
from typing import Any, Dict, Optional, Tuple, Union

from ._sender import Waiter

Item = Union[Dict[str, Any], bytes]
Waiting = Tuple[Optional[Item], Optional[Waiter], int, int]
"""A record, its waiter, their bytes, and the record's number in the spool, or 0.

Without a record: a waiter for the records before it.
"""

ROOM_BYTES = 64 * 1024
"""The free bytes that `room()` waits for: more than most records need."""
_PLACE_BYTES = 192
"""A place in the queue, and the id's share beside its object."""
_VALUE_BYTES = 128
"""A value without its text, and its place among the fields."""
_CHARACTER_BYTES = 4
"""An upper bound of a character: an exact figure takes a microsecond more."""
_UNIT_BYTES = 256
"""A unit or a tag."""
_WAITER_BYTES = 2048


def bytes_of_fields(fields: Dict[str, Any], waiter: Optional[Waiter]) -> int:
    """An upper bound of a record's memory. Shared text counts in full. Must be fast: `record()` waits for it."""
    characters = sum(map(length_hint, fields.values()))
    size = _PLACE_BYTES + _VALUE_BYTES * len(fields) + _CHARACTER_BYTES * characters
    for entries in (fields.get("extra_units"), fields.get("tags")):
        if entries and isinstance(entries, dict):
            size += sum(
                _UNIT_BYTES + _CHARACTER_BYTES * (len(str(name)) + length_hint(entries[name])) for name in entries
            )
    return size if waiter is None else size + _WAITER_BYTES


def bytes_of(item: Item, waiter: Optional[Waiter]) -> int:
    """The bytes of a record, encoded or not."""
    if isinstance(item, dict):
        return bytes_of_fields(item, waiter)
    return _PLACE_BYTES + getsizeof(item) + (0 if waiter is None else _WAITER_BYTES)
