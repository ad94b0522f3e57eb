"""Every command as a user types it: stdout, stderr and the exit code."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
import socket
import stat
import sys
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pandas as pd
import pytest
from PIL import Image
from typer import Context
from typer.core import TyperCommand as Command

from sweep.cli.parser import COMMANDS
from sweep.cli.shared_options import complete_run
from sweep.record import FolderLock
from tests.cli.conftest import SMALL, Answer, Sweep, write_experiment, write_photo_and_experiment
from tests.support.ports import free_port

NAMES = list(COMMANDS)


def records(text: str) -> list[dict[str, str]]:
    """The rows of a CSV."""
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("arguments", [(), *((name,) for name in NAMES)], ids=["sweep", *NAMES])
def test_every_command_helps_within_eighty_columns(arguments: tuple[str, ...], sweep: Sweep) -> None:
    answer = sweep(*arguments, "--help")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith("Usage: sweep")
    assert max(map(len, answer.out.splitlines())) <= 80
    assert " range>" not in answer.out


def test_help_lists_every_command_with_a_sentence(sweep: Sweep) -> None:
    told = sweep("--help").out.split("Commands:\n")[1].split("\n\n")[0]
    assert [line.split()[0] for line in told.splitlines()] == NAMES
    assert all(line.endswith(".") and not line.endswith("...") for line in told.splitlines())


def test_sweep_without_arguments_prints_help(sweep: Sweep) -> None:
    assert sweep() == sweep("--help")


@pytest.mark.parametrize("command", [("sandbox",), ("view", "small")], ids=["sandbox", "view"])
@pytest.mark.usefixtures("done")
def test_server_commands_report_a_taken_port(command: tuple[str, ...], sweep: Sweep) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        answer = sweep(*command, "--port", str(taken.getsockname()[1]))
    assert answer.code == 2
    assert re.fullmatch(
        r"(127\.0\.0\.1:|Port )\d+ cannot be used \(Address already in use\)\.\nChoose another --port\.\n", answer.err
    )


def test_h_is_help(sweep: Sweep) -> None:
    assert sweep("run", "-h") == sweep("run", "--help")


def test_version_prints_the_version(sweep: Sweep) -> None:
    assert re.fullmatch(r"sweep \d+\.\d+\.\d+\S*\n", sweep("--version").out)


def test_schema_prints_json_schema(sweep: Sweep) -> None:
    assert "axes" in json.loads(sweep("schema").out)["properties"]


@pytest.mark.usefixtures("home")
class TestRun:
    def test_a_first_run_a_second_and_one_with_more_points(self, sweep: Sweep, home: Path) -> None:
        first = sweep("run", "small.yaml")
        assert first.code == 0
        assert first.err.splitlines()[0] == "small  12 points  (sandbox: painted images, not diffusion)"
        folder = Path("results", "small")
        assert f"  table   {folder / 'results.csv'}\n" in first.out
        assert f"  report  {folder / 'report.html'}\n" in first.out
        assert (home / folder / "report.html").stat().st_size > 10_000
        assert re.search(r"^denoise_strength  0\.2 +4 +\d\.\d\d +-?\d\.\d\d", first.out, re.MULTILINE)
        assert "12 of 12 rendered in " in first.out
        again = sweep("run", "small.yaml")
        assert (again.code, again.out.splitlines()[0]) == (0, "12 of 12 done already; nothing to render.")
        more = sweep("run", "small.yaml", "--set", "axes.variation=[oil, chalk]", "--no-report")
        assert "12 points · 6 already done" in more.err
        assert f"The report is older than this run: sweep report {folder} updates it." in more.out
        assert "6 earlier points of another definition or model: kept, not shown. sweep" in more.out
        assert len(records(sweep("table", "small").out)) == 12
        assert len(records(sweep("table", "small", "--all").out)) == 18

    def test_a_single_point(self, sweep: Sweep, home: Path) -> None:
        write_experiment(home / "one.yaml", name="one", axes=None)
        answer = sweep("run", "one.yaml")
        assert (answer.code, answer.err.splitlines()[0].split("  ")[1]) == (0, "1 point")
        assert answer.out.startswith("There is no seed axis, so values have no intervals")
        assert "\n1 of 1 rendered in " in answer.out
        studied = sweep("study", "one").out
        assert studied.startswith("one  1 image · compared with the source\n")
        assert "Only one combination of settings was rendered" in studied
        assert sweep("plan", "one.yaml").out.splitlines()[3].strip() == "points     1     done 1     new 0"

    def test_parts_of_a_grid_make_the_whole_also_fused(self, sweep: Sweep) -> None:
        parts = [sweep("run", "small.yaml", "--shard", f"{k}/2", "--fuse", "6", "--no-report") for k in (1, 2)]
        assert {part.code for part in parts} == {0}
        rows = records(sweep("table", "small").out)
        assert len({row["sha256"] for row in rows}) == len(rows) == 12

    def test_failures_are_rows_and_are_tried_again(self, sweep: Sweep, hostile: str) -> None:
        failed = sweep("run", "small.yaml", "-s", hostile, "--attempts", "1", "--no-report")
        assert failed.code == 1
        assert "0 of 12 rendered" in failed.out
        assert re.search(r"1[0-2] failed \(OutOfMemoryError: ", failed.out)  # ten alike end the run
        assert "To try them again, add --retry-failed" in " ".join(failed.out.split())
        assert {row["status"] for row in records(sweep("table", "small").out)} == {"failed"}
        assert "last run     stopped: too many failures at 20" in sweep("status", "small").out
        assert sweep("run", "small.yaml", "--no-report").code == 1
        mended = sweep("run", "small.yaml", "--retry-failed", "--no-report")
        assert mended.code == 0
        assert "12 of 12" in mended.out

    def test_a_folder_in_use(self, sweep: Sweep, done: Path) -> None:
        with FolderLock(done):
            answer = sweep("run", "small.yaml")
            assert "results/small is in use by process" in answer.err
            assert "going on: process" in sweep("status", "small").out
            asked = sweep("stop", "small")
        assert (answer.code, asked.code) == (4, 0)

    @pytest.mark.slow
    def test_a_full_disk_ends_it_and_room_lets_it_go_on(self, sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
        real, written = os.fsync, []

        def full(file: int) -> None:
            if stat.S_ISREG(os.fstat(file).st_mode):
                written.append(file)
                if len(written) > 6:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(file)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            answer = sweep("run", "small.yaml", "--concurrency", "1", "--no-report")
        assert answer.code == 4
        assert "no space is left on the device" in answer.err
        before = len(records(sweep("table", "small").out))
        assert 0 < before < 12
        after = sweep("run", "small.yaml", "--no-report")
        assert f"{before} already done" in after.err
        assert after.code == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names there are Unicode")
def test_run_works_in_a_folder_with_undecodable_name(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    monkeypatch.chdir(folder)
    write_photo_and_experiment(folder)
    assert sweep("run", "small.yaml").code == 0
    assert sweep("run", "small.yaml").out.startswith("12 of 12 done already; nothing to render.")
    assert sweep("verify", "small").code == 0
    monkeypatch.chdir(tmp_path)
    assert sweep("report", folder / "results" / "small", "-o", "page.html").code == 0


@pytest.mark.usefixtures("home")
@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names there are Unicode")
def test_an_image_whose_name_is_not_utf8_is_refused(sweep: Sweep, home: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    (home / "w.json").write_text(
        (Path(__file__).parents[2] / "experiments" / "photo_restyle.json").read_text(encoding="utf-8")
    )
    for words in (("plan", "img2img", "--axis", "seed=1,2"), ("init", "w.json")):
        answer = sweep(*words, "--image", name)
        assert (answer.code, answer.err.splitlines()[0]) == (
            2,
            r"--image caf\xe9.png: the file name is not UTF-8.",
        ), words
    assert "--prompt" in sweep("plan", "img2img", "--prompt", os.fsdecode(b"\xe9")).err


@pytest.mark.usefixtures("home")
class TestPlan:
    def test_says_what_a_run_would_do_and_does_not(self, sweep: Sweep, home: Path) -> None:
        answer = sweep("plan", "small.yaml")
        assert answer.code == 0
        lines = [line.rstrip() for line in answer.out.splitlines()]
        assert lines[0] == "small — How much of a gradient survives?"
        assert "  points     12 = 3 × 2 × 2     done 0     new 12" in lines
        assert "  axes       denoise_strength  3   0.2, 0.5, 0.8" in lines
        assert max(map(len, lines)) <= 110
        assert not (home / "results").exists()

    @pytest.mark.usefixtures("done")
    def test_as_json(self, sweep: Sweep) -> None:
        found = json.loads(sweep("plan", "small.yaml", "--json").out)
        assert (found["points"], found["done"], found["new"]) == (12, 12, 0)

    def test_numbers_are_short_and_stand_under_each_other(self, sweep: Sweep, home: Path) -> None:
        axes = {"cfg_scale": {"start": 1, "stop": 10, "num": 1000}, "seed": {"start": 1, "count": 7}}
        write_experiment(home / "many.yaml", axes=axes)
        lines = sweep("plan", "many.yaml").out.splitlines()
        assert "  axes       cfg_scale  1,000   1, 1.00901 … 10" in lines
        assert "             seed           7   1, 2 … 7" in lines
        assert "  points     7,000 = 1,000 × 7     done 0     new 7,000" in lines
        write_experiment(home / "many.yaml", axes={"vae": [None], "seed": [1, 2]})
        assert "  axes       vae   1   none" in sweep("plan", "many.yaml").out.splitlines()
        write_experiment(home / "many.yaml", axes={"seed": [1, 2]})
        assert "  points     2     done 0     new 2" in sweep("plan", "many.yaml").out.splitlines()

    def test_long_values_are_cut_and_lines_are_broken(self, sweep: Sweep, home: Path) -> None:
        write_experiment(
            home / "long.yaml", axes={"variation": ["words " * 60, "b\nc", "d", "e", "f"], "seed": {"count": 3}}
        )
        lines = sweep("plan", "long.yaml").out.splitlines()
        assert max(len(line) for line in lines if "first" not in line) <= 110
        assert any("drawn at random by the first run" in line for line in lines)
        assert sum(line.endswith("seed drawn at random") for line in lines) == 2  # the first and the last point

    def test_many_source_images_are_shortened(self, sweep: Sweep, home: Path) -> None:
        for number in range(40):
            Image.new("RGB", (64, 64), (number, 0, 0)).save(f"p{number:02}.png")
        write_experiment(home / "shop.yaml", inputs={"prompt": "a"}, axes={"image": {"images": "p??.png"}})
        lines = sweep("plan", "shop.yaml").out.splitlines()
        shown = [line.split()[-2] for line in lines if line.endswith("64×64")]
        assert shown == ["p00.png", "p01.png", "p39.png"]
        assert "             … 37 more" in lines


@pytest.mark.usefixtures("done")
class TestAfterwards:
    def test_status(self, sweep: Sweep, done: Path) -> None:
        assert sweep("status", "small").out.splitlines()[0] == "small  12/12 done  100 %"
        assert sweep("status", done).out == sweep("status", "small.yaml").out
        found = json.loads(sweep("status", "small", "--json").out)
        assert (found["completed"], found["pending"], found["run"][:9]) == (12, 0, "completed")

    def test_status_of_every_run(self, sweep: Sweep, done: Path) -> None:
        sweep("run", "small.yaml", "--set", "name=other", "--shard", "1/2", "--no-report")
        told = sweep("status")
        lines = [line.split() for line in told.out.splitlines()]
        assert [line[0] for line in lines] == ["other", "small"]
        assert lines[1][1:5] == ["12/12", "100", "%", "completed"]
        found = json.loads(sweep("status", "--json").out)
        assert [each["folder"] for each in found] == ["results/other", "results/small"]
        (done / "journal.sqlite").write_bytes(b"no database")
        damaged = sweep("status")
        assert (damaged.code, damaged.out.split()[0]) == (4, "other")
        assert "small/journal.sqlite is damaged" in damaged.err

    def test_names_of_runs_are_offered_to_the_shell(self, done: Path) -> None:
        context = Context(Command("status"))
        context.params["results"] = done.parent
        assert (complete_run(context, "sm"), complete_run(context, "x")) == (["small"], [])

    def test_table_in_every_format(self, sweep: Sweep) -> None:
        rows = records(sweep("table", "small").out)
        assert [row["seed"] for row in rows[:2]] == ["42", "43"]
        assert [row["seed"] for row in json.loads(sweep("table", "small", "-f", "json").out)[:2]] == [42, 43]
        assert sweep("table", "small", "-f", "md").out.startswith("| index | key |")
        assert sweep("table", "small", "-f", "parquet").code == 2
        assert sweep("table", "small", "-f", "parquet", "-o", "t.parquet").out == ""
        assert str(pd.read_parquet("t.parquet")["seed"].dtype) == "Int64"
        sweep("table", "small", "-o", "t.csv")
        assert records(Path("t.csv").read_text()) == rows
        sweep("table", "small", "-o", "u.parquet")  # as the file ends
        assert len(pd.read_parquet("u.parquet")) == 12
        sweep("table", "small", "-o", "t.json")
        assert len(json.loads(Path("t.json").read_text())) == 12
        sweep("table", "small", "-o", "t.data", "-f", "csv")
        assert records(Path("t.data").read_text()) == rows

    def test_table_file_is_what_its_name_says(self, sweep: Sweep) -> None:
        names = ("t", "t.xls", "t.pqt")
        for arguments in (*(("-o", name) for name in names), ("-o", "t.md", "-f", "csv"), ("-o", "t.xls", "-f", "csv")):
            answer = sweep("table", "small", *arguments)
            assert (answer.code, answer.out) == (2, ""), arguments
            assert arguments[1] in answer.err
            assert not Path(arguments[1]).exists()

    def test_table_for_excel(self, sweep: Sweep, home: Path) -> None:
        write_experiment(home / "sum.yaml", name="sum", axes={"variation": ["=1+1", "ink"]})
        assert sweep("run", "sum.yaml", "--no-report").code == 0
        assert sweep("table", "sum", "-f", "excel", "-o", "t.csv").code == 0
        text = Path("t.csv").read_text(encoding="utf-8")
        assert text.startswith("\ufeffindex,")
        assert ",'=1+1," in text
        assert sweep("table", "sum", "-o", "t.xlsx").code == 0
        with ZipFile("t.xlsx") as book:
            sheet = book.read("xl/worksheets/sheet1.xml").decode()
        assert "<t>=1+1</t>" in sheet
        assert "<f>" not in sheet

    def test_table_where(self, sweep: Sweep) -> None:
        chosen = records(sweep("table", "small", "--where", "denoise_strength > 0.4 and seed == 42").out)
        assert [(row["denoise_strength"], row["seed"]) for row in chosen] == [("0.5", "42")] * 2 + [("0.8", "42")] * 2
        wrong = sweep("table", "small", "--where", "sed == 4")
        assert wrong == Answer(2, "", "where, character 1: there is no column named sed. Did you mean seed?\n")

    def test_study(self, sweep: Sweep) -> None:
        answer = sweep("study", "small", "-o", "numbers")
        assert answer.code == 0
        assert "Order of the axes by how much they explain" in answer.out
        assert Path("numbers", "study.json").is_file()
        assert len(sweep("study", "small", "--all").out) > len(answer.out)
        assert json.loads(sweep("study", "small", "--json").out)["name"] == "small"
        assert "Did you mean ssim?" in sweep("study", "small", "-m", "sim").err

    def test_report_and_compare(self, sweep: Sweep) -> None:
        assert sweep("report", "small").out == f"{Path('results', 'small', 'report.html')}\n"
        assert sweep("report", "small", "-o", "page.html").out == "page.html\n"
        answer = sweep("compare", "small", "small", "-o", "both.html")
        assert answer.out.splitlines()[0].startswith("Of 12 points in both runs, 12 have the same image file")
        assert Path("both.html").is_file()
        page = Path("results", "compare-small-small.html")
        assert sweep("compare", "small", "small").out.endswith(f"\n{page}\n")

    @pytest.mark.slow
    def test_report_names_no_folder_of_the_author(self, sweep: Sweep, home: Path) -> None:
        assert sweep("run", home / "small.yaml", "--set", "inputs.steps=5").code == 0
        page = Path("results", "small", "report.html").read_text(encoding="utf-8")
        assert str(home) not in page
        assert str(home.parent) not in page

    def test_a_damaged_folder_has_a_report_and_the_exit_code_says_so(self, sweep: Sweep, done: Path) -> None:
        (done / "report.html").unlink()
        (done / "journal.sqlite").write_bytes(b"no database")
        answer = sweep("report", "small")
        assert answer.code == 4
        assert (done / "report.html").is_file()

    @pytest.mark.parametrize(
        ("arguments", "file"),
        [
            (("--x", "denoise_strength", "--y", "variation"), "sheet.png"),
            (("--x", "seed"), "sheet.webp"),
            ((), "whole.png"),
            (("--animate", "denoise_strength"), "moving.gif"),
            (("--filmstrip", "denoise_strength", "--metric", "ssim"), "strip.jpg"),
            (("--x", "seed", "--fix", "variation=ink", "--size", "32"), "fixed.png"),
        ],
    )
    def test_sheets(self, arguments: tuple[str, ...], file: str, sweep: Sweep) -> None:
        answer = sweep("sheet", "small", *arguments, "-o", file)
        assert (answer.code, answer.out) == (0, f"{file}\n")
        assert Path(file).stat().st_size > 500

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (("--x", "seed", "--animate", "seed"), "A sheet takes only one of --x, --animate and --filmstrip."),
            (("--x", "sed"), "Did you mean seed?"),
            (("--x", "seed", "--fix", "variation"), "--fix variation has no value."),
            (("--x", "seed", "-o", "a.bmp"), "a.bmp: sweep cannot write .bmp files here."),
        ],
    )
    def test_no_sheet(self, arguments: tuple[str, ...], says: str, sweep: Sweep) -> None:
        answer = sweep("sheet", "small", *arguments)
        assert answer.code == 2
        assert says in answer.err

    @pytest.mark.slow
    def test_verify_and_repair(self, sweep: Sweep, done: Path) -> None:
        assert sweep("verify", "small").out == "small: all files and rows are intact.\n"
        image = sorted((done / "images").iterdir())[3]
        image.write_bytes(image.read_bytes()[:200])
        assert json.loads(sweep("verify", "small", "--json").out)[0]["path"].startswith("images/")
        found = sweep("verify", "small")
        assert (found.code, "truncated" in found.out, "--repair" in found.out) == (4, True, True)
        mended = sweep("verify", "small", "--repair")
        assert (mended.code, "1 point will be rendered again" in mended.out) == (0, True)
        assert "11 already done" in mended.err
        assert "12 of 12" in mended.out
        assert sweep("verify", "small").code == 0

    def test_repair_as_json_prints_nothing_but_the_findings(self, sweep: Sweep, done: Path) -> None:
        min((done / "images").iterdir()).unlink()
        mended = sweep("verify", "small", "--repair", "--json")
        assert (mended.code, [each["fault"] for each in json.loads(mended.out)], mended.err) == (0, ["missing"], "")
        assert sweep("verify", "small").code == 0

    def test_repair_that_needs_a_server_is_not_done(
        self, sweep: Sweep, done: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sweep.cli.housekeeping.was_painted", lambda _: False)  # as if it were of a real server
        min((done / "images").iterdir()).unlink()
        told = sweep("verify", "small", "--repair")
        assert (told.code, "add --server URL" in told.out) == (4, True)

    def test_what_cannot_be_rendered_again_stays_wrong(self, sweep: Sweep, done: Path) -> None:
        (done / "images" / "stray.png").write_bytes(b"nobody's")
        told = sweep("verify", "small", "--repair")
        assert (told.code, "stray.png" in told.out, told.out.splitlines()[-1]) == (4, True, "1 problem.")

    @pytest.mark.parametrize("command", ["stop", "cancel"])
    def test_nothing_to_stop(self, command: str, sweep: Sweep) -> None:
        answer = sweep(command, "small")
        assert answer.code == 2
        assert "Nothing is running in" in answer.err


class TestWorkflows:
    @pytest.fixture
    def image(self, done: Path) -> Path:
        return min((done / "images").iterdir())

    def test_an_image_is_inspected(self, sweep: Sweep, image: Path) -> None:
        answer = sweep("inspect", image)
        assert answer.code == 0
        assert re.search(r"^  denoise_strength +denoise\.denoising_start", answer.out, re.MULTILINE)
        found = json.loads(sweep("inspect", image, "--json").out)
        assert found["roles"]["seed"] == ["noise.seed"]

    def test_a_first_experiment_is_written_and_plans(self, sweep: Sweep, image: Path) -> None:
        told = sweep("init", image, "-o", "first.yaml", "--image", "photo.png")
        assert told.out == "Wrote first.yaml. sweep plan first.yaml shows what it would do.\n"
        assert sweep("plan", "first.yaml").code == 0
        again = sweep("init", image, "-o", "first.yaml")
        assert (again.code, "first.yaml exists already." in again.err) == (2, True)


def parse_json(answer: Answer) -> Any:
    """The one JSON object on stdout."""
    return json.loads(answer.out)


def test_plan_uses_models_of_the_server(sweep: Sweep, home: Path, named: str) -> None:
    inputs = {**SMALL["inputs"], "model": "tiny-sd"}
    write_experiment(home / "tiny.yaml", inputs=inputs)
    answer = sweep("plan", "tiny.yaml", "-s", named, "--json")
    assert parse_json(answer)["models"] == ["tiny-sd"]


@pytest.mark.usefixtures("home")
def test_plan_says_which_server_does_not_answer(sweep: Sweep, named: str) -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    answer = sweep("plan", "small.yaml", "-s", named, "-s", gone)
    assert (answer.code, "does not answer (connection refused)" in answer.err) == (0, True)
    assert sweep("plan", "small.yaml", "-s", named, "-s", gone, "--quiet") == Answer(0, "", "")
