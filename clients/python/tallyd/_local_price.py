"""A call's cost by the last known prices, for times when the daemon does not answer.

The stored cost is always the daemon's.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Mapping, Optional

from ._answers import ModelRates, PricingInfo

_RATES = (
    ("input_tokens", "inputPerMToken"),
    ("output_tokens", "outputPerMToken"),
    ("cache_read_tokens", "cacheReadPerMToken"),
    ("cache_write_5m_tokens", "cacheWrite5mPerMToken"),
    ("cache_write_1h_tokens", "cacheWrite1hPerMToken"),
)
_PROMPT = ("input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
_DATE = re.compile(r"-\d{8}$")


def local_price(prices: PricingInfo, rentcast: Decimal, record: Mapping[str, Any]) -> Optional[Decimal]:
    """The cost in USD; None if a price or a unit is not known here."""
    if record.get("cost_usd") is not None:
        return Decimal(record["cost_usd"])
    if record.get("extra_units") or (record.get("service_tier") or "standard") != "standard":
        return None
    if record["provider"] == "rentcast":
        requests = record.get("requests")
        return rentcast * (1 if requests is None else int(requests))
    name = str(record.get("model") or "").strip().lower()
    # A date at the end of a model's name does not change the price.
    model = prices["claude"].get(name) or prices["claude"].get(_DATE.sub("", name))
    if record["provider"] != "claude" or model is None:
        return None
    prompt = sum(int(record.get(field) or 0) for field in _PROMPT)
    rates: ModelRates = model
    for larger in model["above"]:
        if prompt > larger["promptTokens"]:
            rates = larger
    cost = Decimal(0)
    for field, rate in _RATES:
        tokens = int(record.get(field) or 0)
        per_million: Optional[Decimal] = rates[rate]  # type: ignore[literal-required]
        if tokens > 0 and per_million is None:
            return None
        cost += tokens * (per_million or Decimal(0)) / 1_000_000
    return cost
