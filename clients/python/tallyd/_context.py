"""Who is being served: contextvars that fill in what a record leaves out."""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from typing import Any, Dict, Iterator, Mapping, Optional

_fields: ContextVar[Optional[Mapping[str, Any]]] = ContextVar("tallyd_fields", default=None)


@contextlib.contextmanager
def context(**fields: Any) -> Iterator[None]:
    """Gives every record inside these fields, unless it has its own: `with tallyd.context(user_id="u-42"): ...`."""
    token = _fields.set({**(_fields.get() or {}), **fields})
    try:
        yield
    finally:
        _fields.reset(token)


def complete(record: Dict[str, Any]) -> None:
    """Fills in what the record leaves out."""
    for name, value in (_fields.get() or {}).items():
        if value and not record.get(name):
            record[name] = value
