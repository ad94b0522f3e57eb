"""Results and calls as scripts and notebooks use them: paths as text, one text for a list of one, plain errors."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import sweep
from sweep.engine import request_stop
from sweep.errors import RecordError, ServerUnreachableError, UsageError
from sweep.record import (
    RecordedResults,
    delete_points,
    delete_run,
    merge_results,
    read_folder_status,
    rename_run,
    reopen_points,
)
from sweep.report import write_animation, write_filmstrip, write_sheet
from sweep.sandbox import SandboxOptions, sandbox_server
from sweep.study import add_ratings
from tests.support.ports import free_port

DEFINITION = {
    "name": "cups",
    "workflow": "txt2img",
    "inputs": {"prompt": "a cup", "steps": 2, "width": 64, "height": 64},
    "axes": {"cfg_scale": [2, 4], "seed": [1, 2]},
}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rendered")

    experiment = sweep.Experiment.from_dict(DEFINITION)

    async def render() -> Path:
        async with sandbox_server(SandboxOptions(paint=False, plain_side=64)) as sandbox:
            summary = await sweep.run(experiment, sandbox.url, results=str(root))
        return summary.folder

    return asyncio.run(render())


@pytest.fixture
def desk(rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with two copies of the folder, `a` and `b`."""
    for name in "ab":
        shutil.copytree(rendered, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("desk")
def test_each_call_takes_folders_and_files_as_text(rendered: Path) -> None:
    keys = sweep.Results.open("a").table(where=lambda row: row["seed"] == 1)["key"]
    Path("r.json").write_text(json.dumps({"schema": 1, "ratings": {keys[0]: {"stars": 3}}, "choices": []}), "utf-8")
    calls: list[Callable[[], Any]] = [
        lambda: sweep.Results("a").table(),
        lambda: sweep.Results("a")._repr_html_(),
        lambda: sweep.Results.open("a").write_file("t.csv", "csv"),
        lambda: read_folder_status("a"),
        lambda: sweep.check_run("a", ["failed == 0"]),
        lambda: add_ratings("a", "r.json"),
        lambda: sweep.make_report("a", out="page.html", workers=0),
        lambda: sweep.compare_runs("a", "b", out="both.html"),
        lambda: write_sheet("a", x="seed", out="sheet.png"),
        lambda: write_sheet("a", x="seed"),
        lambda: write_filmstrip("a", "seed", out="strip.png"),
        lambda: write_animation("a", "seed", out="all.gif"),
        lambda: request_stop("a", 1),
        lambda: merge_results(["a", "b"], "c"),
        lambda: asyncio.run(reopen_points("a", keys)),
        lambda: asyncio.run(delete_points("a", keys)),
        lambda: asyncio.run(sweep.load_from_servers("a/experiment.yaml", [], "results", "fetched")),
        lambda: rename_run("a", "z"),
        lambda: delete_run("z"),
    ]
    for call in calls:
        call()
    written = {path.name for path in Path().iterdir()}
    assert written >= {"b", "c", "t.csv", "page.html", "both.html", "sheet.png", "strip.png", "all.gif"}
    assert not written & {"a", "z"}


@pytest.mark.usefixtures("desk")
def test_one_text_counts_as_a_list_of_one() -> None:
    results = sweep.Results.open("a")
    assert list(results.table(columns="seed")) == ["seed"]
    assert [check.requirement for check in sweep.check_run("a", "failed == 0")] == ["failed == 0"]
    assert results.study(metrics="sharpness", workers=0).data["metrics"][0]["name"] == "sharpness"
    measured = results.table(columns=["seed", "sharpness"])
    assert sweep.make_study(measured, metrics="sharpness").data["metrics"][0]["measured"] == 4
    assert sweep.Experiment.load("a/experiment.yaml", "inputs.steps=3").inputs["steps"] == 3
    assert "seed: [1, 2]" in sweep.experiment.write_experiment("txt2img", "seed=1,2", overrides="inputs.steps=3")
    assert [merge_results(*pair).taken for pair in (("a", "copy"), ("copy", "again"))] == [4, 4]
    assert asyncio.run(reopen_points("a", str(results.table()["key"][0]))) == 1


@pytest.mark.usefixtures("desk")
def test_results_take_a_condition_as_text_wherever_rows_are_chosen() -> None:
    results = sweep.Results.open("a")
    assert [row["seed"] for row in results.rows(where="seed == 2")] == [2, 2]
    assert pd.read_csv(results.write_file("t.csv", "csv", where="seed == 2", columns=["seed"]))["seed"].tolist() == [
        2,
        2,
    ]
    with pytest.raises(UsageError, match=r"^where, character 1: there is no column named sed\. Did you mean seed\?"):
        results.table(where="sed == 2")
    with pytest.raises(UsageError, match=r"sweep\.Results"):
        next(RecordedResults.open("a").rows(where="seed == 2"))
    with pytest.raises(UsageError, match="xls is not a format") as raised:
        results.write_file("t.xls", "xls")  # type: ignore[arg-type]
    assert "xlsx" in str(raised.value.hint)
    with pytest.raises(UsageError, match="images"):
        results.table(images="absolut")  # type: ignore[arg-type]


def test_inputs_that_are_whole_numbers_are_integers_in_a_table(rendered: Path) -> None:
    table = sweep.Results.open(rendered).table(columns=["steps", "cfg_scale", "prompt"])
    assert list(map(str, table.dtypes)) == ["Int64", "float64", "str"]


def test_results_say_which_folder_they_are_of(rendered: Path) -> None:
    assert repr(sweep.Results.open(rendered)) == f"Results({str(rendered)!r})"


def test_calls_with_a_folder_that_is_not_there_make_none(tmp_path: Path) -> None:
    ratings, nowhere = tmp_path / "ratings.json", tmp_path / "nowhere"
    ratings.write_text('{"schema": 1, "ratings": {}, "choices": []}', "utf-8")
    for call in (sweep.make_report, lambda folder: add_ratings(folder, ratings)):
        with pytest.raises(RecordError, match="nowhere"):
            call(nowhere)
    assert not nowhere.exists()


def test_comparison_shows_its_sentences_and_not_its_table(desk: Path) -> None:
    shown = repr(sweep.compare_runs(desk / "a", desk / "b"))
    assert "4 have the same image file" in shown
    assert "between_ssim" not in shown


def contexts(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__context__


def test_errors_of_a_run_carry_no_exception_group(tmp_path: Path) -> None:
    """IPython shows an error with a group behind it as plain text on stderr, without its colours and its marks."""
    experiment = sweep.Experiment.from_dict(DEFINITION)
    with pytest.raises(ServerUnreachableError) as raised:
        asyncio.run(sweep.run(experiment, f"http://127.0.0.1:{free_port()}", results=tmp_path))
    assert not [each for each in contexts(raised.value) if isinstance(each, BaseExceptionGroup)]


async def test_server_that_is_open_already_can_be_given_to_a_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`make_plan` needs an open server; the connections it had are closed when the run opens it again."""
    experiment = await asyncio.to_thread(sweep.Experiment.from_dict, DEFINITION)
    async with sandbox_server(SandboxOptions(paint=False, plain_side=64)) as sandbox:
        server = sweep.connect(sandbox.url)
        await server.open()
        summary = await sweep.run(experiment, [server], results=tmp_path)
    assert summary.completed == 4
    gc.collect()
    assert "Unclosed" not in caplog.text


def test_server_that_is_not_open_can_be_copied_and_pickled() -> None:
    server = sweep.connect("http://gpu1:9090")
    for again in (copy.copy(server), copy.deepcopy(server), pickle.loads(pickle.dumps(server))):
        assert again.url == "http://gpu1:9090"


def test_packages_that_the_documents_name_come_with_the_first_import() -> None:
    packages = ("engine", "errors", "experiment", "record", "report", "sandbox", "servers", "study", "workflow")
    for name in packages:
        assert name in sweep.__all__
    program = "import sweep; print(sweep.record.read_folder_status.__name__, sweep.errors.SweepError.__name__)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["read_folder_status", "SweepError"]
