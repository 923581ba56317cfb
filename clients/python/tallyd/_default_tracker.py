"""The process's default tracker, made at its first use."""

from __future__ import annotations

import logging
import os
import threading
from decimal import Decimal
from typing import Any

from ._tracker import CostTracker, amount_of

_log = logging.getLogger("tallyd")


class _Default(CostTracker):
    """A tracker that makes its parts when one is first used, so that an import opens nothing."""

    def __init__(self) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if name not in CostTracker.__annotations__:
            raise AttributeError(name)
        with _lock:
            if "_background" not in self.__dict__:
                super().__init__(
                    _number("TALLYD_DAILY_BUDGET_USD", Decimal(50)),
                    int(_number("TALLYD_ALERT_THRESHOLD_PERCENT", Decimal(80))),
                )
        return self.__dict__[name]


def _number(name: str, otherwise: Decimal) -> Decimal:
    text = os.environ.get(name)
    if not text:
        return otherwise
    try:
        if (value := amount_of(text)) >= 0:
            return value
    except ValueError:
        pass
    _log.warning("tallyd: %s=%s is not an amount; %s holds", name, text, otherwise)
    return otherwise


_lock = threading.RLock()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()  # A thread of the parent may hold the old lock.


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

cost_tracker: CostTracker = _Default()
"""The process's tracker, made at its first use. Its settings: `TALLYD_ENDPOINT` or `TALLYD_SOCKET`, `TALLYD_HTTP`,
`TALLYD_HTTP_TOKEN`, `TALLYD_APP`, `TALLYD_DAILY_BUDGET_USD` and `TALLYD_ALERT_THRESHOLD_PERCENT`."""
