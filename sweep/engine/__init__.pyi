from .events import RunProgress, ServerTally
from .forecast import Forecast, forecast_json, make_forecast
from .options import FailureLimit, RunOptions, parse_fusion, parse_shard
from .runner import RunSummary, render, run
from .shutdown import Stop, handle_signals, request_stop

__all__ = [
    "FailureLimit",
    "Forecast",
    "RunOptions",
    "RunProgress",
    "RunSummary",
    "ServerTally",
    "Stop",
    "forecast_json",
    "handle_signals",
    "make_forecast",
    "parse_fusion",
    "parse_shard",
    "render",
    "request_stop",
    "run",
]
