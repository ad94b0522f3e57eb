"""experiments/study.ipynb runs from top to bottom on results like the quickstart's, with no package but sweep's."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from PIL import Image

from sweep.types import Scalar
from tests.support.study_folders import KINDS, SOURCE
from tests.support.study_images import mixed, photo, write_results

NOTEBOOK = Path(__file__).parents[2] / "experiments" / "study.ipynb"
QUICKSTART: list[dict[str, Scalar]] = [
    {"denoise_strength": s, "variation": v, "seed": k}
    for s in (0.3, 0.5, 0.7)
    for v in ("enhanced colors and lighting", "painterly effect", "dramatic lighting")
    for k in (42, 43)
]


def paint(values: Mapping[str, Scalar]) -> Image.Image:
    seed = int(values["seed"] or 0) + len(str(values["variation"]))
    return mixed(SOURCE, photo(seed, 96, 96), float(values["denoise_strength"] or 0))


def run_cell(source: str, namespace: dict[str, Any]) -> object:
    """Runs a cell; the value of its last line where that is an expression, as a notebook shows it."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), namespace)
    if not isinstance(last, ast.Expr):
        return None
    return eval(compile(ast.Expression(last.value), "cell", "eval"), namespace)


async def test_the_notebook_runs_on_the_quickstarts_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await write_results(tmp_path / "results" / "quickstart", QUICKSTART, paint, kinds=KINDS, source=SOURCE)
    await anyio.Path(tmp_path / "experiments").mkdir()
    monkeypatch.chdir(tmp_path / "experiments")
    notebook = json.loads(await anyio.Path(NOTEBOOK).read_text("utf-8"))

    shown = await anyio.to_thread.run_sync(run_all, notebook)

    assert "denoise strength" in shown[0]._repr_html_()
    assert len([chart for chart in shown if hasattr(chart, "_repr_mimebundle_")]) == 2
    assert all(len(frame) for frame in shown if hasattr(frame, "columns"))
    assert shown[-1][-1] == "study.json"


def run_all(notebook: dict[str, Any]) -> list[Any]:
    namespace: dict[str, Any] = {}
    sources = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return [run_cell(source, namespace) for source in sources]


def test_the_notebook_is_kept_without_outputs() -> None:
    notebook = json.loads(NOTEBOOK.read_text("utf-8"))

    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook["cells"])
