"""Records from answers that `instrument` did not see: fetched later, kept in a queue, or results of a batch.

The record's id is derived from the vendor's id of the answer. So an answer that a second run of the same job records
again is the same call. `clients/vectors/batches.json` has cases for every client.
"""

from __future__ import annotations

import json
import uuid
from typing import Any, Dict, Iterable, Iterator, Mapping, Optional

from ._counts import mapping
from ._stream import usage_of
from ._usage import UNTOLD

Fields = Dict[str, Any]

_NAMESPACE = uuid.UUID("6d0f4d1e-6d2b-5a7e-9a55-0f9a5f3b7c11")
_PROVIDERS = {"anthropic": "claude", "openai": "openai", "google": "google"}


def record_of(family: str, answer: Any, provider: Optional[str] = None) -> Fields:
    """The record of a complete answer, as keyword arguments for `record(**fields)`.

    `answer`: parsed JSON, or an object of the vendor's SDK. `family`: the form of its usage, `anthropic`, `openai` or
    `google`. `provider`: another vendor whose answers have that form. An answer without usage was paid for, so its
    record is unpriced. An answer without a vendor's id gets a new id at each call.
    """
    answer = _plain(answer)
    provider = provider or _PROVIDERS[family]
    fields = usage_of(family, answer)
    if fields is None:
        model = answer.get("model") or answer.get("modelVersion")
        fields = {**({"model": model} if isinstance(model, str) else {}), "metadata": dict(UNTOLD)}
    own = answer.get("responseId" if family == "google" else "id")
    if isinstance(own, str) and own:
        fields = {"id": str(uuid.uuid5(_NAMESPACE, f"{provider}\n{own}")), "request_id": own, **fields}
    made = answer.get("created") or answer.get("created_at")
    # OpenAI's SDK represents the time of a response as a float.
    if isinstance(made, (int, float)) and made > 0 and made % 1 == 0:
        fields["occurred_at"] = int(made) * 1_000_000
    return {"provider": provider, **fields}


def records_of_batch(family: str, results: Iterable[Any], provider: Optional[str] = None) -> Iterator[Fields]:
    """The records of a batch's results: lines of its file (text or bytes), or the SDK's objects.

    Their service tier is `batch`. Results that were not billed (errored, cancelled, expired) have no record.
    Raises ValueError with the line's number for a line that is not a result.
    """
    for number, result in enumerate(results, 1):
        if isinstance(result, (str, bytes)):
            if not result.strip():
                continue
            try:
                result = json.loads(result)
            except ValueError as error:
                raise ValueError(f"line {number} is not JSON: {error}") from None
        line = _plain(result)
        answer = _answer(family, line, number)
        if answer is None:
            continue
        fields = record_of(family, answer, provider)
        tiers = [tier for tier in fields.get("service_tier", "").split("+") if tier not in ("", "standard", "batch")]
        fields["service_tier"] = "+".join(["batch", *tiers])
        name = line.get("custom_id") or line.get("key")
        if isinstance(name, str) and name:
            fields["metadata"] = {"custom_id": name, **fields.get("metadata", {})}
        yield fields


def _answer(family: str, line: Mapping[str, Any], number: int) -> Optional[Mapping[str, Any]]:
    """The answer in a result; None if the vendor did not bill it."""
    if family == "anthropic" and "result" in line:
        result = mapping(line.get("result"))
        return mapping(result.get("message")) if result.get("type") == "succeeded" else None
    if family == "openai" and "response" in line:
        response = mapping(line.get("response"))
        return mapping(response.get("body")) if response.get("status_code") == 200 else None
    if family == "google" and ("response" in line or "error" in line):
        return mapping(line.get("response")) or None
    raise ValueError(f"line {number} is not a result of a batch of {family}'s")


def _plain(value: Any) -> Mapping[str, Any]:
    """An SDK's object as a mapping. A mapping is returned as it is."""
    dump = getattr(value, "model_dump", None)
    return mapping(dump(mode="json", by_alias=True, exclude_none=True) if callable(dump) else value)
