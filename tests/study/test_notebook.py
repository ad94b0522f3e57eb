"""experiments/study.ipynb runs from top to bottom in a fresh folder, with no package but sweep's."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
NOTEBOOK = EXPERIMENTS / "study.ipynb"


def run_cell(source: str, namespace: dict[str, Any]) -> object:
    """Runs a cell, which may await; the value of its last line where that is an expression, as a notebook shows it."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    waiting = eval(compile(tree, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), namespace)
    if inspect.iscoroutine(waiting):
        asyncio.run(waiting)
    if not isinstance(last, ast.Expr):
        return None
    return eval(compile(ast.Expression(last.value), "cell", "eval"), namespace)


@pytest.mark.slow
def test_the_notebook_renders_the_quickstart_and_studies_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "experiments"
    (folder / "images").mkdir(parents=True)
    with Image.open(EXPERIMENTS / "images" / "coffee.png") as coffee:
        coffee.resize((64, 64)).save(folder / "images" / "coffee.png")
    text = (EXPERIMENTS / "quickstart.yaml").read_text("utf-8")
    (folder / "quickstart.yaml").write_text(re.sub(r"steps: \d+", "steps: 4", text), "utf-8")
    monkeypatch.chdir(folder)

    shown = [each for each in run_all(json.loads(NOTEBOOK.read_text("utf-8"))) if each is not None]

    thumbnails = shown[0]._repr_html_()
    assert thumbnails.startswith("<p><b>quickstart</b>: 18 of 18 images</p>")
    assert thumbnails.count("data:image/webp;base64,") == 18
    assert 'title="0.3 · enhanced colors and lighting · 42"' in thumbnails
    assert "denoise strength" in shown[1]._repr_html_()
    assert len([chart for chart in shown if hasattr(chart, "_repr_mimebundle_")]) == 2
    assert all(len(frame) for frame in shown if isinstance(frame, pd.DataFrame))
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
