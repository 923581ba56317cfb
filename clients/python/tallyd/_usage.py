"""What a provider's answer says was used, as fields of a record. Pure: JSON in, fields out.

The record's token buckets are disjoint; providers differ in what they count twice:

* Anthropic's `input_tokens` leave out everything cached. `cache_creation` splits writes by lifetime; without it they
  are of 5 minutes, the default there.
* OpenAI's `prompt_tokens` and `input_tokens` hold the cached and the written ones; its audio tokens, in both
  directions, have a price of their own and become extra units.

What the catalog has no rate for makes the call *unpriced*, which somebody sees. Leaving it out would make it cheap.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional

Fields = Dict[str, Any]


def _count(usage: Mapping[str, Any], *path: str) -> int:
    """The integer at this path, 0 where there is none."""
    value: Any = usage
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, int) and value > 0 else 0


def _units(**counts: int) -> Fields:
    units = {name: count for name, count in counts.items() if count}
    return {"extra_units": units} if units else {}


def anthropic(usage: Mapping[str, Any]) -> Fields:
    """The fields of Anthropic's `usage`, of a message or of a stream's last event."""
    written = _count(usage, "cache_creation_input_tokens")
    hour = _count(usage, "cache_creation", "ephemeral_1h_input_tokens")
    short = _count(usage, "cache_creation", "ephemeral_5m_input_tokens") or max(0, written - hour)
    tier = usage.get("service_tier") or "standard"
    if usage.get("speed") == "fast":
        tier = "fast" if tier == "standard" else f"{tier}-fast"
    return {
        "input_tokens": _count(usage, "input_tokens"),
        "output_tokens": _count(usage, "output_tokens"),
        "cache_read_tokens": _count(usage, "cache_read_input_tokens"),
        "cache_write_5m_tokens": short,
        "cache_write_1h_tokens": hour,
        "service_tier": tier,
        **_units(web_search=_count(usage, "server_tool_use", "web_search_requests")),
    }


def openai(usage: Mapping[str, Any], body: Mapping[str, Any]) -> Fields:
    """The fields of OpenAI's `usage`: chat completions, completions, embeddings, responses."""
    prompt = "input_tokens" if "input_tokens" in usage else "prompt_tokens"
    answer = "output_tokens" if "input_tokens" in usage else "completion_tokens"
    cached = _count(usage, prompt + "_details", "cached_tokens")
    written = _count(usage, prompt + "_details", "cache_write_tokens")
    heard = _count(usage, prompt + "_details", "audio_tokens")
    spoken = _count(usage, answer + "_details", "audio_tokens")
    output = body.get("output")
    calls = [item.get("type") for item in output if isinstance(item, Mapping)] if isinstance(output, list) else []
    return {
        "input_tokens": max(0, _count(usage, prompt) - cached - written - heard),
        "output_tokens": max(0, _count(usage, answer) - spoken),
        "cache_read_tokens": cached,
        "cache_write_5m_tokens": written,
        "service_tier": openai_tier(body.get("service_tier")),
        **_units(
            audio_input_token=heard,
            audio_output_token=spoken,
            file_search=calls.count("file_search_call"),
            web_search=calls.count("web_search_call"),
        ),
    }


def openai_tier(tier: Optional[str]) -> str:
    """OpenAI's names for what it charges the standard price for are `default` and `auto`."""
    return "standard" if tier in (None, "", "default", "auto") else str(tier)


def litellm(usage: Mapping[str, Any], body: Mapping[str, Any]) -> Fields:
    """The fields of LiteLLM's `usage`, which counts OpenAI's way whatever the provider."""
    details = usage.get("prompt_tokens_details") or {}
    read = _count(usage, "cache_read_input_tokens") or _count(usage, "prompt_tokens_details", "cached_tokens")
    hour = _count(details, "cache_creation_token_details", "ephemeral_1h_input_tokens")
    written = _count(usage, "cache_creation_input_tokens") or _count(details, "cache_creation_tokens")
    written = max(written, _count(details, "cache_write_tokens"), hour)
    heard = _count(details, "audio_tokens")
    spoken = _count(usage, "completion_tokens_details", "audio_tokens")
    searches = _count(usage, "server_tool_use", "web_search_requests") or _count(details, "web_search_requests")
    tier = usage.get("service_tier") or body.get("service_tier")
    return {
        "input_tokens": max(0, _count(usage, "prompt_tokens") - read - written - heard),
        "output_tokens": max(0, _count(usage, "completion_tokens") - spoken),
        "cache_read_tokens": read,
        "cache_write_5m_tokens": written - hour,
        "cache_write_1h_tokens": hour,
        "service_tier": openai_tier(tier),
        **_units(audio_input_token=heard, audio_output_token=spoken, web_search=searches),
    }
