from .concurrency import open_task_group
from .events import RunProgress, ServerTally
from .forecast import Forecast, encode_forecast, list_lacking_images, make_forecast
from .reference_fetcher import fetch_workflow, load_from_servers
from .run_options import FailureLimit, RunOptions, parse_fusion, parse_shard
from .runner import Chooser, RunSummary, render, run
from .shutdown import Stop, handle_signals, request_stop
from .uploads import delete_leftovers, find_leftovers, find_user_cache

__all__ = [
    "Chooser",
    "FailureLimit",
    "Forecast",
    "RunOptions",
    "RunProgress",
    "RunSummary",
    "ServerTally",
    "Stop",
    "delete_leftovers",
    "encode_forecast",
    "fetch_workflow",
    "find_leftovers",
    "find_user_cache",
    "handle_signals",
    "list_lacking_images",
    "load_from_servers",
    "make_forecast",
    "open_task_group",
    "parse_fusion",
    "parse_shard",
    "render",
    "request_stop",
    "run",
]
