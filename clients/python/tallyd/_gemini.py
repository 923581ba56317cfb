"""Converts usage in Gemini's form into fields of a record. See `_usage`."""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from ._counts import Counts, Doubts, mapping, mappings, text
from ._usage import Fields, model, noted, tier, units

_MODALITIES = ("TEXT", "AUDIO", "IMAGE", "VIDEO", "DOCUMENT", "MODALITY_UNSPECIFIED")


def google(body: Mapping[str, Any]) -> Optional[Fields]:
    """The usage fields of an answer; None without usage."""
    meta = mapping(body.get("usageMetadata"))
    if not meta:
        return None
    doubts = Doubts()
    counts = Counts(meta, "usageMetadata", doubts)
    prompt, cached = counts.count("promptTokenCount"), counts.count("cachedContentTokenCount")
    tool = counts.count("toolUsePromptTokenCount")
    said = counts.one("candidatesTokenCount", "responseTokenCount")
    thoughts, total = counts.count("thoughtsTokenCount"), counts.count("totalTokenCount")
    asked, again, tools, candidates, responses = (
        _modalities(counts, meta, name, doubts)
        for name in (
            "promptTokensDetails",
            "cacheTokensDetails",
            "toolUsePromptTokensDetails",
            "candidatesTokensDetails",
            "responseTokensDetails",
        )
    )
    heard, heard_again = asked("AUDIO") + tools("AUDIO"), again("AUDIO")
    spoken, drawn = candidates("AUDIO") + responses("AUDIO"), candidates("IMAGE") + responses("IMAGE")
    # Only Live models have a rate of their own for image and video input.
    seen = asked("IMAGE", "VIDEO") if "responseTokenCount" in meta else 0
    if total and total != prompt + said + thoughts + tool:
        counts.doubt("totalTokenCount")
    if cached and heard and not isinstance(meta.get("cacheTokensDetails"), list):
        counts.doubt("cachedContentTokenCount")
    heard_new = counts.less("promptTokensDetails", heard, heard_again)
    fields = {
        **model(body.get("modelVersion")),
        "input_tokens": counts.less("promptTokenCount", prompt + tool, cached, heard_new, seen),
        "cache_read_tokens": counts.less("cachedContentTokenCount", cached, heard_again),
        "output_tokens": counts.less("candidatesTokenCount", said, spoken, drawn) + thoughts,
    }
    counts.rest()
    traffic = text(meta.get("serviceTier") or meta.get("trafficType"))
    return {
        **fields,
        "service_tier": tier("" if traffic.endswith("UNSPECIFIED") else traffic),
        **units(
            audio_input_token=heard_new,
            audio_cache_read_token=heard_again,
            audio_output_token=spoken,
            image_input_token=seen,
            image_output_token=drawn,
            **_grounded(body),
        ),
        **noted(doubts),
    }


def _modalities(counts: Counts, meta: Mapping[str, Any], name: str, doubts: Doubts) -> Callable[..., int]:
    counts.part(name)
    told: List[Tuple[str, int]] = []
    for one in mappings(meta.get(name)):
        modality = text(one.get("modality")) or "MODALITY_UNSPECIFIED"
        if modality not in _MODALITIES:
            counts.doubt(f"{name}.{modality}")
        told.append((modality, Counts(one, f"usageMetadata.{name}", doubts).count("tokenCount")))
    return lambda *modalities: sum(count for modality, count in told if modality in modalities)


def _grounded(body: Mapping[str, Any]) -> Dict[str, int]:
    """Units of searches: up to Gemini 2.5 one per prompt, from Gemini 3 on one per query."""
    queries = maps = 0
    for candidate in mappings(body.get("candidates")):
        grounding = mapping(candidate.get("groundingMetadata"))
        asked = grounding.get("webSearchQueries")
        queries += sum(query != "" for query in asked) if isinstance(asked, list) else 0
        if any("maps" in chunk for chunk in mappings(grounding.get("groundingChunks"))):
            maps = 1
    is_by_query = re.match(r"gemini-([3-9]|\d\d)", text(body.get("modelVersion")))
    return {"web_search": queries if is_by_query else min(1, queries), "maps_search": maps}
