"""The state of budgets by the daemon's last message, and whether a call should be held back. Needs no network.

The sender thread writes, any thread reads. Each message is one object, replaced as a whole, so there is no lock.
"""

from __future__ import annotations

import re
import time
from typing import Any, Callable, Dict, FrozenSet, List, Mapping, Tuple

BELIEVED = 300.0
"""How long the daemon's last message counts, in seconds: five of the intervals at which the daemon repeats it."""

_DIMENSIONS = ("provider", "model", "user", "app")
_DATE = re.compile(
    r"(?<=.)(?:[-@]20\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
    r"|-20\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01]))\Z",
    re.ASCII | re.DOTALL,
)
"""`-20250514`, `@20250514` or `-2025-05-14`: a year of this century, a month and a day that exist in some year."""


class _Heard:
    """One message of the daemon, and its time."""

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
                continue  # A newer daemon may know more dimensions. This client cannot match them.
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
    """The daemon's last message, for as long as it counts."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard = _Heard({}, float("-inf"))

    def hear(self, told: Mapping[str, Any]) -> None:
        """Takes the daemon's message."""
        self._heard = _Heard(told, self._clock())

    @property
    def budget(self) -> Dict[str, Any]:
        """State of the budgets of everything: `should_throttle`, `status`. Empty without such a budget or a message."""
        heard = self._heard
        return heard.budget if self._is_believed(heard) else {}

    def holds_back(self, call: Mapping[str, str]) -> bool:
        """Whether a budget that the call counts towards is used up."""
        heard = self._heard
        return self._is_believed(heard) and heard.holds_back(call)

    def _is_believed(self, heard: _Heard) -> bool:
        return self._clock() - heard.at < BELIEVED
