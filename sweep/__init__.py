"""sweep: variation sweeps on image-generation servers, from an experiment file to a results table.

Everything the command line does is one call here; what a call needs is imported when it is first used.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # as typing has it; typing itself takes longer to import than all that is left here
if TYPE_CHECKING:
    from typing import Any, Final

    from sweep import report as report
    from sweep import study as study
    from sweep.engine.options import RunOptions as RunOptions
    from sweep.engine.run import RunSummary as RunSummary
    from sweep.engine.run import render as render
    from sweep.engine.run import run as run
    from sweep.errors import SweepError as SweepError
    from sweep.experiment.experiment import Experiment as Experiment
    from sweep.plan.planner import Plan as Plan
    from sweep.plan.planner import make_plan as make_plan
    from sweep.report.compare import write_comparison as compare
    from sweep.report.report import report as make_report
    from sweep.results import Results as Results
    from sweep.servers.base import Server as Server
    from sweep.servers.connect import connect as connect
    from sweep.study.study import Study as Study
    from sweep.study.study import study as make_study

__all__ = [
    "Experiment",
    "Plan",
    "Results",
    "RunOptions",
    "RunSummary",
    "Server",
    "Study",
    "SweepError",
    "compare",
    "connect",
    "make_plan",
    "make_report",
    "make_study",
    "render",
    "report",
    "run",
    "study",
]

_HOMES: Final = {
    "Experiment": "sweep.experiment.experiment:Experiment",
    "Plan": "sweep.plan.planner:Plan",
    "Results": "sweep.results:Results",
    "RunOptions": "sweep.engine.options:RunOptions",
    "RunSummary": "sweep.engine.run:RunSummary",
    "Server": "sweep.servers.base:Server",
    "Study": "sweep.study.study:Study",
    "SweepError": "sweep.errors:SweepError",
    "compare": "sweep.report.compare:write_comparison",
    "connect": "sweep.servers.connect:connect",
    "make_plan": "sweep.plan.planner:make_plan",
    "make_report": "sweep.report.report:report",
    "make_study": "sweep.study.study:study",
    "render": "sweep.engine.run:render",
    "report": "sweep.report",
    "run": "sweep.engine.run:run",
    "study": "sweep.study",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sweep' has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    found = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found
