"""Imports within the study run one way: a reader never has to know two modules at once to read either."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import sweep.errors

STUDY = Path(sweep.errors.__file__).parent / "study"


def imported(path: Path) -> Iterator[str]:
    """Modules of the study that a module imports, inside of functions and for types, too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "sweep.study":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sweep.study."):
            yield str(node.module).removeprefix("sweep.study.")


def test_no_module_of_the_study_imports_itself_by_way_of_others() -> None:
    graph = {path.stem: set(imported(path)) for path in STUDY.glob("*.py")}

    order = list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle

    assert order.index("contract") < order.index("metrics") < order.index("registry") < order.index("study")
