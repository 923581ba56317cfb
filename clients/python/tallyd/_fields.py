"""Written from protocol/src/fields.rs by `make snapshots`. Change the source, not this file."""

from typing import Any, Tuple

FIELDS: Tuple[Tuple[str, Any], ...] = (
    ("id", None),
    ("occurred_at", None),
    ("provider", None),
    ("model", ""),
    ("endpoint", ""),
    ("user_id", ""),
    ("app", ""),
    ("request_id", ""),
    ("input_tokens", 0),
    ("output_tokens", 0),
    ("cache_read_tokens", 0),
    ("cache_write_5m_tokens", 0),
    ("cache_write_1h_tokens", 0),
    ("requests", 1),
    ("extra_units", {}),
    ("service_tier", "standard"),
    ("status", 200),
    ("latency_ms", None),
    ("cost_usd", None),
    ("metadata", None),
    ("platform", ""),
    ("tags", {}),
)
"""Each field's name and default, in the order of the protocol; None: nothing is said."""
