"""Middleware that sets `user_id` and `endpoint` of each record that is made while a request is served.

`WsgiMiddleware` is for Flask, Django and the like, `AsgiMiddleware` for FastAPI, Starlette, Django. With both, the
application's own context variables keep working, also while a body is streamed. A thread that the application starts
does not inherit the context: start it with `contextvars.copy_context().run`.
"""

from __future__ import annotations

import contextvars
import re
from typing import Any, Awaitable, Callable, Iterable, Iterator, MutableMapping, Optional

from ._context import context, enter

_ID = re.compile(r"/(?:\d+|[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|[0-9a-fA-F]{16,}|[^/]{40,})(?=/|$)")

Scope = MutableMapping[str, Any]
User = Callable[[Any], Optional[str]]


def shorten(path: str) -> str:
    """A path as an endpoint: parts that look like ids become `{id}`, so that endpoints stay few."""
    return _ID.sub("/{id}", path)


class WsgiMiddleware:
    """Wraps a WSGI application.

    `user(environ)` returns the user's id, or None. It is called when a call is recorded, after the application's
    authentication; default: `REMOTE_USER`. `endpoint(environ)` is called then, too; default: the shortened path.
    """

    def __init__(
        self,
        app: Callable[..., Iterable[bytes]],
        user: Optional[User] = None,
        endpoint: Optional[Callable[[Any], str]] = None,
    ) -> None:
        self._app = app
        self._user = user or (lambda environ: environ.get("REMOTE_USER"))
        self._endpoint = endpoint or (lambda environ: shorten(environ.get("PATH_INFO") or "/"))

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        def serve() -> Iterable[bytes]:
            enter({"user_id": lambda: self._user(environ), "endpoint": lambda: self._endpoint(environ)})
            return self._app(environ, start_response)

        copy = contextvars.copy_context()
        body = copy.run(serve)
        return body if isinstance(body, (list, tuple)) else _Body(body, copy)


class _Body:
    """A body that is produced in the context of its request."""

    def __init__(self, body: Iterable[bytes], copy: contextvars.Context) -> None:
        self._body, self._copy = body, copy
        self._iterator: Optional[Iterator[bytes]] = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._iterator is None:
            self._iterator = self._copy.run(iter, self._body)
        return self._copy.run(next, self._iterator)

    def close(self) -> None:
        close = getattr(self._body, "close", None)
        if close is not None:
            self._copy.run(close)


class AsgiMiddleware:
    """Wraps an ASGI application.

    `user(scope)` and `endpoint(scope)` are as for WSGI, but get the connection's scope. The default user is the one of
    authentication middleware (`scope["user"].identity`), the default endpoint the route's own path.
    """

    def __init__(
        self,
        app: Callable[..., Awaitable[None]],
        user: Optional[User] = None,
        endpoint: Optional[Callable[[Any], str]] = None,
    ) -> None:
        self._app = app
        self._user = user or _scope_user
        self._endpoint = endpoint or _scope_endpoint

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        with context(user_id=lambda: self._user(scope), endpoint=lambda: self._endpoint(scope)):
            await self._app(scope, receive, send)


def _scope_user(scope: Scope) -> Optional[str]:
    identity = getattr(scope.get("user"), "identity", None)
    return str(identity) if identity else None


def _scope_endpoint(scope: Scope) -> str:
    route = getattr(scope.get("route"), "path", None)
    return str(route) if route else shorten(scope.get("path") or "/")
