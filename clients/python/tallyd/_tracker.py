"""A drop-in for a tracker that kept its numbers in memory: the same members, and the numbers survive a restart.

* Recording never raises, and waits for the cost: `cost_timeout` seconds at most, 50 ms while the daemon is away. Later
  the cost comes from the last known prices.
* Settings hold at once and become durable in the background. Prices are refreshed in the background, too.
* Members that ask block until the daemon answers, and raise CostsError if it does not. Each has an async form.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import os
from decimal import Decimal
from typing import Any, Callable, Dict, List, Optional, Tuple, Union, cast

from . import _twice, _wire
from ._answers import ActiveSessions, CostSummary, DailyCosts, PricingInfo, UserCallStats
from ._background import Background
from ._costs import Costs
from ._known_prices import KNOWN_PRICES
from ._local_price import local_price
from ._recorder import Recorder, waker
from ._sender import Waiter

_log = logging.getLogger("tallyd")

Amount = Union[Decimal, int, float, str]

_AWAY_TIMEOUT = 0.05
"""Seconds to wait for a cost while the daemon is away."""
_ASK_TIMEOUT = 20.0
_WARNINGS_MAX = 100
_USERS = 1_000
_BUDGET = "/api/admin/budget"
_RENTCAST_COST = "/api/admin/rentcast-cost"


class CostTracker:
    """Records calls, and asks the daemon for costs, prices and budgets. One a process; its threads share it.

    `daily_budget_usd` (None: no budget) and `alert_threshold_percent` are set only if the daemon does not have a daily
    budget yet. `cost_timeout`: seconds to wait for a call's cost. `http` and `http_token` are those of `Costs`: role
    `read` for answers, role `admin` also for settings. `on_error(error)` gets errors in the background; default: a
    warning on the logger `tallyd`. `recorder`: further options of `Recorder`. Raises ValueError for an invalid
    endpoint.
    """

    recorder: Recorder
    _costs: Costs
    _background: Background
    _prices: PricingInfo
    _rentcast_cost: Optional[Decimal]
    _cost_timeout: float
    _on_error: Optional[Callable[[Exception], None]]
    _warned: Dict[str, object]

    def __init__(
        self,
        daily_budget_usd: Optional[Amount] = 50,
        alert_threshold_percent: int = 80,
        *,
        endpoint: Optional[str] = None,
        http: Optional[str] = None,
        http_token: Optional[str] = None,
        app: Optional[str] = None,
        cost_timeout: float = 1.0,
        on_error: Optional[Callable[[Exception], None]] = None,
        **recorder: Any,
    ) -> None:
        # First, because it raises ValueError for an invalid endpoint.
        self.recorder = Recorder(endpoint, app=os.environ.get("TALLYD_APP", "") if app is None else app, **recorder)
        self._on_error, self._cost_timeout = on_error, cost_timeout
        _twice.watch()
        self._prices, self._rentcast_cost, self._warned = KNOWN_PRICES, None, {}
        self._costs = Costs(http, http_token, timeout=_ASK_TIMEOUT)
        self._background = Background(self._costs, self._refresh, self._failed, self.recorder.is_disabled)
        self._background.start()
        self.recorder.ready(0)
        if daily_budget_usd is not None:
            self._put_budget(daily_budget_usd, onlyIfNone=True, alertThresholdPercent=alert_threshold_percent)

    def record_claude(
        self,
        model: str,
        input_tokens: int,
        output_tokens: int,
        endpoint: Optional[str] = None,
        user_id: Optional[str] = None,
        **more: Any,
    ) -> Decimal:
        """Records a call of Claude; returns its cost in USD. Never raises.

        For a model without a known price: 0, with one warning per model, and the call is stored as unpriced. `more`:
        further fields of the record. The user `anonymous` is stored as no user.
        """
        return self._cost(_claude(model, input_tokens, output_tokens, endpoint, user_id, more))

    async def arecord_claude(
        self,
        model: str,
        input_tokens: int,
        output_tokens: int,
        endpoint: Optional[str] = None,
        user_id: Optional[str] = None,
        **more: Any,
    ) -> Decimal:
        """`record_claude` for asyncio."""
        return await self._acost(_claude(model, input_tokens, output_tokens, endpoint, user_id, more))

    def record_rentcast(self, endpoint: str, user_id: Optional[str] = None, **more: Any) -> Decimal:
        """Records a request to RentCast; returns its cost in USD, as `record_claude` does. Never raises."""
        return self._cost({"provider": "rentcast", **_named(endpoint, user_id), **more})

    async def arecord_rentcast(self, endpoint: str, user_id: Optional[str] = None, **more: Any) -> Decimal:
        """`record_rentcast` for asyncio."""
        return await self._acost({"provider": "rentcast", **_named(endpoint, user_id), **more})

    def get_today_costs(self) -> DailyCosts:
        """Today's costs. Raises CostsError."""
        return self.get_summary()["today"]

    def get_summary(self) -> CostSummary:
        """Today's costs against the daily budget, with all settings that were made before. Raises CostsError."""
        self._background.start()
        self._background.tried(_ASK_TIMEOUT)
        return cast(CostSummary, self._costs.get("/api/admin/costs"))

    def get_history(self, days: int = 30) -> List[DailyCosts]:
        """The last `days` days that have calls, newest first. Raises CostsError."""
        return cast(List[DailyCosts], self._costs.get("/api/admin/cost-history", days=days))

    def get_user_call_stats(self) -> List[UserCallStats]:
        """Lifetime calls by user, highest cost first, 1,000 users at most. Raises CostsError."""
        return cast(List[UserCallStats], self._costs.get("/api/admin/user-stats", limit=_USERS))

    def get_active_sessions(self) -> ActiveSessions:
        """Counts of sessions; zeros if the daemon's database has no accounts. Raises CostsError."""
        return cast(ActiveSessions, self._costs.get("/api/admin/metrics")["sessions"])

    async def aget_today_costs(self) -> DailyCosts:
        """`get_today_costs` for asyncio."""
        return await asyncio.to_thread(self.get_today_costs)

    async def aget_summary(self) -> CostSummary:
        """`get_summary` for asyncio."""
        return await asyncio.to_thread(self.get_summary)

    async def aget_history(self, days: int = 30) -> List[DailyCosts]:
        """`get_history` for asyncio."""
        return await asyncio.to_thread(self.get_history, days)

    async def aget_user_call_stats(self) -> List[UserCallStats]:
        """`get_user_call_stats` for asyncio."""
        return await asyncio.to_thread(self.get_user_call_stats)

    async def aget_active_sessions(self) -> ActiveSessions:
        """`get_active_sessions` for asyncio."""
        return await asyncio.to_thread(self.get_active_sessions)

    def get_pricing_info(self) -> PricingInfo:
        """The prices in force, asked for at the start and every minute; before the first answer, the prices of this
        release. Never blocks."""
        self._background.start()
        prices = copy.deepcopy(self._prices)
        prices["rentcast"]["costPerRequest"] = self.get_rentcast_cost_per_request()
        return prices

    def get_rentcast_cost_per_request(self) -> Decimal:
        """The cost of one more request to RentCast, in USD. Never blocks."""
        cost = self._rentcast_cost
        return self._prices["rentcast"]["costPerRequest"] if cost is None else cost

    def set_rentcast_cost_per_request(self, cost: Amount) -> None:
        """Sets the cost of a further request to RentCast, in USD. Never raises: a refusal goes to `on_error`."""
        try:
            exact, background = amount_of(cost), self._background
            self._rentcast_cost = exact
            body = {"costPerRequest": _wire.exact(exact)}
            background.put(_RENTCAST_COST, body, lambda: self._rentcast_is(exact), lambda: self._forget(exact))
        except Exception as error:
            self._failed(error)

    def set_daily_budget(self, usd: Amount) -> None:
        """Sets the daily budget, in USD. Never raises: a refusal goes to `on_error`."""
        self._put_budget(usd)

    @property
    def should_throttle(self) -> bool:
        """Whether paid calls should be held back: a budget's alert threshold is reached (daemon's last message)."""
        budget = self.recorder.budget
        return bool(budget.get("should_throttle")) or budget.get("status", "normal") != "normal"

    def should_throttle_for(self, *, provider: str = "", model: str = "", user: str = "", app: str = "") -> bool:
        """Whether a budget that the call counts towards is used up: `Recorder.check` refuses it."""
        return not self.recorder.check(provider=provider, model=model, user=user, app=app)

    def close(self, timeout: float = 5.0) -> bool:
        """Waits `timeout` seconds for records and settings to become durable, and ends. False: records were lost."""
        self._background.close(timeout)
        return self.recorder.close(timeout)

    def __enter__(self) -> CostTracker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _cost(self, fields: Dict[str, Any]) -> Decimal:
        try:
            patience = self._patience()
            waiter, fields = self._begin(fields)
            if waiter is not None:
                waiter.done.wait(patience)
            return self._told(waiter, fields)
        except Exception as error:
            return self._unrecorded(error)

    async def _acost(self, fields: Dict[str, Any]) -> Decimal:
        waiter: Optional[Waiter] = None
        try:
            patience, done = self._patience(), asyncio.Event()
            waiter, fields = self._begin(fields, waker(done))
            if waiter is not None and waiter.call is None:  # An instrumented call: nobody is called when it is done.
                await asyncio.to_thread(waiter.done.wait, patience)
            elif waiter is not None:
                try:
                    await asyncio.wait_for(done.wait(), patience)
                except asyncio.TimeoutError:
                    pass
            return self._told(waiter, fields)
        except Exception as error:
            return self._unrecorded(error)
        finally:
            if waiter is not None:
                waiter.is_abandoned = True

    def _begin(
        self, fields: Dict[str, Any], call: Optional[Callable[[Waiter], None]] = None
    ) -> Tuple[Optional[Waiter], Dict[str, Any]]:
        """Records the call, or finds the record of the same instrumented call."""
        seen = _twice.take(fields, str(self.recorder.endpoint))
        if seen is not None:
            self.recorder.notices.tell(
                "twice",
                "tallyd: the tracker was told of a call to %s that instrument() or meter_http() had recorded: it is "
                "not counted again. One of the two is enough",
                seen[0].get("model") or seen[0]["provider"],
            )
            return seen[1], dict(seen[0])
        return self.recorder.begin(fields.pop("provider"), fields, call), fields

    def _patience(self) -> float:
        self._background.start()
        return self._cost_timeout if self.recorder.is_connected else min(_AWAY_TIMEOUT, self._cost_timeout)

    def _told(self, waiter: Optional[Waiter], fields: Dict[str, Any]) -> Decimal:
        """The cost in the ack, else by the last known prices; 0 for a record that is refused, lost or unpriced."""
        if waiter is None:
            return Decimal(0)
        waiter.is_abandoned = True
        if waiter.error is not None:
            return Decimal(0)
        if waiter.is_told:
            cost = None if waiter.cost is None else Decimal(waiter.cost)
        else:
            cost = local_price(self._prices, self.get_rentcast_cost_per_request(), fields)
        if cost is None:
            self._unpriced(f"{fields['provider']} {fields.get('model') or ''}".strip())
            return Decimal(0)
        return cost

    def _unpriced(self, name: str) -> None:
        mine = object()
        # One atomic step, so that only one of two threads warns.
        if len(self._warned) < _WARNINGS_MAX and self._warned.setdefault(name, mine) is mine:
            _log.warning(
                "tallyd: no price of %s is known: its calls are recorded as unpriced, and count as 0 here. "
                "`tallyd prices set` adds one",
                name,
            )

    def _unrecorded(self, error: Exception) -> Decimal:
        _log.error("tallyd: the tracker could not tell what a call costs: %s", error)
        return Decimal(0)

    def _put_budget(self, usd: Amount, **more: Any) -> None:
        try:
            self._background.put(_BUDGET, {"budget": _wire.exact(amount_of(usd)), **more})
        except Exception as error:  # Not an amount, or the interpreter is ending and starts no thread.
            self._failed(error)

    # Called by the background thread, one after the other.

    def _rentcast_is(self, cost: Decimal) -> None:
        prices = copy.deepcopy(self._prices)
        prices["rentcast"]["costPerRequest"] = cost
        self._prices = prices
        self._forget(cost)

    def _forget(self, cost: Decimal) -> None:
        """Forgets a price that the daemon has accepted or refused, unless a newer one was set."""
        if self._rentcast_cost == cost:
            self._rentcast_cost = None

    def _refresh(self) -> None:
        self._prices = cast(PricingInfo, self._costs.get("/api/admin/pricing"))

    def _failed(self, error: Exception) -> None:
        try:
            if self._on_error is not None:
                self._on_error(error)
            else:
                _log.warning("tallyd: %s", error)
        except Exception as fault:  # An error in the handler must not reach the application, or end the thread.
            _log.warning("tallyd: %s; and on_error raised %r", error, fault)


def _named(endpoint: Optional[str], user_id: Optional[str]) -> Dict[str, Any]:
    """The arguments as fields. One that is left out has no field, so that the context's value applies."""
    # Callers of the replaced tracker name a visitor who is not signed in "anonymous".
    user_id = None if user_id == "anonymous" else user_id
    return {name: value for name, value in (("endpoint", endpoint), ("user_id", user_id)) if value}


def _claude(
    model: str, inputs: int, outputs: int, endpoint: Optional[str], user_id: Optional[str], more: Dict[str, Any]
) -> Dict[str, Any]:
    tokens = {"input_tokens": inputs, "output_tokens": outputs}
    return {"provider": "claude", "model": model, **tokens, **_named(endpoint, user_id), **more}


def amount_of(value: Amount) -> Decimal:
    """An exact amount. A float is read as the decimal that it prints as, for settings. Raises TypeError, ValueError."""
    if isinstance(value, bool) or not isinstance(value, (Decimal, int, float, str)):
        raise TypeError(f"{value!r} is not an amount in USD")
    try:
        exact = Decimal(str(value))
    except ArithmeticError:
        exact = Decimal("nan")
    if not exact.is_finite():
        raise ValueError(f"{value} is not an amount in USD")
    return exact
