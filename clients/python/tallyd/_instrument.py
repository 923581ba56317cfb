"""`instrument(client)`: records every call of an Anthropic, OpenAI or Google client, from the usage in the answer.

The official SDKs send everything through one HTTP client (httpx, or httpx2). So its `send` is the one place where plain
calls, streams, `messages.stream()`, raw responses, retries and copies of the client (`with_options`) pass. The answer's
bytes are read while they pass; the application gets the same objects as without recording.

*One record per HTTP attempt.* An SDK that retries a 529 makes two calls, and both are recorded: the failure counts as
an error and costs nothing.

*The status* is the provider's, with three additions: an error inside a stream has the status of that error, 499 is a
stream that the application left before its end, 599 an attempt without a complete answer. A stream that ended early
has `{"incomplete": true}` in its metadata, because the provider bills tokens that it did not report. Unpriced are:
a call without any usage, and a call that was sent and not answered, which may have been billed.

*OpenAI's chat streams* report usage only on request. The request is added (`stream_options.include_usage`), and the
extra chunk removed, unless the application asked for it itself.

*Limits.* With `limits="enforce"` a call is checked when its request is built. The SDKs build a request outside of their
own handling of errors, so the application gets `BudgetExceeded` itself, at once; an error of `send` they would repeat,
and put into one of their own.

Other errors in this module never reach the application.
"""

from __future__ import annotations

import functools
import json
import re
import time
from typing import Any, Callable, Dict, Hashable, List, Optional, Set, Tuple, TypeVar
from urllib.parse import urlsplit

from . import _context, _twice
from ._answer import Answer
from ._default import default_recorder
from ._observed import observe
from ._recorder import Recorder
from ._standing import BudgetExceeded, Check
from ._usage import UNTOLD

Client = TypeVar("Client")

LEFT = 499
"""Status: the application left the stream before its end."""
UNANSWERED = 599
"""Status: no answer came, or it broke off."""

_BILLED: Dict[str, str] = {
    "anthropic": r"/(messages|complete)$|/model/[^/]+/invoke(-with-response-stream)?$|:(rawPredict|streamRawPredict)$",
    "openai": r"/(chat/completions|completions|responses|responses/compact|embeddings|rerank"
    r"|images/(generations|edits|variations)|audio/(speech|transcriptions|translations)|videos)$",
    "google": r":(generateContent|streamGenerateContent|embedContent|batchEmbedContents|predict|predictLongRunning)$",
}
"""Paths of billed calls. Lists, token counts, batches and files are not billed."""
_PROVIDERS = {"anthropic": "claude", "openai": "openai", "google": "google"}
_HOSTS = {
    "openrouter.ai": "openrouter",
    "api.deepseek.com": "deepseek",
    "api.x.ai": "xai",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral",
    "api.together.xyz": "together",
    "api.together.ai": "together",
    "api.fireworks.ai": "fireworks",
    "api.moonshot.ai": "moonshot",
    "api.moonshot.cn": "moonshot",
    "api.perplexity.ai": "perplexity",
    "generativelanguage.googleapis.com": "google",
}
"""Vendors behind the SDKs of others, by host."""
_ENDS = {
    ".openai.azure.com": "azure",
    ".services.ai.azure.com": "azure",
    ".cognitiveservices.azure.com": "azure",
    "aiplatform.googleapis.com": "vertex",
}
_UNSENT = ("Connect", "Pool", "UnsupportedProtocol")
"""Words in the names of httpx's errors that are raised before a request is sent."""
_NO_STREAM_OPTIONS = ("openrouter", "mistral", "perplexity")
"""Vendors that send a stream's usage without being asked."""


def instrument(
    client: Client,
    recorder: Optional[Recorder] = None,
    *,
    provider: Optional[str] = None,
    stream_usage: bool = True,
    limits: Optional[str] = None,
) -> Client:
    """Records the calls of this client, and of copies made of it. Returns the same client.

    `client`: an official SDK's `Anthropic`, `AsyncAnthropic`, `OpenAI`, `AsyncOpenAI`, `google.genai.Client` (its `aio`
    calls included, which then go through httpx rather than aiohttp), or a class derived from them. `recorder`: by
    default the process's one. `provider`: another vendor behind an SDK; known hosts (OpenRouter, DeepSeek, Azure …)
    need no name. `stream_usage=False` leaves OpenAI's chat requests unchanged, for servers that do not accept
    `stream_options`; their streams are recorded without tokens, and unpriced. `limits="enforce"`: a call that
    `Recorder.check` refuses is neither sent nor recorded, and raises BudgetExceeded. A second call changes nothing,
    except that it may add limits.

    Raises TypeError for another kind of client.
    """
    enforces = is_enforced(limits)
    family = _family(client)
    transports = _transports(client, family) if family else []
    if family is None or not transports:
        raise TypeError(
            f"{type(client).__name__} is no client of the anthropic, openai or google-genai SDK that uses httpx; "
            "meter_http() is for requests and httpx"
        )
    base = _base_url(client, family)
    provider = provider or _provider(urlsplit(base).hostname or "") or _PROVIDERS[family]
    key = ("sdk", id(recorder), family, provider, base)
    for http in transports:
        wrap(http, functools.partial(_begin, recorder, family, provider, stream_usage), key, base, enforces)
    return client


def is_enforced(limits: Optional[str]) -> bool:
    """Whether `limits` says so. Raises ValueError for another word."""
    if limits not in (None, "enforce"):
        raise ValueError(f'limits is {limits!r}; it may be "enforce"')
    return limits is not None


def _transports(client: object, family: str) -> List[Any]:
    """The HTTP clients that all requests go through; empty if one of them cannot be observed."""
    if family != "google":
        found = [getattr(client, "_client", None)]
    else:
        api = getattr(client, "_api_client", None)
        found = [getattr(api, "_httpx_client", None), getattr(api, "_async_httpx_client", None)]
        uses_google_auth = getattr(api, "_use_google_auth_sync", None)
        if callable(uses_google_auth) and uses_google_auth():
            return []
        if callable(getattr(api, "_use_aiohttp", None)):
            # Requests through aiohttp would not pass here.
            api._use_aiohttp = lambda: False  # type: ignore[union-attr]
    return found if all(callable(getattr(http, "send", None)) for http in found) else []


def _base_url(client: object, family: str) -> str:
    if family != "google":
        return str(getattr(client, "base_url", ""))
    options = getattr(getattr(client, "_api_client", None), "_http_options", None)
    return str(getattr(options, "base_url", "") or "")


def _provider(host: str) -> Optional[str]:
    if host.startswith("bedrock-runtime.") and "amazonaws.com" in host:
        return "bedrock"
    return _HOSTS.get(host) or next((name for end, name in _ENDS.items() if host.endswith(end)), None)


def _family(client: object) -> Optional[str]:
    roots = [base.__module__.split(".")[0] for base in type(client).__mro__]
    return next((root for root in roots if root in _BILLED), None)


Begin = Callable[[Any], Optional["Call"]]


class _Beginnings:
    """The instrumentations of one HTTP client, each once: several SDKs may share it. The first to take a request wins.

    The base URL distinguishes SDKs of one family. Requests to a base URL of none of them are offered to all.
    """

    def __init__(self) -> None:
        self._all: Dict[Hashable, Tuple[str, Begin]] = {}
        self._enforced: Set[Hashable] = set()

    def add(self, key: Hashable, base: str, begin: Begin, enforces: bool) -> None:
        # The longest base URL comes first, one without a base last.
        self._all.setdefault(key, (base, begin))
        self._all = dict(sorted(self._all.items(), key=lambda item: -len(item[1][0])))
        if enforces:
            self._enforced.add(key)

    def _begin(self, request: Any) -> Optional[Call]:
        url = str(request.url)
        own = [key for key, (base, _) in self._all.items() if base and url.startswith(base)]
        for key in own or self._all:
            call = self._all[key][1](request)
            if call is not None:
                call.enforces = key in self._enforced
                return call
        return None

    def built(self, request: Any) -> None:
        """Takes a request that was built. Raises BudgetExceeded if it may not be sent."""
        call = _quietly(self._begin, request)
        if call is not None:
            call.check()
            _quietly(setattr, request, "_tallyd_begun", call)

    def sent(self, request: Any) -> Optional[Call]:
        """The call of a request that is about to be sent; None: do not record. Raises BudgetExceeded as `built`."""
        call: Optional[Call] = getattr(request, "__dict__", {}).pop("_tallyd_begun", None)
        if call is None:
            call = _quietly(self._begin, request)
            if call is not None:
                call.check()
        return call


def wrap(http: Any, begin: Begin, key: Hashable, base: str = "", enforces: bool = False) -> None:
    """Puts `begin` before every `send` of an httpx client, sync or async. None from `begin`: do not record."""
    beginnings: Optional[_Beginnings] = getattr(http, "_tallyd", None)
    if beginnings is None:
        beginnings = http._tallyd = _Beginnings()
        _wrap_send(http, beginnings)
        _wrap_build(http, beginnings)
    beginnings.add(key, base, begin, enforces)


def _wrap_build(http: Any, beginnings: _Beginnings) -> None:
    build = getattr(http, "build_request", None)
    if build is None:  # A client of the application's own: `send` checks.
        return

    def built(*args: Any, **options: Any) -> Any:
        request = build(*args, **options)
        beginnings.built(request)
        return request

    http.build_request = functools.wraps(build)(built)


def _wrap_send(http: Any, beginnings: _Beginnings) -> None:
    send = http.send

    def observed(request: Any, *args: Any, **options: Any) -> Any:
        call = beginnings.sent(request)
        if call is None:
            return send(request, *args, **options)
        try:
            response = send(request, *args, **options)
        except BaseException as error:
            call.unanswered(error)
            raise
        _quietly(observe, response, call)
        return response

    async def observed_async(request: Any, *args: Any, **options: Any) -> Any:
        call = beginnings.sent(request)
        if call is None:
            return await send(request, *args, **options)
        try:
            response = await send(request, *args, **options)
        except BaseException as error:  # Includes a cancelled task.
            call.unanswered(error)
            raise
        _quietly(observe, response, call)
        return response

    is_async = hasattr(http, "aclose")
    http.send = functools.wraps(send)(observed_async if is_async else observed)


def _quietly(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except Exception:  # An error in recording must not fail the application's call.
        return None


def _begin(
    recorder: Optional[Recorder], family: str, provider: str, stream_usage: bool, request: Any
) -> Optional[Call]:
    path = urlsplit(str(request.url)).path
    if request.method != "POST" or not re.search(_BILLED[family], path):
        return None
    call = Call(recorder, {"provider": provider, "endpoint": path}, family)
    call.request = request
    if (
        family == "openai"
        and stream_usage
        and provider not in _NO_STREAM_OPTIONS
        and path.endswith("/chat/completions")
    ):
        call.hides_usage = _ask_for_usage(request)
    return call


def _ask_for_usage(request: Any) -> bool:
    """Asks a chat stream for its usage. False: the request is not a stream, or asks already."""
    content = request.content
    if b'"stream"' not in content:
        return False
    body = json.loads(content)
    options = body.get("stream_options") or {}
    if body.get("stream") is not True or options.get("include_usage") is not None:
        return False
    body["stream_options"] = {**options, "include_usage": True}
    changed = type(request)(request.method, request.url, content=json.dumps(body, ensure_ascii=False).encode())
    request.stream, request._content = changed.stream, changed.content
    request.headers["content-length"] = changed.headers["content-length"]
    return True


class Call:
    """One attempt, from before it is sent until its record is made. `settle` makes the record, once."""

    def __init__(self, recorder: Optional[Recorder], fields: Dict[str, Any], family: str = "") -> None:
        self.family = family
        self.fields = fields
        self.answer: Optional[Answer] = None
        self.request: Any = None
        self.hides_usage = False
        self.enforces = False
        self.status = 200
        # The context of now: a stream may be read to its end in another one.
        self._context = _context.current()
        self._recorder = recorder
        self._begun_us, self._begun = time.time_ns() // 1000, time.monotonic()
        self._settled = False
        self._is_answered = False

    def check(self) -> None:
        """Raises BudgetExceeded if limits are enforced and the call may not be made."""
        if self.enforces:
            refused = _quietly(self._refused)
            if refused is not None:
                raise BudgetExceeded(refused)

    def _refused(self) -> Optional[Check]:
        check = self._to().check(provider=self.fields["provider"], model=self._asked_model() if self.family else "")
        return None if check else check

    def _to(self) -> Recorder:
        return default_recorder() if self._recorder is None else self._recorder

    def answered(self, response: Any) -> None:
        """Takes the head of the answer."""
        headers = response.headers
        self._is_answered = True
        self.status = int(response.status_code)
        self.fields["request_id"] = headers.get("request-id") or headers.get("x-request-id") or ""
        if self.family and self.status < 400:
            self.answer = Answer(self.family, "text/event-stream" in headers.get("content-type", ""))

    def unanswered(self, error: BaseException) -> None:
        """No answer came, by the application's will or a failure. A request that was sent may have been billed."""
        if self.family and not any(word in type(error).__name__ for word in _UNSENT):
            self.fields["metadata"] = dict(UNTOLD)
        self.settle(UNANSWERED if isinstance(error, Exception) else LEFT)

    def settle(self, status: Optional[int] = None) -> None:
        """Makes the record, at the first call. Never raises."""
        if not self._settled:
            self._settled = True
            _quietly(self._record, status)

    def _record(self, status: Optional[int]) -> None:
        fields, answer = self.fields, self.answer
        incomplete = False
        if answer is not None:
            fields.update(answer.fields())
            incomplete = answer.is_stream and not answer.complete
            status = answer.failed or (None if answer.complete else status)
        elif self.family and self._is_answered and self.status < 400:  # The answer could not be read.
            fields["metadata"] = dict(UNTOLD)
        if self.family:
            fields["model"] = fields.get("model") or self._asked_model()
            # The served route says more than a provider's one path for all calls.
            fields["endpoint"] = self._context.get("endpoint") or fields["endpoint"]
        fields["status"] = status or self.status
        fields["latency_ms"] = round((time.monotonic() - self._begun) * 1000)
        fields["occurred_at"] = self._begun_us
        if incomplete or (fields["status"] in (LEFT, UNANSWERED) and self.family):
            fields["metadata"] = {"incomplete": True, **fields.get("metadata", {})}
        _twice.record(self._to(), {**self._context, **fields})

    def _asked_model(self) -> str:
        if self.family == "google":
            named = re.search(r"/models/([^/:]+):", urlsplit(str(self.request.url)).path)
            return named.group(1) if named else ""
        try:
            return str(json.loads(self.request.content).get("model") or "")
        except Exception:  # A streamed request, or not JSON: the model stays unknown.
            return ""
