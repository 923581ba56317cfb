"""Records paid API calls with tallyd, durably, without ever blocking the application.

* `Recorder`, or `configure` and `record` for one a process: records calls. Never blocks, never raises.
* `instrument`: records every call of an Anthropic, OpenAI or Google client.
* `meter_http`: records every request to an API that bills by request.
* `record_of`, `records_of_batch`: records from answers that were not instrumented, and from a batch's results. A
  second run records nothing twice. `usage_of`: only the usage fields of a vendor's answer.
* `context`: sets the user and endpoint of records, `tags` their tags; `tallyd.web` has middleware. `tallyd.litellm` has
  a callback.
* `check`: whether a call may be made, by its budgets. `BudgetExceeded` is what an instrumented client raises instead.
* `Costs`: reads the costs.
* `CostTracker`, or `cost_tracker` for one a process: replaces a tracker that kept its numbers in memory.
"""

from ._answers import (
    ActiveSessions,
    BudgetStatus,
    CallCosts,
    CostSummary,
    DailyCosts,
    LargePromptRates,
    ModelCosts,
    ModelPricing,
    ModelRates,
    PlanTerms,
    PricingInfo,
    RentCastPricing,
    UserCallStats,
)
from ._answers_of import record_of, records_of_batch
from ._context import context, tags
from ._costs import Costs, CostsError
from ._default import check, configure, default_recorder, record
from ._default_tracker import cost_tracker
from ._endpoint import Endpoint
from ._ends import close_on_signal
from ._http import meter_http
from ._instrument import instrument
from ._recorder import Recorder, RecordError, Stats
from ._standing import BudgetExceeded, Check
from ._stream import usage_of
from ._tracker import CostTracker

__all__ = [
    "ActiveSessions",
    "BudgetExceeded",
    "BudgetStatus",
    "CallCosts",
    "Check",
    "CostSummary",
    "CostTracker",
    "Costs",
    "CostsError",
    "DailyCosts",
    "Endpoint",
    "LargePromptRates",
    "ModelCosts",
    "ModelPricing",
    "ModelRates",
    "PlanTerms",
    "PricingInfo",
    "RecordError",
    "Recorder",
    "RentCastPricing",
    "Stats",
    "UserCallStats",
    "check",
    "close_on_signal",
    "configure",
    "context",
    "cost_tracker",
    "default_recorder",
    "instrument",
    "meter_http",
    "record",
    "record_of",
    "records_of_batch",
    "tags",
    "usage_of",
]
__version__ = "0.1.0"
