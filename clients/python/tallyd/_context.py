"""The user, endpoint and application of a call, from contextvars, for fields that a record leaves out."""

from __future__ import annotations

import contextlib
from contextvars import ContextVar, Token
from typing import Any, ContextManager, Dict, Iterator, Mapping, Optional

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


def tags(*given: Mapping[str, Any], **named: Any) -> ContextManager[None]:
    """Gives every record inside these tags beside its own: `with tallyd.tags(team="search"): ...`."""
    said: Dict[str, Any] = {}
    for mapping in (*given, named):
        said.update(mapping)
    return context(tags=said)


def enter(fields: Mapping[str, Any]) -> Token[Optional[Mapping[str, Any]]]:
    """As `context`, but without an end, for a context that ends by itself. Tags add to the outer ones."""
    outer = _fields.get() or {}
    both = {**outer, **fields}
    if fields.get("tags") and outer.get("tags"):
        both["tags"] = {**outer["tags"], **fields["tags"]}
    return _fields.set(both)


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
            if name == "tags" and record.get(name):
                record[name] = {**value, **record[name]}
            elif not record.get(name):
                record[name] = value
