"""What the daemon's admin API answers, in the shapes of the tracker that `CostTracker` replaces.

The names are the API's own, so an answer goes to a front end as it is. Amounts are USD, as Decimal.
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
    """One day."""

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
    """Calls without a known price: no cost includes them."""
    byModel: Dict[str, ModelCosts]
    """Claude's models, by family: the name without a date."""
    byRentCastEndpoint: Dict[str, CallCosts]
    byProvider: Dict[str, CallCosts]


class CostSummary(TypedDict):
    """The day against its budget."""

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
    """A user's lifetime calls."""

    userId: str
    totalCalls: int
    claudeCalls: int
    rentcastCalls: int
    analysisCalls: int
    """Calls of the endpoint that `http.analysis_endpoint` names in the daemon's configuration."""


class ModelRates(TypedDict):
    """USD for a million tokens. None: the vendor quotes no such rate."""

    inputPerMToken: Optional[Decimal]
    outputPerMToken: Optional[Decimal]
    cacheReadPerMToken: Optional[Decimal]
    cacheWrite5mPerMToken: Optional[Decimal]
    cacheWrite1hPerMToken: Optional[Decimal]


class LargePromptRates(ModelRates):
    """Rates for the whole call where its input and cached tokens are more than `promptTokens`."""

    promptTokens: int


class ModelPricing(ModelRates):
    above: List[LargePromptRates]
    """Smallest bound first; usually empty."""


class PlanTerms(TypedDict):
    monthly: Decimal
    included: int
    """Requests a month."""
    overage: Decimal
    """USD for each request beyond."""


class RentCastPricing(TypedDict):
    costPerRequest: Decimal
    plans: Dict[str, PlanTerms]
    """By plan: `developer`, `foundation`, `growth`, `scale`."""


class PricingInfo(TypedDict):
    claude: Dict[str, ModelPricing]
    rentcast: RentCastPricing


class ActiveSessions(TypedDict):
    active: int
    """Sessions that could be used now."""
    total: int
    byTier: Dict[str, int]
    """The active ones by their users' tier."""
