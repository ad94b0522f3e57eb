"""What is shown: the explorer page, sheets, comparisons, the live view.

`sweep.report(...)` is `sweep.report.report.report`: this package can be called, since it has the
name that the call should have. Python's data model allows it ("Customizing module attribute access"). Typed code
says `sweep.make_report`, which is the same function.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from sweep.report.report import report

        return report(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
