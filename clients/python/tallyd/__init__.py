"""Records paid API calls with tallyd: `Recorder.record()` never blocks and never raises."""

from ._context import context
from ._endpoint import Endpoint
from ._recorder import Recorder, RecordError, Stats

__all__ = ["Endpoint", "RecordError", "Recorder", "Stats", "context"]
__version__ = "0.1.0"
