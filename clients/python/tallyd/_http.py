"""`meter_http`: records the requests of a `requests` session or an httpx client to an API that bills by request."""

from __future__ import annotations

import functools
import re
import threading
from typing import Any, Callable, Iterable, Optional, TypeVar
from urllib.parse import urlsplit

from ._instrument import LEFT, UNANSWERED, Call, _quietly, is_enforced, wrap
from ._recorder import Recorder

Client = TypeVar("Client")

_VERSION = re.compile(r"^/v\d+(?=/)")


def endpoint_of(path: str) -> str:
    """The path without a version at its start: `/v1/avm/value` becomes `/avm/value`."""
    return _VERSION.sub("", path)


def is_billed(status: int) -> bool:
    """The usual rule: a failed request is not billed."""
    return status < 400


def meter_http(
    client: Client,
    provider: str,
    *,
    hosts: Iterable[str] = (),
    endpoint: Callable[[str], str] = endpoint_of,
    billed: Callable[[int], bool] = is_billed,
    recorder: Optional[Recorder] = None,
    limits: Optional[str] = None,
) -> Client:
    """Records each request as a call of `provider`. Returns the same client.

    `client`: a `requests.Session`, or an httpx `Client` or `AsyncClient`. `hosts`: record only requests to these hosts;
    default: all. `endpoint(path)` returns the record's endpoint for a URL's path: shorten paths that hold an id.
    `billed(status)` tells whether a request is charged (`requests` is 1 or 0); a request without an answer has
    status 599. Redirects and retries inside the client do not count as requests of their own. `limits` is as for
    `instrument`.

    Raises TypeError for another kind of client.
    """
    chosen, enforces = frozenset(hosts), is_enforced(limits)

    def begin(request: Any) -> Optional[Call]:
        url = urlsplit(str(request.url))
        if chosen and url.hostname not in chosen:
            return None
        return _Metered(recorder, {"provider": provider, "endpoint": endpoint(url.path)}, billed)

    kind = {base.__module__.split(".")[0] for base in type(client).__mro__}
    if "requests" in kind and hasattr(client, "send"):
        _wrap_session(client, begin, enforces)
    elif kind & {"httpx", "httpx2"} and hasattr(client, "send"):
        wrap(client, begin, ("http", id(recorder), provider, chosen), enforces=enforces)
    else:
        raise TypeError(f"{type(client).__name__} is neither a requests.Session nor an httpx client")
    return client


class _Metered(Call):
    """A call that is priced per request."""

    def __init__(self, recorder: Optional[Recorder], fields: Any, billed: Callable[[int], bool]) -> None:
        super().__init__(recorder, fields)
        self._billed = billed

    def _record(self, status: Optional[int]) -> None:
        self.fields["requests"] = int(self._billed(status or self.status))
        super()._record(status)


def _wrap_session(session: Any, begin: Callable[[Any], Optional[Call]], enforces: bool) -> None:
    if getattr(session, "_tallyd", False):
        return
    send, inside = session.send, threading.local()

    def observed(request: Any, **options: Any) -> Any:
        # A session follows redirects by calling send() from inside send().
        call = None if getattr(inside, "now", False) else _quietly(begin, request)
        if call is None:
            return send(request, **options)
        call.enforces = enforces
        call.check()
        inside.now = True
        try:
            response = send(request, **options)
        except BaseException as error:
            call.settle(UNANSWERED if isinstance(error, Exception) else LEFT)
            raise
        finally:
            inside.now = False
        _quietly(call.answered, response)
        call.settle()
        return response

    session.send = functools.wraps(send)(observed)
    session._tallyd = True
