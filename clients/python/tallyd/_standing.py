"""The state of budgets by the daemon's last message, and whether a call may be made. Needs no network.

The sender thread writes, any thread reads. Each message is one object, replaced as a whole, so there is no lock.
"""

from __future__ import annotations

import functools
import time
from decimal import Decimal, InvalidOperation
from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional, Union

from ._scopes import Call, Scopes, in_words

BELIEVED = 300.0
"""How long the daemon's last message counts, in seconds: five of the intervals at which the daemon repeats it."""

Estimate = Union[Decimal, int, float, str]


class Check(NamedTuple):
    """Whether a call may be made, and why not. True if it may be."""

    allowed: bool
    known: bool = True
    """Whether the daemon has sent the state of budgets within the last 5 minutes. If not, `deny_unknown` decides."""
    reason: str = ""
    """Of a refused call: the reason as a sentence, such as `the budget of tag team "search" is used up`."""
    scope: Optional[Mapping[str, str]] = None
    """Of a refused call: the budget's scope, such as `{"tag:team": "search"}`. `{}` is all spend."""
    remaining: Optional[Decimal] = None
    """USD: the least that remains of the budgets that the call counts towards, 0 once one is used up. The daemon names
    the amount from a budget's warning on; None before it, and without such a budget."""

    def __bool__(self) -> bool:
        return self.allowed


class BudgetExceeded(Exception):
    """A call that was not made, because `check` refused it."""

    def __init__(self, check: Check) -> None:
        super().__init__(check)
        self.check = check

    def __str__(self) -> str:
        return f"tallyd: the call was not made: {self.check.reason}"


_ALLOWED = Check(True)
UNKNOWN = Check(True, known=False)
_DENIED = Check(False, False, "the state of budgets is not known, and the recorder is set to deny calls then")


def _exact(estimate: Any) -> Optional[Decimal]:
    try:
        exact = Decimal(estimate)
    except (InvalidOperation, TypeError, ValueError):
        return None
    return exact if exact.is_finite() and (not exact.is_signed() or not exact) else None


_exact_text = functools.lru_cache(maxsize=1024)(_exact)
"""An application has few estimates, and asks before each call."""


def amount(estimate: Estimate) -> Decimal:
    """The estimate, by its decimal text. Raises ValueError if it is not a finite number that is at least 0."""
    text = float.__repr__(estimate) if isinstance(estimate, float) else estimate
    exact = _exact_text(text) if isinstance(text, str) else _exact(text)
    if exact is not None:
        return exact
    raise ValueError(f"tallyd: the estimate is {estimate!r}. It must be an amount in USD: a finite number, at least 0")


class _Heard:
    """One message of the daemon, and its time."""

    __slots__ = ("at", "budget", "scopes")

    def __init__(self, told: Mapping[str, Any], at: float) -> None:
        self.at = at
        self.budget: Dict[str, Any] = dict(told.get("budget") or {})
        self.scopes = Scopes()
        if self.budget.get("should_throttle"):
            self.scopes.add({})
        for scope in told.get("used_up") or ():
            self.scopes.add(scope)
        for one in told.get("left") or ():
            try:
                usd = amount(one["usd"])
                self.scopes.add(one["scope"], usd, Check(True, remaining=usd))
            except (KeyError, TypeError, ValueError):
                continue  # A newer daemon's form.


class Standing:
    """The daemon's last message, for as long as it counts. `denies`: refuse calls while the state is not known."""

    def __init__(self, denies: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._unknown = _DENIED if denies else UNKNOWN
        self._heard = _Heard({}, float("-inf"))

    def hear(self, told: Mapping[str, Any]) -> None:
        """Takes the daemon's message."""
        self._heard = _Heard(told, self._clock())

    @property
    def budget(self) -> Dict[str, Any]:
        """State of the budgets of everything: `should_throttle`, `status`. Empty without such a budget or a message."""
        heard = self._heard
        return heard.budget if self._clock() - heard.at < BELIEVED else {}

    def check(self, call: Call, estimate: Optional[Decimal] = None) -> Check:
        """Whether the call may be made."""
        heard = self._heard
        if self._clock() - heard.at >= BELIEVED:
            return self._unknown
        least = heard.scopes.least(call)
        if least is None:
            return _ALLOWED
        if least.refused is not None:
            refused: Check = least.refused
            return refused
        usd = least.usd
        if usd is not None and (estimate is None or estimate <= usd):
            answer: Check = least.answer
            return answer
        scope = least.scope(call)
        why = "is used up" if usd is None else f"has {usd:f} USD left, and the call may cost {estimate:f} USD"
        reason = f"the budget of {in_words(scope)} {why}"
        refused = Check(False, True, reason, scope, Decimal(0) if usd is None else usd)
        if usd is None and least.has_one_name_each:
            least.refused = refused
        return refused
