"""Durations, sizes and wrapped text."""

from __future__ import annotations

import io
import json
import sys

import pytest

from sweep.cli.console import (
    MeasuringBar,
    console,
    fill_lines,
    format_clock,
    print_error,
    print_json,
    print_line,
    print_notice,
)
from sweep.errors import SweepError
from sweep.text import format_seconds, format_size


def test_format_seconds() -> None:
    cases = [(0.84, "0.8 s"), (12.2, "12 s"), (171, "2 min 51 s"), (11100, "3 h 05 min")]
    assert [format_seconds(seconds) for seconds, _ in cases] == [text for _, text in cases]


def test_clock_text_and_format_size() -> None:
    assert [format_clock(value) for value in (82, 7384, -1)] == ["1:22", "2:03:04", "0:00"]
    assert [format_size(value) for value in (12, 61e6, 1.4e9, 2e12)] == ["12 B", "61 MB", "1.4 GB", "2.0 TB"]
    assert format_size(19.6e15) == "19.6 PB"


def test_fill_lines_keeps_per_cent_signs_with_their_number() -> None:
    for width in range(12, 40):
        assert not any(
            line.startswith("%") for line in fill_lines("explains 94 % of the variance and 3 % of it", width=width)
        )


def test_a_pipe_gets_each_line_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address of a sandbox is its only line: whoever waits for it would wait for ever."""
    pipe = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(pipe), encoding="utf-8"))
    print_line("http://127.0.0.1:9091")
    assert pipe.getvalue() == b"http://127.0.0.1:9091\n"


def test_measuring_says_the_time_left_every_ten_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    for clock in ("time.monotonic", "rich.console.monotonic"):
        monkeypatch.setattr(clock, lambda: now[0])
    with MeasuringBar() as count:
        for done in range(101):
            now[0] = done / 2
            count(done, 100)
    told = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in told] == ["20/100", "40/100", "60/100", "80/100"]
    assert told[0] == "  measuring 20/100  0:40 left"


def test_nothing_printed_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "title \x1b]0;x\x07 clear \x1b[2J C1 \x9b2J turn \u202e mark \u200f \u061c line \u2028 return \r"
    print_line(hostile)
    print_notice(hostile)
    print_error(SweepError(hostile, hint=hostile))
    console().print(hostile)
    print_json({"name": hostile})
    shown = capsys.readouterr()
    for sign in "\x1b\x07\x9b\u202e\u200f\u061c\u2028\r":
        assert sign not in shown.out + shown.err
    assert "title \\x1b]0;x\\x07" in shown.out
    assert json.loads(shown.out.splitlines()[-1]) == {"name": hostile}
