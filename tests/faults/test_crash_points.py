"""The client kills itself at every named point; the same command again loses nothing and renders nothing twice.

What was rendered is counted by the server.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sweep.engine.attempt import ENGINE_POINTS
from tests.support.crash_points import IMAGE_POINTS, JOURNAL_OPERATIONS, JOURNAL_POINTS
from tests.support.processes import Bench, SandboxProcess

ONCE = {
    "begin_run",
    "end_run",
    "seeds",
    "reopen",
    "keep_input",
    "keep_uploads",
}  # in a run of six points; the others for each
ELSEWHERE = {"mark_attempt_failed", "withdraw", "fail", "cancel"}  # not in a run where all goes well


UNUSED = {"rebase"}  # only for points of one key, which no plan of this size has


def points() -> Iterator[str]:
    """Every point of a run where all goes well."""
    return (
        p for p in (*JOURNAL_POINTS, *IMAGE_POINTS, *ENGINE_POINTS) if p.partition(".")[0] not in ELSEWHERE | UNUSED
    )


def repeated() -> Iterator[str]:
    """Those that come once an image."""
    return (point for point in points() if point.partition(".")[0] not in ONCE)


@pytest.fixture
def server(bench: Bench) -> Iterator[SandboxProcess]:
    sandbox = bench.sandbox()
    yield sandbox
    sandbox.kill()


def check_killed(bench: Bench, *servers: SandboxProcess, point: str, nth: int = 1, **order: Any) -> None:
    code, said = bench.run(*servers, point=point, nth=nth, **order)
    assert code == -9, f"never came to {point}: {code} {said} {bench.log()}"


def check_whole(bench: Bench, server: SandboxProcess, code: int = 0) -> None:
    """The same command again completes it: every row, every file, one render a key."""
    assert bench.run(server)[0] == code, bench.log()
    assert bench.statuses() == {"completed": 6}
    assert bench.results.verify() == []
    assert sorted(server.renders().values()) == [1] * 6
    assert {row["key"] for row in bench.results.rows()} == server.renders().keys()


@pytest.mark.slow
def test_killed_while_agents_write_the_images(bench: Bench, server: SandboxProcess) -> None:
    for point in ("attempt.fetched", "image.renamed", "image.folder-synced", "complete.before-commit"):
        check_killed(bench, server, point=point, sharing=True)
    check_whole(bench, server)
    images = bench.results.folder / "images"
    assert sorted(images.iterdir()) == sorted(images.glob("*.png"))


FIRST = sorted(set(points()) - set(repeated()))  # come once a run: each by itself
LIFE = (  # of an item. A client killed at the first item that comes to a step leaves all later steps to the next one
    *("intend.before-commit", "intend.after-commit", "attempt.intended", "attempt.taken"),
    *("mark_submitted.before-commit", "mark_submitted.after-commit"),
    *("attempt.ended", "mark_rendered.before-commit", "mark_rendered.after-commit", "attempt.fetched"),
    *IMAGE_POINTS,
    *("attempt.saved", "complete.before-commit", "complete.after-commit"),
)
CHAINS = [LIFE[start::6] for start in range(6)]  # one after the other on one sweep


@pytest.mark.slow
@pytest.mark.parametrize("point", FIRST)
def test_killed_at_a_point(bench: Bench, server: SandboxProcess, point: str) -> None:
    check_killed(bench, server, point=point)
    check_whole(bench, server)
    assert bench.results.counts().open == 0


@pytest.mark.slow
@pytest.mark.parametrize("chain", CHAINS, ids="+".join)
def test_killed_at_one_point_after_the_other(bench: Bench, server: SandboxProcess, chain: tuple[str, ...]) -> None:
    for point in chain:
        check_killed(bench, server, point=point)
    check_whole(bench, server)
    assert bench.results.counts().open == 0


@pytest.mark.full
@pytest.mark.parametrize("nth", [2, 4, 6])
@pytest.mark.parametrize("fuse", [1, 3])
@pytest.mark.parametrize("point", list(repeated()))
def test_killed_at_a_point_later(bench: Bench, server: SandboxProcess, point: str, fuse: int, nth: int) -> None:
    code, _ = bench.run(server, point=point, nth=nth, options={"fuse": fuse})
    assert code in (-9, 0)  # of items of several variations there are fewer
    check_whole(bench, server)


def test_every_point_is_tested() -> None:
    assert sorted(LIFE) == sorted(repeated())
    assert set(JOURNAL_OPERATIONS) >= ONCE | ELSEWHERE
    assert set(points()) | {f"{name}.{step}" for name in ELSEWHERE | UNUSED for step in STEPS} == {
        *JOURNAL_POINTS,
        *IMAGE_POINTS,
        *ENGINE_POINTS,
    }


STEPS = ("before-commit", "after-commit")


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_killed_while_an_edited_experiment_is_brought_in_step(bench: Bench, server: SandboxProcess, step: str) -> None:
    bench.definition["axes"] = {"denoise_strength": [0.2, 0.5], "seed": {"start": 7, "count": 2}}
    assert bench.run(server)[0] == 0
    bench.definition["axes"] = {"denoise_strength": [0.2, 0.5, 0.8], "seed": {"start": 7, "count": 2}}
    check_killed(bench, server, point=f"begin_run.{step}")
    check_whole(bench, server)


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("point", ["mark_attempt_failed", "withdraw"])
def test_killed_while_an_attempt_is_given_up(bench: Bench, point: str, step: str) -> None:
    fault = {"mark_attempt_failed": {"reset": 1.0}, "withdraw": {"error_503": 1.0, "retry_after": 0}}[point]
    faults = {**fault, "only": "enqueue_batch", "spare": 4, "most": 1}
    server = bench.sandbox(faults=faults)
    check_killed(bench, server, point=f"{point}.{step}")
    check_whole(bench, server)
    server.kill()


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_killed_while_a_failure_is_written(bench: Bench, step: str) -> None:
    bench.definition["axes"] = {"denoise_strength": [0.2, 0.5, 0.8], "seed": {"start": 42, "count": 3}}
    server = bench.sandbox(faults={"fail_rate": 0.7})  # of nine, none fails once in 50,000 runs of this test
    check_killed(bench, server, point=f"fail.{step}", options={"attempts": 1})
    assert bench.run(server, options={"attempts": 1})[0] == 1
    found = bench.statuses()
    assert found["failed"]
    assert found["failed"] + found.get("completed", 0) == 9
    assert sorted(server.renders().values()) == [1] * found.get("completed", 0)
    server.kill()


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_killed_while_a_cancellation_is_written(bench: Bench, step: str) -> None:
    server = bench.sandbox(latency=0.1)
    check_killed(bench, server, point=f"cancel.{step}", stop_at="Started")
    check_whole(bench, server)
    server.kill()


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_killed_while_damaged_images_are_forgotten(bench: Bench, server: SandboxProcess, step: str) -> None:
    assert bench.run(server)[0] == 0
    damaged = bench.results.folder / next(str(row["image_path"]) for row in bench.results.rows())
    damaged.write_bytes(damaged.read_bytes()[:-40])
    order: dict[str, Any] = {"folder": str(bench.results.folder), "point": f"reopen.{step}", "nth": 1}
    assert bench.zygote.wait(bench.zygote.start("repair", **order)[0])[0] == -9
    assert bench.zygote.wait(bench.zygote.start("repair", **{**order, "point": ""})[0])[0] == 0
    assert bench.run(server)[0] == 0
    assert bench.results.verify() == []
    assert sorted(server.renders().values()) == [1, 1, 1, 1, 1, 2]
