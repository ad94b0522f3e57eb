"""All commands, in the order `sweep --help` shows them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sweep.cli.inspect import init, inspect
from sweep.cli.plan import plan
from sweep.cli.report import compare, report, view
from sweep.cli.run import run
from sweep.cli.sandbox import sandbox
from sweep.cli.schema import schema
from sweep.cli.sheet import sheet
from sweep.cli.status import status
from sweep.cli.stop import cancel, stop
from sweep.cli.study import study
from sweep.cli.table import table
from sweep.cli.verify import verify

ALL: Final[tuple[Callable[..., Any], ...]] = (
    run,
    plan,
    status,
    table,
    study,
    report,
    view,
    compare,
    sheet,
    stop,
    cancel,
    verify,
    inspect,
    init,
    sandbox,
    schema,
)
