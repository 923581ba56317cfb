"""Records paid API calls with tallyd, durably, without ever blocking the application.

* `Recorder`, or `configure` and `record` for one a process: records calls. Never blocks, never raises.
* `instrument`: records every call of an Anthropic or OpenAI client. `meter_http`: of an API that bills by request.
* `context`: who is being served; `tallyd.web` has middleware for it. `tallyd.litellm` has a callback for LiteLLM.
* `Costs`: reads what it came to.
"""

from ._context import context
from ._costs import Costs, CostsError
from ._default import configure, default_recorder, record
from ._endpoint import Endpoint
from ._http import meter_http
from ._instrument import instrument
from ._recorder import Recorder, RecordError, Stats

__all__ = [
    "Costs",
    "CostsError",
    "Endpoint",
    "RecordError",
    "Recorder",
    "Stats",
    "configure",
    "context",
    "default_recorder",
    "instrument",
    "meter_http",
    "record",
]
__version__ = "0.1.0"
