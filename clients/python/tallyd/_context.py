"""The user, endpoint and application of a call, from contextvars, for fields that a record leaves out."""

from __future__ import annotations

import contextlib
from contextvars import ContextVar, Token
from typing import Any, Dict, Iterator, Mapping, Optional

_fields: ContextVar[Optional[Mapping[str, Any]]] = ContextVar("tallyd_fields", default=None)


@contextlib.contextmanager
def context(**fields: Any) -> Iterator[None]:
    """Fields for each record made inside, unless it has its own: `with tallyd.context(user_id="u-42"): ...`.

    A value may be a function, which is called for each record. Contexts nest, and follow `await`.
    """
    token = enter(fields)
    try:
        yield
    finally:
        _fields.reset(token)


def enter(fields: Mapping[str, Any]) -> Token[Optional[Mapping[str, Any]]]:
    """As `context`, but without an end, for a context that ends by itself."""
    return _fields.set({**(_fields.get() or {}), **fields})


def current() -> Dict[str, Any]:
    """The fields of the current context. A value that is a function is called now."""
    fields = {}
    for name, value in (_fields.get() or {}).items():
        try:
            fields[name] = value() if callable(value) else value
        except Exception:  # An error in the application's function must not cost the record.
            continue
    return {name: value for name, value in fields.items() if value}


def complete(record: Dict[str, Any]) -> None:
    """Fills in fields that the record leaves out."""
    if _fields.get():
        for name, value in current().items():
            if not record.get(name):
                record[name] = value
