"""Where the budgets stand, as the daemon said last, and whether a call is held back: answered without the network.

The sender thread writes, any thread asks. What was heard is one object that is replaced whole, so there is no lock.
"""

from __future__ import annotations

import re
import time
from typing import Any, Callable, Dict, FrozenSet, List, Mapping, Tuple

BELIEVED = 300.0
"""Seconds that the daemon's word is believed: five times as long as it takes to say it again. Then it is gone."""

_DIMENSIONS = ("provider", "model", "user", "app")
_DATE = re.compile(
    r"(?<=.)(?:[-@]20\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
    r"|-20\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01]))\Z",
    re.ASCII | re.DOTALL,
)
"""`-20250514`, `@20250514` or `-2025-05-14`: a year of this century, a month and a day that exist in some year."""


class _Heard:
    """What the daemon said at one time."""

    __slots__ = ("at", "budget", "everything", "single", "several")

    def __init__(self, told: Mapping[str, Any], at: float) -> None:
        self.at = at
        self.budget: Dict[str, Any] = dict(told.get("budget") or {})
        self.everything = bool(self.budget.get("should_throttle"))
        single: Dict[str, List[str]] = {name: [] for name in _DIMENSIONS}
        self.several: List[List[Tuple[str, FrozenSet[str]]]] = []
        """Scopes of several dimensions, all of which have to match."""
        for scope in told.get("used_up") or ():
            if not isinstance(scope, dict) or not all(name in single for name in scope):
                continue  # The daemon may know more dimensions: nobody here can tell whether a call counts.
            if not scope:
                self.everything = True
            elif len(scope) == 1:
                ((name, names),) = scope.items()
                single[name].extend(names)
            else:
                self.several.append([(name, frozenset(names)) for name, names in scope.items()])
        self.single = {name: frozenset(names) for name, names in single.items()}

    def holds_back(self, call: Mapping[str, str]) -> bool:
        if self.everything:
            return True

        def counts(dimension: str, names: FrozenSet[str]) -> bool:
            name = call.get(dimension)
            if not name or not names:
                return False
            if dimension == "provider":
                return name.strip().lower() in names
            return name in names or (dimension == "model" and _DATE.sub("", name) in names)

        return any(counts(dimension, names) for dimension, names in self.single.items()) or any(
            all(counts(dimension, names) for dimension, names in scope) for scope in self.several
        )


class Standing:
    """What was heard last, for as long as it is believed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard = _Heard({}, float("-inf"))

    def hear(self, told: Mapping[str, Any]) -> None:
        """The daemon has said this."""
        self._heard = _Heard(told, self._clock())

    @property
    def budget(self) -> Dict[str, Any]:
        """How the budgets of everything stand: `should_throttle`, `status`. Empty where there is none."""
        heard = self._heard
        return heard.budget if self._is_believed(heard) else {}

    def holds_back(self, call: Mapping[str, str]) -> bool:
        """Whether a budget that the call counts towards is used up."""
        heard = self._heard
        return self._is_believed(heard) and heard.holds_back(call)

    def _is_believed(self, heard: _Heard) -> bool:
        return self._clock() - heard.at < BELIEVED
