"""Who is being served: contextvars that fill in what a record leaves out."""

from __future__ import annotations

import contextlib
from contextvars import ContextVar, Token
from typing import Any, ContextManager, Dict, Iterator, Mapping, Optional

_fields: ContextVar[Optional[Mapping[str, Any]]] = ContextVar("tallyd_fields", default=None)


@contextlib.contextmanager
def context(**fields: Any) -> Iterator[None]:
    """Gives every record inside these fields, unless it has its own: `with tallyd.context(user_id="u-42"): ...`."""
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
    """`context` without an end, for a context that ends by itself. Tags are added to those around it."""
    outer = _fields.get() or {}
    both = {**outer, **fields}
    if fields.get("tags") and outer.get("tags"):
        both["tags"] = {**outer["tags"], **fields["tags"]}
    return _fields.set(both)


def current() -> Dict[str, Any]:
    """The fields of here and now. A value that is a function is asked now, not when the context was made."""
    fields = {}
    for name, value in (_fields.get() or {}).items():
        try:
            fields[name] = value() if callable(value) else value
        except Exception:  # An application's function; its fault must not cost the record.
            continue
    return {name: value for name, value in fields.items() if value}


def complete(record: Dict[str, Any]) -> None:
    """Fills in what the record leaves out."""
    if _fields.get():
        for name, value in current().items():
            if name == "tags" and record.get(name):
                record[name] = {**value, **record[name]}
            elif not record.get(name):
                record[name] = value
