"""sweep: variation sweeps on image-generation servers, from an experiment file to a results table.

Everything the command line does is one call here; what a call needs is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sweep.engine.options import RunOptions as RunOptions
    from sweep.engine.runner import run as run
    from sweep.engine.summary import RunSummary as RunSummary
    from sweep.errors import SweepError as SweepError
    from sweep.experiment.definition import Experiment as Experiment
    from sweep.plan.binding import Plan as Plan
    from sweep.plan.binding import make_plan as make_plan
    from sweep.record.table import Results as Results
    from sweep.servers.base import Server as Server
    from sweep.servers.connecting import connect as connect

_HOMES: Final = {
    "Experiment": "sweep.experiment.definition",
    "Plan": "sweep.plan.binding",
    "Results": "sweep.record.table",
    "RunOptions": "sweep.engine.options",
    "RunSummary": "sweep.engine.summary",
    "Server": "sweep.servers.base",
    "SweepError": "sweep.errors",
    "connect": "sweep.servers.connecting",
    "make_plan": "sweep.plan.binding",
    "run": "sweep.engine.runner",
}

__all__ = [
    "Experiment",
    "Plan",
    "Results",
    "RunOptions",
    "RunSummary",
    "Server",
    "SweepError",
    "connect",
    "make_plan",
    "run",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'sweep' has no attribute {name!r}")
