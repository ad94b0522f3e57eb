"""What `sweep study` prints, in terminals of any width."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from sweep.cli.shared_options import ChosenRun
from sweep.cli.study import MeasuringOptions, share_tables, write_caption
from sweep.cli.study import study_command as command
from sweep.study.study import Study, make_study
from tests.support.planted_studies import AXES, planted

LONG = "an_axis_with_quite_a_long_name"


def made(*, seeds: int = 4, extra: bool = False) -> Study:
    frame = planted(np.random.default_rng(1), seeds=seeds)
    axes = [*AXES, *([(LONG, "integer")] if extra else [])]
    if extra:
        frame = frame.merge(frame[["seed"]].drop_duplicates().assign(**{LONG: 1}), on="seed")
        frame[LONG] += np.arange(len(frame)) % 2
    return make_study(frame, axes=axes, metrics=["structure_coarse"])


def printed(found: Study, width: int) -> list[str]:
    stream = io.StringIO()
    screen = Console(file=stream, width=width, highlight=False, markup=False)
    for table in share_tables(found.data, width):
        screen.print(table)
    return stream.getvalue().splitlines()


def test_a_share_stands_without_an_interval() -> None:
    found = made()
    share = found.data["effects"][0]["shares"][0]["share"]

    head, line = printed(found, 80)

    assert head.split() == ["denoise_strength", "prompt_text", "seed", "else"]
    assert f" {100 * (share['value'] or 0):.0f} " in line
    assert write_caption(found.data).endswith("explains (noise of seeds taken out; no intervals)")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_every_axis_is_shown_whole_at_any_width(width: int) -> None:
    lines = printed(made(extra=True), width)

    assert all(len(line.rstrip()) <= width for line in lines)
    text = " ".join(lines)
    assert all(name in text for name in ("denoise_strength", "prompt_text", "seed", "else"))
    assert LONG in text
    assert "nan" not in text


def test_below_four_seeds_the_order_of_axes_is_shown() -> None:
    found = made(seeds=3)

    assert write_caption(found.data) == (
        "Order of the axes by how much they explain "
        "(below 4 seeds or 16 combinations sizes and further places are not sure)"
    )
    assert printed(found, 80)[1].split()[-3:] == ["1.", "2.", "3."]


def test_what_was_not_split_has_no_table() -> None:
    frame = planted(np.random.default_rng(1)).assign(structure_coarse=0.5)

    assert share_tables(make_study(frame, axes=AXES, metrics=["structure_coarse"]).data, 80) == []


def test_limits_are_printed_and_the_rest_is_announced(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for image in sorted(results.glob("images/*.png"))[:2]:  # two of a cell of three: the last has no others
        image.write_bytes(b"")

    command(ChosenRun(run=str(results)), MeasuringOptions(workers=0))

    out = " ".join(capsys.readouterr().out.split())
    assert out.startswith(
        "a study 30 images · 3 seeds · compared with the source Use denoise strength 0.25 or less: layout of"
    )
    assert (
        "3 images lack a metric; the first reason: 00000.png is not a complete image (cannot identify image file)."
        in out
    )
    assert f"more findings: sweep study '{results}' --all" in out


def test_all_sentences_stand_below_what_they_are_about(
    measured_results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command(ChosenRun(run=str(measured_results)), MeasuringOptions(workers=0), everything=True)

    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "layout of light and dark"
    assert lines[3].startswith("  Use denoise strength 0")
    assert "SSIM" in lines
    assert any(line.startswith("Three seeds cannot show whether") for line in lines)
