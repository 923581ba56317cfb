"""The answers of the daemon's admin API, in the shapes of the tracker that `CostTracker` replaces.

The names are the API's own, so a front end can get an answer unchanged. Amounts are USD, as Decimal.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Dict, List, Literal, Optional, TypedDict

BudgetStatus = Literal["normal", "warning", "exceeded"]


class CallCosts(TypedDict):
    calls: int
    cost: Decimal


class ModelCosts(CallCosts):
    inputTokens: int
    outputTokens: int
    cacheReadTokens: int
    cacheWriteTokens: int


class DailyCosts(TypedDict):
    """The calls of one day. Costs are USD."""

    date: str
    """`YYYY-MM-DD`, in the daemon's reporting time zone."""
    totalCost: Decimal
    claudeCost: Decimal
    rentcastCost: Decimal
    totalCalls: int
    claudeCalls: int
    rentcastCalls: int
    errors: int
    """Calls with a status of 400 or above."""
    unpricedCalls: int
    """Unpriced calls: no cost includes them."""
    byModel: Dict[str, ModelCosts]
    """Claude's models by family, which is the name without a date."""
    byRentCastEndpoint: Dict[str, CallCosts]
    byProvider: Dict[str, CallCosts]


class CostSummary(TypedDict):
    """Today's costs against the daily budget."""

    today: DailyCosts
    dailyBudget: Decimal
    """USD a day; 0 where no budget is set."""
    budgetPercent: Decimal
    remaining: Decimal
    """The unused part of the budget, not below 0."""
    shouldThrottle: bool
    """Whether paid calls should be held back: true from the alert threshold on."""
    status: BudgetStatus


class UserCallStats(TypedDict):
    """The calls of one user, without limit in time."""

    userId: str
    totalCalls: int
    claudeCalls: int
    rentcastCalls: int
    analysisCalls: int
    """Calls of the endpoint that the daemon's setting `http.analysis_endpoint` names."""


class ModelRates(TypedDict):
    """USD per million tokens. None: the vendor quotes no such rate."""

    inputPerMToken: Optional[Decimal]
    outputPerMToken: Optional[Decimal]
    cacheReadPerMToken: Optional[Decimal]
    cacheWrite5mPerMToken: Optional[Decimal]
    cacheWrite1hPerMToken: Optional[Decimal]


class LargePromptRates(ModelRates):
    """Rates for calls whose input and cached tokens exceed `promptTokens`. They apply to the whole call."""

    promptTokens: int


class ModelPricing(ModelRates):
    above: List[LargePromptRates]
    """Smallest bound first; usually empty."""


class PlanTerms(TypedDict):
    monthly: Decimal
    included: int
    """Requests a month."""
    overage: Decimal
    """USD per request beyond the included ones."""


class RentCastPricing(TypedDict):
    costPerRequest: Decimal
    plans: Dict[str, PlanTerms]
    """By plan: `developer`, `foundation`, `growth`, `scale`."""


class PricingInfo(TypedDict):
    claude: Dict[str, ModelPricing]
    rentcast: RentCastPricing


class ActiveSessions(TypedDict):
    active: int
    """Sessions that can be used now."""
    total: int
    byTier: Dict[str, int]
    """Active sessions by the users' tier."""
