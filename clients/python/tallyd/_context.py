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


def is_given() -> bool:
    """Whether there is a context."""
    return _fields.get() is not None


def value(name: str) -> Any:
    """One field of the current context, as `current` has it; None without it."""
    given = (_fields.get() or {}).get(name)
    try:
        return given() if callable(given) else given
    except Exception:  # An error in the application's function must not cost the record.
        return None


def current() -> Dict[str, Any]:
    """The fields of the current context. A value that is a function is called now."""
    fields = {name: value(name) for name in _fields.get() or ()}
    return {name: field for name, field in fields.items() if field}


def complete(record: Dict[str, Any]) -> None:
    """Fills in fields that the record leaves out."""
    if _fields.get():
        for name, field in current().items():
            if name == "tags" and record.get(name):
                record[name] = {**field, **record[name]}
            elif not record.get(name):
                record[name] = field
