"""A callback for LiteLLM: `litellm.callbacks.append(TallydLogger())` records every call that goes through it.

LiteLLM calls it after each call has ended: plain and streamed, sync and async, success and failure. LiteLLM counts all
providers' tokens in OpenAI's form, and the record separates them again. The user comes from `user` or from
`user_api_key_user_id` in `metadata`, else from the context of the call. Its team, key and
`metadata["tags"]` become tags.

`TallydLogger(limits="enforce")` raises BudgetExceeded before an async call that `check` refuses; LiteLLM's proxy makes
its calls that way. A sync call cannot be refused by a callback of LiteLLM: use `tallyd.check` before it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from datetime import datetime
from typing import Any, Dict, Mapping, Optional

import litellm
from litellm.integrations.custom_logger import CustomLogger

from . import _context, _twice
from ._default import default_recorder
from ._instrument import _quietly, is_enforced
from ._recorder import Recorder
from ._standing import BudgetExceeded, Check
from ._usage import UNTOLD, openai

_PROVIDERS = {"anthropic": "claude", "text-completion-openai": "openai", "gemini": "google", "vertex_ai": "google"}
_CHARGES = ("openrouter", "perplexity")
"""Vendors whose usage includes their charge."""
_ASYNC = ("acompletion", "atext_completion", "aembedding", "aresponses", "aimage_generation", "arerank", "aspeech")
_REMEMBERED = 4096
_UNANSWERED = (408, 599)
"""LiteLLM's status of a call that timed out, and this module's status of a call without any."""


class _Refused(BudgetExceeded):
    status_code = 403
    """The proxy's answer. After a 403 its router neither repeats the call nor holds the deployment for broken."""


class TallydLogger(CustomLogger):
    """Records LiteLLM's calls with `recorder`, by default the process's one. `limits` is as for `instrument`."""

    def __init__(self, recorder: Optional[Recorder] = None, *, limits: Optional[str] = None) -> None:
        super().__init__()
        self._recorder = recorder
        self._enforces = is_enforced(limits)
        self._seen: OrderedDict[Any, None] = OrderedDict()
        self._lock = threading.Lock()

    async def async_pre_call_deployment_hook(self, kwargs: Any, call_type: Any) -> None:
        refused = _quietly(self._refused, kwargs) if self._enforces else None
        if refused is not None:
            raise _Refused(refused)

    def _refused(self, kwargs: Mapping[str, Any]) -> Optional[Check]:
        model, provider, *_ = litellm.get_llm_provider(
            kwargs.get("model") or "", custom_llm_provider=kwargs.get("custom_llm_provider")
        )
        metadata = kwargs.get("metadata") or kwargs.get("litellm_metadata") or {}
        check = self._to().check(
            provider=_PROVIDERS.get(provider, provider),
            model=model,
            user=str(kwargs.get("user") or metadata.get("user_api_key_user_id") or ""),
            tags={**_tags(metadata), **(_context.value("tags") or {})},
        )
        return None if check else check

    def _to(self) -> Recorder:
        return default_recorder() if self._recorder is None else self._recorder

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._record(kwargs, response_obj, start_time, end_time, None)

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._record(kwargs, response_obj, start_time, end_time, None)

    def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._record(kwargs, None, start_time, end_time, _status(kwargs))

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._record(kwargs, None, start_time, end_time, _status(kwargs))

    def _record(self, kwargs: Any, response: Any, start: Any, end: Any, status: Optional[int]) -> None:
        try:
            if isinstance(kwargs.get("exception"), BudgetExceeded):  # Not a call: it was not made.
                return
            if self._is_new((kwargs.get("litellm_call_id"), str(start), status)):
                fields = _fields(kwargs, _plain(response), start, end, status)
                _twice.record(self._to(), fields)
        except Exception:  # An error in recording must not fail the application's call.
            pass

    def _is_new(self, key: Any) -> bool:
        """Whether the call is new: LiteLLM reports some calls twice, to the sync and the async handler."""
        with self._lock:
            if key in self._seen:
                return False
            self._seen[key] = None
            while len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
            return True


def _fields(
    kwargs: Mapping[str, Any], body: Mapping[str, Any], start: Any, end: Any, status: Optional[int]
) -> Dict[str, Any]:
    parameters = kwargs.get("litellm_params") or {}
    provider = str(kwargs.get("custom_llm_provider") or parameters.get("custom_llm_provider") or "litellm")
    metadata = parameters.get("metadata") or {}
    optional = kwargs.get("optional_params") or {}
    user = kwargs.get("user") or optional.get("user") or metadata.get("user_api_key_user_id")
    context = _context.current()
    fields = {
        **context,
        "provider": _PROVIDERS.get(provider, provider),
        "endpoint": context.get("endpoint") or _kind(str(kwargs.get("call_type") or "completion")),
        "request_id": str(body.get("id") or ""),
        **(openai(body) or {}),
        "model": str(kwargs.get("model") or body.get("model") or ""),
        "status": status or 200,
    }
    # A call that timed out may have been billed, and one without usage was.
    if status in (None, *_UNANSWERED) and "input_tokens" not in fields:
        fields["metadata"] = dict(UNTOLD)
    if provider not in _CHARGES:  # Otherwise the cost is LiteLLM's estimate.
        fields.pop("cost_usd", None)
    if user:
        fields["user_id"] = str(user)
    tags = {**_tags(metadata), **(context.get("tags") or {})}
    if tags:
        fields["tags"] = tags
    if isinstance(start, datetime) and isinstance(end, datetime):
        fields["occurred_at"] = int(start.timestamp() * 1_000_000)
        fields["latency_ms"] = max(0, round((end - start).total_seconds() * 1000))
    if kwargs.get("cache_hit"):  # From LiteLLM's own cache: the provider was not asked.
        fields = {name: value for name, value in fields.items() if not name.endswith("_tokens")}
        fields.pop("extra_units", None)
        fields.update(requests=0, cost_usd=0, metadata={"cache_hit": True})
    return fields


def _tags(metadata: Mapping[str, Any]) -> Dict[str, str]:
    """LiteLLM's team and key, and the request's tags: `name:value` each, or a name alone."""
    tags: Dict[str, Any] = {
        "team": metadata.get("user_api_key_team_alias") or metadata.get("user_api_key_team_id"),
        "api_key": metadata.get("user_api_key"),
        "key_alias": metadata.get("user_api_key_alias"),
    }
    for tag in metadata.get("tags") or ():
        name, _, value = str(tag).partition(":")
        tags.setdefault(name.strip(), value.strip() or "true")
    # A tag beyond a record's bounds is left out: the call is worth more.
    told = [(name, str(value)) for name, value in tags.items() if name and value]
    return dict([(name, value) for name, value in told if len(name) <= 64 and len(value) <= 64][:16])


def _kind(call_type: str) -> str:
    """LiteLLM's name of the kind of call; sync and async calls are the same kind."""
    return call_type[1:] if call_type in _ASYNC else call_type


def _plain(response: Any) -> Mapping[str, Any]:
    """The answer as JSON has it; a mapping."""
    if str(getattr(response, "type", "")).startswith("response."):  # A stream's last event.
        response = getattr(response, "response", None)
    body = response.model_dump() if hasattr(response, "model_dump") else response
    if not isinstance(body, Mapping):
        return {}
    # `model_dump` of a response loses the counts, because its usage is not of the class that the response declares.
    dump = getattr(getattr(response, "usage", None), "model_dump", None)
    return {**body, "usage": dump()} if callable(dump) else body


def _status(kwargs: Mapping[str, Any]) -> int:
    status = getattr(kwargs.get("exception"), "status_code", None)
    return status if isinstance(status, int) and 400 <= status <= 999 else 599
