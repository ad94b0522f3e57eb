"""How a run reports its progress: counts, lines, and their order."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from rich.console import Console

from sweep.cli import run_display
from sweep.cli.run_display import describe_event, describe_server, progress, write_counts
from sweep.engine import RunProgress, events
from sweep.study import make_study

STARTED = events.RunStarted(
    experiment="night", points=132, done=12, failed=1, former=0, servers=("gpu1", "gpu2"), sandbox=False, folder="f"
)


def completed(key: str, server: str = "gpu1") -> events.Completed:
    return events.Completed(key=key, index=0, server=server, values={}, paths=(), seconds=1.0)


def failed(value: str = "oil") -> events.Failed:
    values: dict[str, str | float] = {"denoise_strength": 0.4, "variation": value}
    return events.Failed(key="k", index=7, server=None, values=values, error="ValueError: sizes differ")


def test_a_value_that_is_empty_or_missing_is_shown() -> None:
    values: dict[str, str | None] = {"negative_prompt": "", "lora": None}
    event = events.Failed(key="k", index=7, server=None, values=values, error="ValueError: sizes differ")
    assert describe_event(event) == '  failed  negative_prompt "" · lora none: ValueError: sizes differ'


@pytest.mark.parametrize("width", [40, 60, 80])
def test_the_table_of_a_run_fits_a_narrow_terminal(done: Path, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_display, "choose_text_width", lambda: width)
    table = run_display.build_marginal_table(done, make_study(done).to_json())
    assert table is not None
    console = Console(width=width, file=(shown := io.StringIO()))
    console.print(table)
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert any("done  s/image" in line for line in lines)
    assert len({len(line.rstrip()) for line in lines[1:]}) == 1  # numbers are whole, and stand under each other


def test_rates_and_time_left_use_the_last_minute() -> None:
    tally = RunProgress()
    tally.take(STARTED, 0.0)
    for second in range(1, 121):
        if second <= 60 or second % 2 == 0:  # slower in the second minute
            tally.take(completed(str(second)), float(second))
    assert tally.servers["gpu1"].measure_rate(120.0, 0.0) == pytest.approx(0.5, abs=0.02)
    assert describe_server(tally.servers["gpu1"], tally, 120.0) == "0 running    30/min"
    assert tally.done == 102
    assert write_counts(tally, 120.0) == "102/132  77 %  1 failed  0:57 left"


def test_server_text_shows_rates_below_one_a_minute_per_hour() -> None:
    tally = RunProgress()
    tally.take(STARTED, 0.0)
    for hour in (1, 2, 3):
        tally.take(completed(str(hour)), hour * 3600.0)
    assert describe_server(tally.servers["gpu1"], tally, 3 * 3600.0) == "0 running     1/h"


def test_count_text_and_server_text_follow_events() -> None:
    tally = RunProgress()
    tally.take(STARTED, 0.0)
    assert write_counts(tally, 0.0) == "12/132  9 %  1 failed"
    tally.take(events.Submitted(key="a", index=0, server="gpu1", attempt=1), 1.0)
    tally.take(events.Submitted(key="b", index=1, server="gpu1", attempt=1), 1.0)
    tally.take(events.Retrying(key="b", index=1, server="gpu1", attempt=1, delay=1.0, error="lost"), 1.5)
    assert describe_server(tally.servers["gpu1"], tally, 2.0).startswith("1 running")
    tally.take(events.Submitted(key="a", index=0, server="gpu2", attempt=1), 1.8)  # gpu1 had no room for it
    assert describe_server(tally.servers["gpu1"], tally, 2.0).startswith("0 running")
    tally.take(events.ServerChanged(server="gpu2", state="left", reason="does not answer"), 2.0)
    assert describe_server(tally.servers["gpu2"], tally, 2.0) == "away: does not answer"
    tally.take(events.Stopping(stage=1, in_flight=1), 3.0)
    assert write_counts(tally, 3.0).endswith("stopping")


def test_describe_event() -> None:
    assert describe_event(STARTED) == "night  132 points · 12 already done · 1 failed earlier"
    assert describe_event(failed()) == "  failed  denoise_strength 0.4 · variation oil: ValueError: sizes differ"
    assert len(describe_event(failed("word " * 100))) < 120
    assert describe_event(completed("k")) == ""


@pytest.mark.parametrize("style", ["plain", "rich"])
def test_progress_shows_what_a_run_waits_for_before_it_starts(style: str, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("rich" if style == "rich" else "plain") as display:
        display(events.Notice(message="Waiting for gpu3 to say who it is."))
        assert capsys.readouterr().err.strip() == "Waiting for gpu3 to say who it is."
        display(STARTED)
        display(failed())
    told = [line.strip() for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert told[0].startswith("night  132 points")
    assert told[1].startswith("failed")


def test_bar_progress_shortens_retries_but_not_failures(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    error = "OutOfMemoryError: CUDA out of memory while denoising"
    with progress("rich") as display:
        display(STARTED)
        display(events.Retrying(key="k", index=7, server="gpu1", attempt=1, delay=0.5, error=error))
        display(dataclasses.replace(failed(), error=error))
    told = capsys.readouterr().err.splitlines()
    assert told[1] == "  retrying point 7 in 0.5 s (gpu1: OutOfMemoryError: CUDA o…"
    assert " ".join(line.strip() for line in told[2:]).endswith(error)


def test_line_progress_lists_ten_failures_then_only_counts(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("plain") as display:
        display(STARTED)
        for _ in range(500):
            display(failed())
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1 + 10 + 1
    assert told[-1] == "  further failures are only counted here; the table lists each with its error"
