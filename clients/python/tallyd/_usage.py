"""Converts vendors' usage into fields of a record. Pure: JSON in, fields out.

The record's token buckets are disjoint; vendors differ in the tokens that they count twice:

* Anthropic's `input_tokens` exclude cached tokens. A compaction is billed in addition to the answer; a declined attempt
  of a fallback is not billed.
* OpenAI's `prompt_tokens` and `input_tokens` include tokens read from and written to the cache, and audio and image
  tokens, which have rates of their own. Cached audio is part of both the cached tokens and the audio. Azure,
  OpenRouter, DeepSeek, Groq, Moonshot, xAI and LiteLLM use the same names, with some counts of their own.
* Gemini's prompt includes the cached content. Thoughts and the prompts of tools are separate.

A unit without a rate in the catalog makes the call unpriced. So does a count that is not understood; its name goes into
the metadata. Leaving it out would make the call too cheap. `clients/vectors/usage.json` has cases for every client.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Dict, List, Mapping, Optional, Set

from ._counts import Counts, Doubts, mapping, mappings, text

Fields = Dict[str, Any]

UNTOLD = {"tallyd.not_understood": "usage"}
"""Metadata of a call with unknown usage."""

_STANDARD = ("", "standard", "default", "auto", "global", "not_available")
"""Tiers without an effect on the price. The daemon decides about all others."""


def units(**counts: Any) -> Fields:
    units = {name: str(counts[name]) if isinstance(counts[name], float) else counts[name] for name in sorted(counts)}
    units = {name: count for name, count in units.items() if count not in (0, "0.0")}
    return {"extra_units": units} if units else {}


def model(model: Any) -> Fields:
    return {"model": model} if isinstance(model, str) and model else {}


def tier(*parts: Any) -> str:
    """Tier, speed and region as one text: `batch+us`."""
    return "+".join(part for part in map(text, parts) if part not in _STANDARD) or "standard"


def noted(doubts: Doubts, **more: Any) -> Fields:
    metadata = {**more, **doubts.metadata()}
    return {"metadata": metadata} if metadata else {}


def _charged(counts: Counts) -> Fields:
    """The vendor's own charge in USD: `cost` of OpenRouter and Perplexity.

    With the caller's own key, OpenRouter's `cost` is its fee, and the upstream vendor's charge is added. A cost of 0
    counts only from OpenRouter; for other vendors it means unknown.
    """
    path = "cost.total_cost" if "total_cost" in mapping(counts.get("cost")) else "cost"
    if counts.get(path) is None:
        return {}
    cost, own = counts.number(path), counts.get("is_byok")
    if own is True:
        cost += counts.number("cost_details.upstream_inference_cost")
    elif not cost and (own is not False or counts.get(path) != 0):
        return {}
    return {"cost_usd": format(Decimal(repr(cost)), "f")}


def _buckets(counts: Counts) -> List[int]:
    """Anthropic's buckets, for an answer or one iteration: input, output, cache read, 5-minute and 1-hour write."""
    found = [counts.count(name) for name in ("input_tokens", "output_tokens", "cache_read_input_tokens")]
    written = counts.count("cache_creation_input_tokens")
    five = counts.count("cache_creation.ephemeral_5m_input_tokens")
    hour = counts.count("cache_creation.ephemeral_1h_input_tokens")
    counts.part("output_tokens_details")
    if written >= five + hour:  # Writes that the split leaves out are those of five minutes, the default.
        return [*found, written - hour, hour]
    if written:
        counts.doubt("cache_creation_input_tokens")
    return [*found, five, hour]


def anthropic(message: Mapping[str, Any]) -> Optional[Fields]:
    """The usage fields of an answer in Anthropic's form; None without usage."""
    usage = mapping(message.get("usage"))
    if "input_tokens" not in usage and "output_tokens" not in usage:
        return None
    doubts = Doubts()
    counts = Counts(usage, "usage", doubts)
    used = _buckets(counts)
    # A refusal before any output is not billed.
    refused = message.get("stop_reason") == "refusal" and not used[1]
    if refused:
        used = [0] * len(used)
    searches = counts.count("server_tool_use.web_search_requests")
    counts.part("server_tool_use.web_fetch_requests", "iterations", "fallback_credit")
    for iteration in mappings(usage.get("iterations")):
        kind = text(iteration.get("type"))
        if kind == "compaction":
            own = Counts(iteration, "usage.iterations.compaction", doubts)
            used = [sum(pair) for pair in zip(_buckets(own), used)]
            own.rest()
        elif kind not in ("message", "fallback_message"):
            counts.doubt(f"iterations.{kind}")
    # The bill then counts some cache writes as reads, and the usage does not say how many.
    if mapping(mapping(usage.get("fallback_credit")).get("status")).get("type") == "redeemed":
        counts.doubt("fallback_credit")
    cost = _charged(counts)
    counts.rest()
    return {
        **model(message.get("model")),
        "input_tokens": used[0],
        "output_tokens": used[1],
        "cache_read_tokens": used[2],
        "cache_write_5m_tokens": used[3],
        "cache_write_1h_tokens": used[4],
        "service_tier": tier(usage.get("service_tier"), usage.get("speed"), usage.get("inference_geo")),
        **units(web_search=searches),
        **cost,
        **(noted(doubts, unbilled="refusal") if refused else noted(doubts)),
    }


def openai(answer: Mapping[str, Any]) -> Optional[Fields]:
    """The usage fields in OpenAI's form: chat, responses, embeddings, images, transcriptions, realtime. Else None."""
    usage = mapping(answer.get("usage"))
    if not usage:
        return None
    doubts = Doubts()
    counts = Counts(usage, "usage", doubts)
    names = ("input_token", "output_token") if "input_tokens" in usage else ("prompt_token", "completion_token")
    # Realtime and transcriptions use the singular.
    asked, said = (f"{name}_details" if f"{name}_details" in usage else f"{name}s_details" for name in names)
    prompt, completion = (f"{name}s" for name in names)
    whole, output = counts.count(prompt), counts.count(completion)
    cached = counts.one(f"{asked}.cached_tokens", "prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens")
    written = counts.one(f"{asked}.cache_write_tokens", f"{asked}.cache_creation_tokens", "cache_creation_input_tokens")
    hour = counts.count(f"{asked}.cache_creation_token_details.ephemeral_1h_input_tokens")
    heard, seen = counts.count(f"{asked}.audio_tokens"), counts.count(f"{asked}.image_tokens")
    heard_again = counts.count(f"{asked}.cached_tokens_details.audio_tokens")
    seen_again = counts.count(f"{asked}.cached_tokens_details.image_tokens")
    spoken, drawn = counts.count(f"{said}.audio_tokens"), counts.count(f"{said}.image_tokens")
    thoughts, total = counts.count(f"{said}.reasoning_tokens"), counts.count("total_tokens")
    searches = counts.one("server_tool_use.web_search_requests", f"{asked}.web_search_requests")
    seconds = counts.number("seconds") if usage.get("type") == "duration" else 0
    counts.part(
        f"{asked}.text_tokens",
        f"{asked}.cached_tokens_details.text_tokens",
        f"{asked}.cache_creation_token_details.ephemeral_5m_input_tokens",
        f"{said}.text_tokens",
        f"{said}.accepted_prediction_tokens",
        f"{said}.rejected_prediction_tokens",
        "prompt_cache_miss_tokens",
        "server_tool_use.web_fetch_requests",
        "iterations",
    )
    # Embeddings and rankings of some vendors have a total only.
    if answer.get("object") == "list" and not whole and not output:
        whole = total
    if total and total == whole + output + thoughts:
        output = total - whole
    elif total and total != whole + output:
        counts.doubt("total_tokens")
    if cached and heard + seen and counts.get(f"{asked}.cached_tokens_details") is None:
        counts.doubt(f"{asked}.cached_tokens")
    heard_new = counts.less(f"{asked}.audio_tokens", heard, heard_again)
    seen_new = counts.less(f"{asked}.image_tokens", seen, seen_again)
    read = counts.less(f"{asked}.cached_tokens", cached, heard_again, seen_again)
    fields = {
        **model(answer.get("model")),
        "input_tokens": counts.less(prompt, whole, cached, written, heard_new, seen_new),
        "output_tokens": counts.less(completion, output, spoken, drawn),
        "cache_read_tokens": read,
        "cache_write_5m_tokens": counts.less(f"{asked}.cache_creation_token_details", written, hour),
        "cache_write_1h_tokens": hour,
    }
    # LiteLLM sums all attempts of Anthropic, including unbilled ones and those of other models.
    for kind in (text(one.get("type")) for one in mappings(usage.get("iterations"))):
        if kind not in ("message", "compaction"):
            counts.doubt(f"iterations.{kind}")
    fields.update(_charged(counts))
    counts.rest()
    called = _items(answer, doubts)
    called["web_search"] = called.get("web_search", 0) + searches
    told = answer.get("service_tier") or usage.get("service_tier")
    return {
        **fields,
        "service_tier": tier(told, usage.get("speed"), usage.get("inference_geo")),
        **units(
            audio_input_token=heard_new,
            audio_cache_read_token=heard_again,
            audio_output_token=spoken,
            audio_second=seconds,
            image_input_token=seen_new,
            image_cache_read_token=seen_again,
            image_output_token=drawn,
            **called,
        ),
        **noted(doubts),
    }


_TOKENS_ALONE = (
    "function_call",
    "custom_tool_call",
    "computer_call",
    "mcp_call",
    "local_shell_call",
    "apply_patch_call",
    "tool_search_call",
)
"""Calls within a response that cost only their tokens."""
_SEARCHES = re.compile("-search-(preview|api)")


def _items(answer: Mapping[str, Any], doubts: Doubts) -> Dict[str, int]:
    """Units that a response's items, or a model that always searches, cost in addition to tokens."""
    counts: Dict[str, int] = {}
    containers: Set[str] = set()
    if text(answer.get("object")).startswith("chat.completion") and _SEARCHES.search(text(answer.get("model"))):
        counts["web_search"] = 1
    for item in mappings(answer.get("output")):
        kind, container = text(item.get("type")), text(item.get("container_id"))
        if not kind.endswith("_call") or kind in _TOKENS_ALONE:
            continue
        unit = _billed_as(kind, item)
        if unit is None:
            doubts.add(f"output.{kind}")
        elif unit and not (unit == "code_interpreter" and container and container in containers):
            counts[unit] = counts.get(unit, 0) + 1
        containers.add(container)
    return counts


def _billed_as(kind: str, item: Mapping[str, Any]) -> Optional[str]:
    """The item's unit; empty if the item is not billed, None if that is unknown."""
    status, done = item.get("status"), item.get("status") in (None, "completed")
    if kind == "web_search_call":  # Opening a page, or searching in one, is not billed.
        return "web_search" if done and text(mapping(item.get("action")).get("type")) in ("", "search") else ""
    if kind == "file_search_call":
        return "file_search" if done else ""
    if kind == "image_generation_call":
        return "image_generation" if status != "failed" else ""
    if kind == "code_interpreter_call":
        return "code_interpreter"
    if kind == "shell_call" and mapping(item.get("environment")).get("type") in (None, "local"):
        return ""
    return None
