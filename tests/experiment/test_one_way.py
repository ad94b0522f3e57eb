"""The modules of the layer build on each other one way: values at the bottom, the experiment at the top."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

from sweep import experiment

FOLDER = Path(experiment.__file__ or "").parent
PACKAGE = "sweep.experiment"


def imported(file: Path) -> set[str]:
    """Modules of the layer that `file` imports anywhere, inside functions and for types alone too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == PACKAGE:
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(f"{PACKAGE}."):
            found.add(node.module.removeprefix(f"{PACKAGE}."))
    return found


def test_no_module_imports_what_builds_on_it() -> None:
    graph = {file.stem: imported(file) for file in FOLDER.glob("*.py")}
    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle
    assert order.index("values") < order.index("levels") < order.index("grid") < order.index("definition")
