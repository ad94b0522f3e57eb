"""The server of docs/extending.md, as it stands there: found by its entry point, through the whole kit, in a run."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sweep.cli import main as app
from sweep.record import RecordedResults
from sweep.servers import Server, connect
from sweep.testing import SERVER_CASES, Subject
from sweep.testing.servers import RenderScene, ServerCase
from sweep.workflow import Graph, ImageRef, Json, ModelRef, Node
from tests.support.scenes import image

DOCUMENT = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
GROUP = "sweep.servers"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example as an installed package, with the entry point that the document shows."""
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL) if "def make_server" in block)
    (tables,) = (block for block in re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL) if GROUP in block)
    points = tomllib.loads(tables)["project"]["entry-points"][GROUP]
    folder = tmp_path / "site"
    facts = folder / "swatches-1.dist-info"
    facts.mkdir(parents=True)
    (folder / "swatches.py").write_text(code, encoding="utf-8")
    (facts / "METADATA").write_text("Name: swatches\nVersion: 1\n", encoding="utf-8")
    lines = [f"[{GROUP}]", *(f"{scheme} = {factory}" for scheme, factory in points.items())]
    (facts / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "swatches", raising=False)


def swatch(colour: int, **fields: Json) -> Graph:
    """A graph of one plain image."""
    size = {"width": 8, "height": 8, "batch_size": 1, "color": colour, **fields}
    return Graph.of([Node("plain", "EmptyImage", size), Node("out", "SaveImage")], ["plain.0 → out.images"])


@asynccontextmanager
async def a_client() -> AsyncIterator[Server]:
    server = await asyncio.to_thread(connect, "swatch:here")  # which reads the files of installed packages
    await server.open()
    yield server
    await server.aclose()


@asynccontextmanager
async def subject(folder: Path) -> AsyncIterator[Subject]:
    """The server under test. Files go into `folder`."""
    sha256, file = image(folder)

    def scene(graph: Graph, *more: str) -> RenderScene:
        return RenderScene(graph=graph, outputs=("out", *more), images={sha256: file})

    loader = Node("model", "CheckpointLoaderSimple", {"ckpt_name": ModelRef("no such model", "any")})
    loaded = [Node("source", "LoadImage", {"image": ImageRef(sha256)}), Node("out", "SaveImage")]
    inverted = [Node("inverted", "ImageInvert"), Node("second", "SaveImage")]
    edges = ["plain.0 → inverted.image", "inverted.0 → second.images"]
    async with a_client() as server:
        yield Subject(
            server=server,
            info=await server.open(),
            another=a_client,
            quick=lambda number: scene(swatch(number)),
            slow=lambda number: scene(swatch(number, batch_size=4000)),
            imaged=lambda _: scene(Graph.of(loaded, ["source.0 → out.images"])),
            several=scene(swatch(5).adding(inverted, edges), "second"),
            failing=scene(swatch(6, width=1)),
            failing_node="plain",
            refused=scene(swatch(-1)),
            modelless=scene(swatch(7).adding([loader])),
        )


@pytest.mark.parametrize("check_case", SERVER_CASES, ids=lambda case: case.__name__)
@pytest.mark.usefixtures("installed")
async def test_the_server_of_the_document_conforms(check_case: ServerCase, tmp_path: Path) -> None:
    async with subject(tmp_path) as under_test:
        await check_case(under_test)


@pytest.mark.usefixtures("installed")
def test_a_sweep_runs_on_the_server_of_the_document(tmp_path: Path) -> None:
    graph = {
        "plain": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
        "out": {"class_type": "SaveImage", "inputs": {"images": ["plain", 0]}},
    }
    (tmp_path / "plain.json").write_text(json.dumps(graph), encoding="utf-8")
    axes = {"plain.color": [0, 255, 65280]}
    definition = {"name": "swatches", "workflow": "plain.json", "axes": axes, "study": {"metrics": []}}
    (tmp_path / "swatches.yaml").write_text(json.dumps(definition), encoding="utf-8")
    arguments = [str(tmp_path / "swatches.yaml"), "--server", "swatch:run", "--results", str(tmp_path), "--no-report"]
    assert app.run_cli(["run", *arguments]) == 0
    rows = list(RecordedResults.open(tmp_path / "swatches").rows())
    assert [(row["status"], row["server"]) for row in rows] == [("completed", "swatch:run")] * 3
    assert len({row["sha256"] for row in rows}) == 3
