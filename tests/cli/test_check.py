"""`sweep check`: requirements of a run, as text, as JSON and as a JUnit report."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from sweep.requirements import CheckResult, write_junit
from tests.cli.conftest import Sweep, write_experiment

pytestmark = pytest.mark.usefixtures("done")


def test_check_passes_if_every_requirement_is_met(sweep: Sweep) -> None:
    answer = sweep("check", "small", "--require", "failed == 0", "--require", "ssim > -1 where seed == 42")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == "✓ failed == 0\n✓ ssim > -1 where seed == 42\n"
    assert sweep("check", "small", "--require", "failed == 0", "--quiet").out == ""


def test_check_lists_the_rows_that_miss_a_requirement(sweep: Sweep) -> None:
    answer = sweep("check", "small", "--require", "ssim > 2 where denoise_strength <= 0.2", "--require", "points == 13")
    assert answer.code == 1
    lines = answer.out.splitlines()
    assert lines[0] == "✗ ssim > 2 where denoise_strength <= 0.2: 4 of 4 images miss it"
    assert lines[1].startswith("    0000  denoise_strength 0.2 · variation oil · seed 42   ssim 0.")
    assert lines[5:] == ["✗ points == 13: points is 12"]


def test_check_prints_json(sweep: Sweep) -> None:
    answer = sweep("check", "small", "--require", "ssim > 2 where seed == 42", "--json")
    found = json.loads(answer.out)
    assert (answer.code, found["schema"], found["state"], found["folder"]) == (
        1,
        "sweep.check/1",
        "failed",
        "results/small",
    )
    (requirement,) = found["requirements"]
    assert (requirement["is_met"], requirement["tested"], len(requirement["missed"])) == (False, 6, 6)
    assert requirement["missed"][0]["index"] == 0
    assert requirement["missed"][0]["image_path"].startswith("images/")


def test_check_writes_junit(sweep: Sweep, home: Path) -> None:
    sweep("check", "small", "--require", "failed == 0", "--require", "ssim > 2", "--junit", "out.xml")
    suite = ElementTree.fromstring((home / "out.xml").read_text(encoding="utf-8"))
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    cases = suite.findall("testcase")
    assert [case.get("name") for case in cases] == ["failed == 0", "ssim > 2"]
    failure = cases[1].find("failure")
    assert failure is not None
    assert failure.get("message") == "12 of 12 images miss it"
    assert len((failure.text or "").splitlines()) == 12


def test_check_measures_metrics_first(sweep: Sweep, home: Path) -> None:
    write_experiment(home / "new.yaml", name="new", axes={"seed": [1, 2]})
    assert sweep("run", "new.yaml", "--no-report").code == 0
    answer = sweep("check", "new", "--require", "sharpness >= 0")
    assert (answer.code, answer.out) == (0, "✓ sharpness >= 0\n")


def test_check_tests_failed_rows(sweep: Sweep, hostile: str) -> None:
    sweep("run", "small.yaml", "--set", "name=bad", "--set", "axes.variation=[oil]", "-s", hostile, "--attempts", "1")
    answer = sweep("check", "bad", "--require", "failed == 0", "--require", 'status == "completed"')
    lines = answer.out.splitlines()
    assert (answer.code, lines[0]) == (1, "✗ failed == 0: failed is 6")
    assert lines[1].endswith("6 of 6 rows miss it")


def test_the_word_where_in_a_value_divides_nothing(sweep: Sweep) -> None:
    condition = 'variation != "a place where cats live"'
    for requirement, tested in ((condition, 12), (f"{condition} where seed == 42", 6)):
        found = json.loads(sweep("check", "small", "--require", requirement, "--json").out)
        assert [(each["is_met"], each["tested"]) for each in found["requirements"]] == [(True, tested)]


def test_a_junit_report_of_a_folder_that_is_no_utf8_can_be_written() -> None:
    result = CheckResult(requirement="failed == 0", is_met=True, tested=1, summary="")
    assert b'name="caf"' in write_junit([result], "caf\udce9", []).encode("utf-8")


def test_check_of_no_image_fails(sweep: Sweep) -> None:
    empty = sweep("check", "small", "--require", "ssim >= 0 where seed == 7")
    assert (empty.code, empty.out) == (1, "✗ ssim >= 0 where seed == 7: no image to test\n")
