from . import engine, errors, experiment, record, report, sandbox, servers, study, workflow
from .engine.reference_fetcher import load_from_servers
from .engine.run_options import RunOptions
from .engine.runner import RunSummary, render, run
from .errors import SweepError
from .experiment.experiment import Experiment
from .notebook_results import Results
from .plan.plan import Plan
from .plan.planner import make_plan
from .report.compare import compare_runs
from .report.report_writer import make_report
from .requirements import CheckResult, check_run
from .servers.base import Server
from .servers.discovery import connect
from .study.study import Study, make_study

__all__ = [
    "CheckResult",
    "Experiment",
    "Plan",
    "Results",
    "RunOptions",
    "RunSummary",
    "Server",
    "Study",
    "SweepError",
    "check_run",
    "compare_runs",
    "connect",
    "engine",
    "errors",
    "experiment",
    "load_from_servers",
    "make_plan",
    "make_report",
    "make_study",
    "record",
    "render",
    "report",
    "run",
    "sandbox",
    "servers",
    "study",
    "workflow",
]
